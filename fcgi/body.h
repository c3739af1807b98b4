/*
 * The body of a request: read to its end, checked as JSON while it arrives, its archive decoded
 * into a descriptor. Runs in a worker; memory is bounded by json_max_bytes, whatever the size of
 * the archive.
 */
#ifndef CGIBOX_BODY_H
#define CGIBOX_BODY_H

#include <json-c/json.h>
#include <stdbool.h>

#include "fcgi/http.h"
#include "fcgi/json_scan.h"
#include "isolate/conf.h"

enum { BODY_ECHO_MAX = 4096 };

enum body_form {
	BODY_EMPTY, /* no bytes, or the JSON value null */
	BODY_OBJECT,
	BODY_OTHER, /* JSON, but no object */
	BODY_TEXT,  /* not sent as JSON */
};

struct body {
	enum body_form form;
	struct json_object *doc; /* BODY_OBJECT, BODY_OTHER; the archive stands as "..." */
	struct json_scan scan;   /* what it found of the archive; scan.copy is the text of doc */
	int archive_fd;          /* unnamed file, at its start; -1: none, or an empty one */

	/* BODY_TEXT: the start, for the echo */
	char text[BODY_ECHO_MAX];
	size_t text_len;
	bool text_cut;
};

struct body_plan {
	bool keep;    /* false: check only and store nothing (no valid key) */
	bool archive; /* the member "archive" is wanted */
};

/*
 * Reads the whole body of rq. 0: see .form. -1: rs holds the answer: 422 for what is no JSON,
 * 413 over a limit, 400 when the body did not arrive as announced, 500; e tells the log. Call
 * body_clear() in any case.
 */
int body_read(struct body *b, struct http_request *rq, const struct conf *conf,
	const struct body_plan *plan, struct http_response *rs, struct err *e);
void body_clear(struct body *b);

/*
 * An unnamed file for what a client sends, on the disk of the state directory; -1.
 */
int body_spool(const struct conf *conf, struct err *e);

/* Reads what is left and drops it; -1 as rq->read. */
int body_drain(struct http_request *rq, struct err *e);

/* Whether a Content-Type (NULL: absent, accepted) says JSON: application/json, application/x+json. */
bool body_type_is_json(const char *content_type);

#endif

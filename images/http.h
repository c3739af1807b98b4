/*
 * One HTTP exchange at a time, by libcurl, with a stranger: sizes, times and addresses are
 * bounded here; redirects, authentication and retries are the caller's (registry.c). A name is
 * resolved once for the life of the handle, and each address is checked before it is connected.
 */
#ifndef CGIBOX_HTTP_H
#define CGIBOX_HTTP_H

#include <time.h>

#include "images/challenge.h"
#include "images/endpoint.h"
#include "images/ingest.h"

enum { HTTP_HEADERS_MAX = 65536 }; /* bytes of all header lines of an answer, 1xx included */

struct http;

struct http_answer {
	long status;
	char location[URL_BYTES_MAX], content_type[160], content_digest[160], content_range[80];
	char retry_after[64];
	struct challenge challenge;
	bool again; /* after -1: the network failed, which may pass */
};

struct http_request {
	const char *url;
	struct endpoint to;        /* of the url; endpoint_check()ed by the caller */
	const char *authorization; /* "Authorization: ..." or NULL; goes to `to` and nobody else */
	const char *accept;        /* "Accept: ..." or NULL */
	const char *form;          /* POSTed as application/x-www-form-urlencoded; NULL: GET */
	int64_t from;              /* first byte asked for; 0: all */
	const char *what;          /* for messages */
	/* Asked before the first byte of a 200 or 206: -1 refuses it. NULL: never. */
	int (*check)(void *arg, const struct http_answer *a, struct err *e);
	ingest_sink_fn *sink; /* the body of a 200 or 206 */
	void *arg;            /* of both */
};

/* Starts libcurl and its libraries once, so that forked children share what that allocates. */
int http_start(struct err *e);

/* deadline: CLOCK_MONOTONIC seconds, for all exchanges together. NULL on error. */
struct http *http_open(const struct conf *c, time_t deadline, struct err *e);
void http_close(struct http *h); /* NULL is fine */

/* 0: there is an answer, whatever its status. -1: none, or check or sink refused. */
int http_do(struct http *h, const struct http_request *rq, struct http_answer *a, struct err *e);

/* CLOCK_MONOTONIC seconds. */
time_t http_now(void);

#endif

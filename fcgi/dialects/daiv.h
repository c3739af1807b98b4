/*
 * The session API of daiv-sandbox, generation 0.4: POST /session/, POST and DELETE
 * /session/{id}/, health and version. Texts, status codes and the order of checks are the
 * original's; docs/api.md lists where this one is better. Runs in a worker.
 */
#ifndef CGIBOX_DAIV_H
#define CGIBOX_DAIV_H

#include <stddef.h>

#include "fcgi/dialect.h"
#include "fcgi/route.h"

extern const struct route daiv_routes[];
extern const size_t daiv_nroutes;
extern const struct route daiv_health_routes[];
extern const size_t daiv_nhealth_routes;

enum { DAIV_WORKDIR_MAX = 4096 };

/* The request bodies, checked. Everything in them is borrowed from the JSON document. */

struct daiv_create {
	struct session_spec spec; /* .env lies in env */
	struct buf env;
	struct json_object *doc;
	bool egress; /* a block of that name, good in itself */
};

struct daiv_run {
	struct json_object *commands; /* a list of strings without NUL */
	bool fail_fast, extract_patch;
	int64_t timeout_s;              /* of each command, > 0 */
	char workdir[DAIV_WORKDIR_MAX]; /* relative to /repo, normalised; "" = /repo */
};

/* 0, or the number of problems, and then c's response is the 422. */
unsigned daiv_check_create(struct dialect_call *c, struct daiv_create *out);
void daiv_create_clear(struct daiv_create *r);
unsigned daiv_check_run(struct dialect_call *c, struct daiv_run *out);

/* A problem that the backend found in one member of the create request: a 422 for it. */
void daiv_refuse_create(
	struct dialect_call *c, const struct err *e, const char *type, const char *field);

/* Whether id is the text of a session id: a lower-case UUID. Pure. */
bool daiv_id_valid(const char *id);

/*
 * Brings a client's working directory to the form of struct daiv_run: "", "a/b" or a path below
 * /repo. Returns NULL, or why it is refused. Pure.
 */
const char *daiv_workdir(const char *in, size_t n, char *out, size_t size);

/* The handler of POST /session/{id}/, in a file of its own. */
void daiv_run(struct dialect_call *c);

#endif

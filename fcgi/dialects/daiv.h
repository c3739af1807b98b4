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

/* Those of POST /run/commands/ and /run/code/, of the first generation: daiv_once.c. */
void daiv_run_commands(struct dialect_call *c);
void daiv_run_code(struct dialect_call *c);

/*
 * What they share. daiv_exec(): exec() of the backend, traced; a sandbox that ended under the command
 * is ERR_BUSY. daiv_put_output(): its output as the inside of a JSON string, with our notes.
 * daiv_put_base64(): the first bytes of fd.
 */
int daiv_exec(struct dialect_call *c, struct session_call *call, const struct command_spec *s,
	struct result *res, struct err *e);
int daiv_put_output(
	struct buf *b, const struct command_spec *s, const struct result *res, struct err *e);
int daiv_put_base64(struct buf *b, int fd, uint64_t bytes, struct err *e);
size_t daiv_body_max(const struct conf *conf); /* the largest answer with output and a patch */

/* The body of POST /run/commands/ and of /run/code/: daiv_once_check.c. */
struct daiv_once {
	struct json_object *commands; /* a list of strings without NUL */
	char image[IMAGE_REF_MAX + 1];
	char workdir[DAIV_WORKDIR_MAX]; /* "", relative to the run's directory, or absolute */
};

struct deps_set;
struct language;
struct daiv_code {
	const struct language *language; /* a row of sandbox.conf */
	struct deps_set *set;            /* the caller's */
	const char *code;
	size_t code_bytes;
};

/* 0, or the number of problems, and then c's response is the 422. */
unsigned daiv_check_once(struct dialect_call *c, struct daiv_once *out);
unsigned daiv_check_code(struct dialect_call *c, struct daiv_code *out);

/* Of the fields that several bodies have; checks of a struct schema_field (schema.h). */
struct schema_field;
struct schema_value;
struct schema_report;
void daiv_check_commands(const struct schema_field *f, const struct schema_value *v,
	const struct conf *conf, struct schema_report *r);
void daiv_check_archive(const struct schema_field *f, const struct schema_value *v,
	const struct json_scan *scan, struct schema_report *r);

/* NULL, or why the text is no UUID, in the words of the original's parser. *version: its own. Pure. */
const char *daiv_uuid_fault(const char *p, size_t n, char *why, size_t size, int *version);

#endif

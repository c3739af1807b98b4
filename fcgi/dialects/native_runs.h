/*
 * Live sessions and runs: /session/ (list), /session/{id}/{status,stop,runs...}. docs/api.md says what
 * they answer. Runs in a worker.
 */
#ifndef CGIBOX_NATIVE_RUNS_H
#define CGIBOX_NATIVE_RUNS_H

#include <stddef.h>

#include "fcgi/backend_live.h"
#include "fcgi/dialect.h"
#include "fcgi/route.h"
#include "fcgi/schema.h"

extern const struct route native_run_routes[];
extern const size_t native_nrun_routes;

/* Opens the run of the path. -1: the response is complete. */
int native_open_run(struct dialect_call *c, enum run_follow how, struct run_view *v);
/* The response for an error of a verb of backend_live.h. */
void native_run_fail(struct dialect_call *c, const struct err *e, const char *doing);

/* native_run_json.c */
/* "verdict":..,"exit_code":..,.. without braces: what is recorded of a run that has ended. */
void native_put_receipt(struct buf *b, const struct result *r);
/* The object that stands for a run; about as kept, not NUL-ended. */
void native_put_run(struct buf *b, const char *id, const struct spool_head *h, bool ended,
	const char *about, size_t about_bytes);
/* The same for an open one. */
void native_put_view(struct buf *b, const struct run_view *v);
/* {"type":"output",...} of n bytes at an offset. */
void native_put_output(
	struct buf *b, enum spool_stream stream, uint64_t offset, const char *p, size_t n);
/* A JSON string of the kept bytes of one stream, at most max; *next: where the rest begins. -1: the file
 * cannot be read. */
int native_put_kept(struct buf *b, const struct run_view *v, enum spool_stream stream, size_t max,
	uint64_t *next, struct err *e);

/* native_stream.c: answers with events from an offset on; takes the view over. wait: until the end. */
void native_stream(struct dialect_call *c, struct run_view *v, uint64_t from, bool wait);
bool native_wants_events(const struct dialect_call *c); /* by Accept */
void native_output(struct dialect_call *c);

/* native_start.c */
void native_start(struct dialect_call *c);
/* Appends a checked map of variables, each with its NUL. ERR_REQUEST. */
int native_put_env(struct json_object *map, struct buf *out, struct err *e);
/* The time limit that v (seconds) asks for, or the usual one. ERR_REQUEST. */
int native_timeout(const struct conf *c, const struct schema_value *v, int64_t *ms, struct err *e);
/* "stdout":"..","stderr":"..", at most max bytes each; *cut: there was more. -1: unreadable. */
int native_put_streams(
	struct buf *b, const struct run_view *v, size_t max, bool *cut, struct err *e);

/* native_stdin.c */
void native_stdin(struct dialect_call *c);
/* Writes n bytes to the input of a run, waiting for a command that reads slowly. *done: bytes written. */
int native_feed(
	const struct dialect_call *c, int fd, const char *p, size_t n, size_t *done, struct err *e);

/* native_sessions.c */
uint64_t native_least(uint64_t own, int64_t max); /* the limit in force; 0 = none */
void native_sessions(struct dialect_call *c);
void native_status(struct dialect_call *c);
void native_stop(struct dialect_call *c);

#endif

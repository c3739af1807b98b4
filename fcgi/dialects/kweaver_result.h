/*
 * Executions as documents. One is a run (backend_live.h) in the session's sandbox; its document is
 * made once the run has begun, and made final by whoever first looks at it after the end, with the
 * run's spool as the truth until then. The index takes a final document once, so a result is stored
 * once; then the run is forgotten. Runs in a worker.
 */
#ifndef CGIBOX_KWEAVER_RESULT_H
#define CGIBOX_KWEAVER_RESULT_H

#include "fcgi/backend_live.h"
#include "fcgi/dialects/kweaver.h"

/* Members of a document, in the order of the original's answers; texts are borrowed. */
struct kw_execution {
	const char *id, *session, *status, *language;
	const char *code;
	size_t code_bytes;
	int timeout_s;
	const char *error, *created_at, *completed_at; /* NULL: null */
	const char *native, *run;                      /* ids of our session and of its run */
	const struct result *result;                   /* NULL: not known */
	int exit_code;
	bool truncated;
	const char *out[3]; /* standard output before and behind the value, standard error */
	size_t out_bytes[3];
	const char *value; /* JSON; NULL: null */
	size_t value_bytes;
	const char *artifacts; /* JSON; NULL: [] */
};

/* Appends the document. What lists show and single answers do not comes last. */
void kw_put_execution(struct buf *b, const struct kw_execution *x);

/* Bytes of a document as single answers have it. */
size_t kw_execution_shown(const char *text, size_t n);

/*
 * The document of that id as it is now, to be freed. NULL with ERR_NOTFOUND: there is none; any
 * other: the response is complete.
 */
char *kw_execution_look(struct dialect_call *c, const char *id, struct err *e);

/* Looks at all of a session's that are pending. 0; -1: the response is complete. */
int kw_executions_settle(struct dialect_call *c, const char *session);

/*
 * What a session's directory /workspace holds that was written between two times (ns since the
 * epoch), as a JSON array of artifacts; buf is left empty when it cannot be told. kweaver_files.c.
 */
void kw_put_artifacts(
	struct dialect_call *c, const char *native, int64_t from_ns, int64_t to_ns, struct buf *b);

#endif

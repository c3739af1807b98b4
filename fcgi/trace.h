/*
 * What one request was, for the access log and the counters. It holds numbers, names out of our own
 * tables, a checked request id and a checked session id, and nothing else that came from a client:
 * so no line can be forged and no secret can get in. A worker fills one while it answers; main
 * fills one for a worker that died.
 */
#ifndef CGIBOX_TRACE_H
#define CGIBOX_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fcgi/backend.h"
#include "fcgi/http.h"
#include "fcgi/stats.h"
#include "isolate/buf.h"
#include "isolate/result.h"

struct trace {
	struct stats *stats; /* borrowed, NULL: nothing is counted */
	char id[REQUEST_ID_MAX + 1];
	char session[SESSION_ID_LEN + 1]; /* "": none */
	bool has_method;                  /* false: refused before it was known */
	enum http_method method;
	unsigned route; /* routes.h */
	int status;
	bool cut;                       /* the answer did not reach its client whole */
	uint64_t start_us;              /* stats_now_us() */
	uint64_t bytes_in, bytes_out;   /* of the bodies */
	uint32_t verdicts[VERDICT_MAX]; /* of the commands in it */
};

/* Whether s may be a request's id: 1 to REQUEST_ID_MAX letters, digits, ".", "_", "-". NULL: no. */
bool trace_id_ok(const char *s);

/* The beginning; id is copied. The clock starts. */
void trace_begin(struct trace *t, struct stats *s, const char *id);

/* These take NULL for t. */
void trace_route(struct trace *t, enum http_method method, unsigned route);
/* The session it is about; what is no session's id is left out. */
void trace_session(struct trace *t, const char *id);
/* A command starts; its result, or NULL when it could not be started or followed. */
void trace_run_begin(struct trace *t);
void trace_run_end(struct trace *t, const struct result *r);
/* The verdict of a run that is counted elsewhere. */
void trace_verdict(struct trace *t, const struct result *r);

/* The end: counts the request. status and the bytes must be filled. us: its time. */
void trace_end(struct trace *t, uint64_t us);

/* Main, for a worker that died over a request: t gets what it was at. No request: false. */
bool trace_of_dead(struct trace *t, struct stats *s, pid_t pid);

/*
 * Appends one line of JSON with its line feed:
 * {"time","id","method","route","status","bytes_in","bytes_out","ms","session","verdicts","cut",
 * "pid"}
 * time_us: since the epoch; us: how long it took.
 */
void trace_line(const struct trace *t, uint64_t time_us, uint64_t us, pid_t pid, struct buf *out);

#endif

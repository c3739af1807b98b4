/* Shared by the files of the backend on our own isolator. A worker's side. */
#ifndef CGIBOX_BACKEND_INT_H
#define CGIBOX_BACKEND_INT_H

#include "fcgi/backend.h"
#include "fcgi/backend_live.h"
#include "fcgi/deps.h"

struct backend {
	const struct conf *conf;
};

extern const struct live_ops backend_isolate_live;
extern const struct deps_ops backend_isolate_deps;

struct keeper_reply;
struct keeper_request;
struct proto_reply;

/* backend_live.c */
/* One question; min to max descriptors come with the answer, the others of out are -1. */
int live_ask(int sock, struct keeper_request *rq, const int *fds, unsigned nfds,
	struct keeper_reply *rp, int out[3], unsigned min, unsigned max, struct err *e);
void live_view_init(struct run_view *v, const char *session);
void live_view_close(struct run_view *v);
/* What the keeper tells of a run becomes v's: a socket of pid 1, and the spool. */
int live_view_take(
	struct run_view *v, const struct keeper_reply *rp, const int out[2], struct err *e);
/* Begins a run of v's session over v's connection. On failure the caller closes v. */
int live_begin(struct backend *b, const struct run_spec *s, struct run_view *v, struct err *e);
int live_input(struct run_view *v, struct err *e);
/* The next message of pid 1 on v's socket, within a time. 0: none came. conn as in wait(). */
int live_hear(struct run_view *v, int timeout_ms, int conn, struct proto_reply *rp, int *fd,
	struct err *e);

/* backend_connect.c */
int backend_connect(struct backend *b, const char *session, unsigned port, int timeout_ms, int conn,
	struct live_connection *out, struct err *e);

/* backend_code.c */
int backend_waiting(
	struct backend *b, const struct code_wanted *w, struct run_view *v, struct err *e);
int backend_code(struct backend *b, const struct code_spec *s, struct run_view *v, struct err *e);

#endif

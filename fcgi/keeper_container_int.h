/* What makes containers for boxes (keeper_container.c) and what makes them ahead (keeper_ahead.c) share. */
#ifndef CGIBOX_KEEPER_CONTAINER_INT_H
#define CGIBOX_KEEPER_CONTAINER_INT_H

#include <stdbool.h>

#include "fcgi/engine.h"
#include "fcgi/keeper_int.h"

#define CONTAINER_DIRS "engine" /* below STATE */

struct container {
	char id[SESSION_ID_LEN + 1]; /* the box of engine.h */
	struct source listen;        /* until its pid 1 has connected */
	int client;                  /* the same; -1 = none */
	bool asked;                  /* to be made, and not answered yet */
	bool failed;                 /* it was not made */
	bool removing;               /* when it is removed, the box has ended */
	bool ended;                  /* the Engine has said so */
	pid_t relay;                 /* its relay, engine_streamed(); 0 = none */
	uint64_t
		oom_ms; /* when the kernel last ended a process of it for want of memory; 0 = never */
};

/* Makes t's directory and listens there; connected() follows once, t->listen is its source. */
int container_listen(struct keeper *k, struct container *t,
	void (*connected)(struct keeper *k, struct source *s), struct err *e);
/* Nobody connects any more. */
void container_stop_listening(struct keeper *k, struct container *t);
void container_remove_dir(struct keeper *k, const struct container *t);

/*
 * What q->op is to make is a container of t, whose pid 1 connects to the socket of container_listen(): the
 * mount of that, or that a relay connects for it.
 */
int container_reach(
	struct keeper *k, const struct container *t, struct engine_question *q, struct err *e);
/* t was made, and stream (borrowed) is what the Engine gave: starts its relay, where it has one. */
int container_relay(struct keeper *k, struct container *t, int stream, struct err *e);
/* No relay of it is left. */
void container_relay_end(struct container *t);

/* Adds STATE/dir/id/sub (sub may be ""), writable, at target. */
int container_bind(struct engine_question *q, const char *dir, const char *id, const char *sub,
	const char *target, struct err *e);

/* keeper_container_volume.c: adds the volumes of c's session. ERR_REQUEST, ERR_SETUP. */
int container_volumes(
	struct keeper *k, const struct call *c, struct engine_question *q, struct err *e);

/* What a session with the record r is held to. */
void container_limit(
	const struct conf *f, const struct session_record *r, struct engine_question *q);

/* The answer to ENGINE_MAKE, a broker_heard. */
void container_made(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd);

#endif

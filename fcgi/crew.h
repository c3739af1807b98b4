/*
 * Main's side of its workers: starts them, hears their notes, ends those that are too many,
 * and takes notice of their death. Knows nothing of connections but a pointer.
 */
#ifndef CGIBOX_CREW_H
#define CGIBOX_CREW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fcgi/access.h"
#include "isolate/conf.h"
#include "isolate/err.h"

enum member_state { MEMBER_NONE, MEMBER_STARTING, MEMBER_IDLE, MEMBER_BUSY };

struct member {
	int kind; /* main's tag for epoll; first */
	enum member_state state;
	pid_t pid;     /* 0: reaped */
	pid_t was;     /* its number all the same, for what it left */
	int pair;      /* to the worker */
	int lifeline;  /* write end; its end kills the worker */
	int64_t since; /* ms: in this state */
	void *job;     /* main's, while MEMBER_BUSY */
	unsigned log;  /* generation of the access log that it has; 0: none */
};

struct crew {
	const struct conf *conf;
	int epoll, kind;
	unsigned min, max; /* workers */
	unsigned count, idle, starting;
	unsigned failures;           /* deaths in a row before a worker was ready */
	int64_t not_before;          /* ms: no new worker earlier */
	struct member *members;      /* max entries */
	const struct access *access; /* borrowed; NULL: none */
};

/* min and max are bounds of the number of workers; kind is put into each member. */
int crew_init(struct crew *w, const struct conf *c, int epoll, int kind, unsigned min, unsigned max,
	struct err *e);

/* Ends all workers at once and frees. */
void crew_clear(struct crew *w);

/*
 * Starts what is missing: up to min, and one for each of `waiting` connections that no idle or
 * starting worker will take; ends those over min that idled too long. now: ms, monotonic.
 * Returns when to call again at the latest (ms), INT64_MAX for never.
 */
int64_t crew_adjust(struct crew *w, unsigned waiting, int64_t now);

/* The idle worker that was busy last, so that the others may age; NULL: none. */
struct member *crew_idle(struct crew *w);

/* Gives conn (borrowed) and job to an idle worker. -1: that worker is lost, try another. */
int crew_give(struct crew *w, struct member *m, int conn, void *job, int64_t now);

/* Reads one note: an enum worker_note, 0 when there is none, -1 when the worker is gone. */
int crew_hear(struct member *m);

/* A worker is ready again. */
void crew_ready(struct crew *w, struct member *m, int64_t now);

/* A child was reaped: from here on its number may be somebody else's. */
void crew_reaped(struct crew *w, pid_t pid);

/* Forgets a worker and kills it should it live. Its job must be seen to before. */
void crew_lose(struct crew *w, struct member *m, int64_t now);

#endif

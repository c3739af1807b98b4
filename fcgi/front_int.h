/* What front.c (connections, workers, time) and front_keeper.c (the keeper beside them) share. Main. */
#ifndef CGIBOX_FRONT_INT_H
#define CGIBOX_FRONT_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "fcgi/access.h"
#include "fcgi/crew.h"
#include "fcgi/front.h"
#include "fcgi/stats.h"
#include "isolate/conf.h"
#include "isolate/err.h"

enum kind { KIND_LISTENER, KIND_SIGNALS, KIND_LIFELINE, KIND_KEEPER, KIND_CONN, KIND_WORKER };

enum phase {
	PHASE_SILENT, /* in `silent`, until gate_peek() is content */
	PHASE_QUEUED, /* in `queue`, for a worker; its time does not run */
	PHASE_PARAMS, /* from here on with a worker */
	PHASE_BODY,
	PHASE_COMMAND, /* as long as the commands need */
	PHASE_REPLY,
	PHASE_STREAM, /* the same, for as long as there is something to say */
	PHASE_CUT,    /* a limit passed: it cannot send any more and may get its answer */
	PHASE_DEAD,   /* in `dead`: freed after the batch of events that may still name it */
};

struct conn {
	int kind; /* first */
	int fd;
	enum phase phase;
	uint16_t id; /* of the request, 0 when unknown */
	int64_t deadline;
	struct member *worker;
	uint64_t queued_us; /* when it was PHASE_QUEUED */
	TAILQ_ENTRY(conn) link;
};

TAILQ_HEAD(conns, conn);

struct front {
	const struct front_args *args;
	const struct conf *conf;
	int epoll, signals;
	struct crew crew;
	struct stats stats;
	struct access access;
	struct conns silent, queue, given, dead;
	unsigned waiting, queued; /* silent + queue; queue */
	unsigned pending_max;
	bool listening; /* the listener is in epoll */
	int64_t accept_after, complain_after;
	bool stopping, finished;
	int64_t stop_by;
	pid_t keeper; /* 0: none */
	int keeper_line;
	int presence; /* a copy's connection that keeps an on-demand keeper; -1: none */
	int64_t keeper_after, keeper_born;
	int kind_keeper, kind_listener, kind_signals, kind_lifeline; /* what epoll points to */
};

/* Adds fd to epoll; events of it point to *kind, which becomes value. */
int front_watch(struct front *f, int fd, int *kind, int value, struct err *e);

/* front_keeper.c */

/*
 * Starts the keeper when there is none, at once; only after one that died young it waits. One copy of
 * several holds on to the one they share instead. When to come back, in ms of clock_ms(); INT64_MAX: never.
 */
int64_t front_adjust_keeper(struct front *f, int64_t now);

/* The keeper was reaped. */
void front_keeper_died(struct front *f, int status, int64_t now);

#endif

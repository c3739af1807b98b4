/*
 * What the parts of the front share: front.c turns the loop, front_conn.c keeps the connections. Main only;
 * others use front.h.
 */
#ifndef CGIBOX_FRONT_INT_H
#define CGIBOX_FRONT_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "fcgi/access.h"
#include "fcgi/crew.h"
#include "fcgi/errand.h"
#include "fcgi/front.h"
#include "fcgi/stats.h"
#include "isolate/conf.h"

enum kind { KIND_LISTENER, KIND_SIGNALS, KIND_LIFELINE, KIND_KEEPER, KIND_CONN, KIND_WORKER };

enum phase {
	PHASE_SILENT, /* in `silent`, until gate_peek() is content */
	PHASE_QUEUED, /* in `queue[errand]`, for a worker; its time does not run */
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
	enum errand errand; /* ERRAND_ANY unless it had to be known */
	bool looked;        /* it is known, or did not have to be */
	uint64_t queued_us; /* when it was PHASE_QUEUED */
	TAILQ_ENTRY(conn) link;
};

TAILQ_HEAD(conns, conn);

struct queue {
	struct conns list; /* in the order of their coming */
	unsigned n;
	unsigned limit; /* nobody in it gets a worker while so many are busy that do not stream */
};

struct front {
	const struct front_args *args;
	const struct conf *conf;
	int epoll, signals;
	struct crew crew;
	struct stats stats;
	struct access access;
	struct conns silent, given, dead;
	struct queue queue[ERRANDS]; /* the limits ascend */
	unsigned waiting, queued;    /* silent and all queues; the queues */
	unsigned held, streaming;    /* given; of these in PHASE_STREAM */
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

/* Takes as many connections as may wait. now, here and below: CLOCK_MONOTONIC, milliseconds. */
void conn_accept(struct front *f, int64_t now);

/* Who waits beyond pending_max waits in the backlog of the socket. */
void conn_adjust_listener(struct front *f, int64_t now);

/* What epoll(7) says of a connection that no worker has. */
void conn_event(struct front *f, struct conn *c, uint32_t events);

/*
 * A limit has passed. First the sender is cut off, so that the worker sees the end of its input
 * and can still answer; a worker that does not end then loses the connection.
 */
void conn_expire(struct front *f, struct conn *c, int64_t now);

/*
 * The worker died over this connection. Nothing was answered unless the answer had begun, so
 * its peer can be told the truth; after that only the cut itself is true.
 */
void conn_orphan(struct front *f, struct conn *c);

/* What a worker says of it. */
void conn_proceed(struct front *f, struct conn *c, enum phase phase);

/* Takes it out of its queue: for a worker, for another queue, or because it has ended. */
void conn_leave_queue(struct front *f, struct conn *c);

/* Takes a connection out of its list. It is freed by conn_bury(). */
void conn_end(struct front *f, struct conn *c);

/* Frees those that ended, once no event can name them any more. */
void conn_bury(struct front *f);

#endif

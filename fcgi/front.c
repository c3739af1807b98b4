#include "fcgi/front.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fcgi/front_int.h"
#include "fcgi/keeper.h"
#include "fcgi/trace.h"
#include "fcgi/worker.h"
#include "isolate/ended.h"
#include "isolate/log.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/clock.h"

enum {
	EVENTS = 64,     /* taken from epoll at a time */
	STOP_MS = 10000, /* for running requests, once we were asked to end */
	KEEPER_PAUSE_MS = 1000,
	OTHERS_PENDING = 8, /* connections that one copy of several holds beside its worker's */
};

static void earlier(int64_t *a, int64_t b)
{
	if (b < *a)
		*a = b;
}

/* Who waits longest of those that may have a worker now. */
static struct conn *next_in_turn(struct front *f)
{
	unsigned busy = f->held - f->streaming;
	struct conn *best = NULL;

	for (struct queue *q = f->queue; q < f->queue + ERRANDS; q++) {
		struct conn *c = busy < q->limit ? TAILQ_FIRST(&q->list) : NULL;

		if (c && (!best || c->queued_us < best->queued_us))
			best = c;
	}
	return best;
}

/* How many could be given to workers now, were there enough of these. */
static unsigned in_want(const struct front *f)
{
	unsigned busy = f->held - f->streaming, n = 0;

	for (const struct queue *q = f->queue; q < f->queue + ERRANDS; q++) {
		unsigned room = q->limit > busy + n ? q->limit - busy - n : 0;

		n += q->n < room ? q->n : room;
	}
	return n;
}

static void give_out(struct front *f, int64_t now)
{
	struct member *m;
	struct conn *c;

	if (f->queued)
		access_follow(&f->access, now);
	while ((c = next_in_turn(f)) && (m = crew_idle(&f->crew))) {
		if (crew_give(&f->crew, m, c->fd, c, now) < 0)
			continue;
		stats_time(&f->stats, HIST_QUEUE, stats_now_us() - c->queued_us);
		epoll_ctl(f->epoll, EPOLL_CTL_DEL, c->fd, NULL);
		conn_leave_queue(f, c);
		c->phase = PHASE_PARAMS;
		c->deadline = now + f->conf->params_timeout_ms;
		c->worker = m;
		TAILQ_INSERT_TAIL(&f->given, c, link);
		f->held++;
	}
}

/* What the worker died over gets its line and is counted. */
static void log_orphan(struct front *f, const struct member *m)
{
	const struct conn *c = m->job;
	bool answered = c->phase == PHASE_REPLY || c->phase == PHASE_STREAM ||
			c->phase == PHASE_CUT;
	struct trace t;

	if (!trace_of_dead(&t, &f->stats, m->was))
		trace_begin(&t, &f->stats, "-");
	t.status = answered ? 0 : 503;
	t.cut = answered;
	access_write(&f->access, &t, m->was);
}

static void worker_lost(struct front *f, struct member *m, int64_t now)
{
	if (m->state == MEMBER_BUSY || m->state == MEMBER_STARTING)
		log_line(LOG_WARN, "worker %d died %s", (int)m->was,
			m->state == MEMBER_BUSY ? "over a request" : "before it was ready");
	if (m->state == MEMBER_BUSY || m->state == MEMBER_STARTING)
		stats_add(&f->stats, COUNT_WORKER_DEATHS, 1);
	if (m->job) {
		log_orphan(f, m);
		conn_orphan(f, m->job);
	}
	crew_lose(&f->crew, m, now);
}

static void worker_event(struct front *f, struct member *m, int64_t now)
{
	int note;

	while (m->state != MEMBER_NONE && (note = crew_hear(m)) != 0) {
		struct conn *c = m->job;

		if (note < 0) {
			worker_lost(f, m, now);
		} else if (note == NOTE_READY) {
			if (c)
				conn_end(f, c);
			crew_ready(&f->crew, m, now);
		} else if (c && c->phase != PHASE_CUT) {
			conn_proceed(f, c,
				note == NOTE_PARAMS   ? PHASE_BODY
				: note == NOTE_BODY   ? PHASE_COMMAND
				: note == NOTE_STREAM ? PHASE_STREAM
						      : PHASE_REPLY);
			/* A client that does not read a stream is the worker's to cut. */
			c->deadline = note == NOTE_BODY || note == NOTE_STREAM
					      ? INT64_MAX
					      : now + f->conf->request_timeout_ms;
		}
	}
}

static int64_t expire(struct front *f, int64_t now)
{
	int64_t next = INT64_MAX;
	struct conn *c, *after;

	/* In the order of their deadlines: all of them have the same time. */
	while ((c = TAILQ_FIRST(&f->silent)) && c->deadline <= now)
		conn_expire(f, c, now);
	if (c)
		earlier(&next, c->deadline);
	for (c = TAILQ_FIRST(&f->given); c; c = after) {
		after = TAILQ_NEXT(c, link);
		if (c->deadline <= now)
			conn_expire(f, c, now);
		earlier(&next, c->deadline);
	}
	return next;
}

static int watch(struct front *f, int fd, int *kind, int value, struct err *e);

/* One copy of several: holds on to the keeper that they share, and starts one when it is gone. */
static int64_t adjust_presence(struct front *f, int64_t now)
{
	struct err e;

	if (f->presence >= 0 || f->stopping)
		return INT64_MAX;
	if (now < f->keeper_after)
		return f->keeper_after;
	f->keeper_after = now + KEEPER_PAUSE_MS;
	f->presence = keeper_ensure(f->conf, &e);
	if (f->presence >= 0 && watch(f, f->presence, &f->kind_keeper, KIND_KEEPER, &e) == 0)
		return INT64_MAX;
	own_close(&f->presence);
	log_err(LOG_ERROR, &e, "keeper");
	return f->keeper_after;
}

/* The keeper is restarted at once; only one that dies young has to wait. */
static int64_t adjust_keeper(struct front *f, int64_t now)
{
	struct err e;
	int line[2];

	if (!f->args->own)
		return adjust_presence(f, now);
	if (f->keeper || f->stopping)
		return INT64_MAX;
	if (now < f->keeper_after)
		return f->keeper_after;
	f->keeper_after = now + KEEPER_PAUSE_MS;
	if (pipe2(line, O_CLOEXEC) < 0) {
		log_line(LOG_ERROR, "keeper: %s", strerrordesc_np(errno));
		return f->keeper_after;
	}
	f->keeper = keeper_spawn(f->conf, line[0], &e);
	close(line[0]);
	if (f->keeper < 0) {
		log_err(LOG_ERROR, &e, "keeper");
		close(line[1]);
		f->keeper = 0;
		return f->keeper_after;
	}
	f->keeper_line = line[1];
	f->keeper_born = now;
	return INT64_MAX;
}

static void keeper_died(struct front *f, int status, int64_t now)
{
	char how[64];

	log_line(f->stopping ? LOG_INFO : LOG_ERROR, "keeper %d ended: %s", (int)f->keeper,
		ended_text(status, how, sizeof how));
	if (!f->stopping)
		stats_add(&f->stats, COUNT_KEEPER_DEATHS, 1);
	f->keeper = 0;
	own_close(&f->keeper_line);
	f->keeper_after = now - f->keeper_born < KEEPER_PAUSE_MS ? now + KEEPER_PAUSE_MS : now;
}

static void reap(struct front *f, int64_t now)
{
	int status;
	pid_t pid;

	/* Workers are missed by their pairs, which may be heard later than this. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		crew_reaped(&f->crew, pid);
		if (pid == f->keeper)
			keeper_died(f, status, now);
	}
}

static void stop(struct front *f, int64_t now)
{
	if (f->stopping)
		return;
	f->stopping = true;
	f->stop_by = now + STOP_MS;
	log_line(LOG_INFO, "ending; running requests have %d s", STOP_MS / 1000);
}

static void signal_event(struct front *f, int64_t now)
{
	struct signalfd_siginfo s;

	while (read(f->signals, &s, sizeof s) == (ssize_t)sizeof s) {
		if (s.ssi_signo == SIGCHLD)
			reap(f, now);
		else
			stop(f, now);
	}
}

static void dispatch(struct front *f, const struct epoll_event *ev, int64_t now)
{
	switch (*(int *)ev->data.ptr) {
	case KIND_LISTENER:
		if (f->listening)
			conn_accept(f, now);
		break;
	case KIND_SIGNALS:
		signal_event(f, now);
		break;
	case KIND_LIFELINE:
		f->finished = true;
		break;
	case KIND_KEEPER: /* says nothing: this is its end */
		own_close(&f->presence);
		break;
	case KIND_CONN:
		conn_event(f, ev->data.ptr, ev->events);
		break;
	case KIND_WORKER:
		worker_event(f, ev->data.ptr, now);
		break;
	}
}

/* One turn: what happened, what is overdue, what can go on. */
static void turn(struct front *f, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(f->epoll, events, EVENTS, timeout_ms);
	int64_t now = clock_ms();

	for (int i = 0; i < n; i++)
		dispatch(f, &events[i], now);
	give_out(f, now);
	conn_bury(f);
	stats_gauge(&f->stats, MAIN_SILENT, f->waiting - f->queued);
	stats_gauge(&f->stats, MAIN_QUEUED, f->queued);
}

static int until(int64_t next, int64_t now)
{
	if (next == INT64_MAX)
		return -1;
	return next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now);
}

static bool done(const struct front *f, int64_t now)
{
	if (f->finished)
		return true;
	return f->stopping && (now >= f->stop_by || (f->queued == 0 && TAILQ_EMPTY(&f->given)));
}

static void serve(struct front *f)
{
	int64_t now = clock_ms(), next;

	while (!done(f, now)) {
		next = expire(f, now);
		earlier(&next, crew_adjust(&f->crew, in_want(f), now));
		earlier(&next, adjust_keeper(f, now));
		conn_adjust_listener(f, now);
		if (f->accept_after > now)
			earlier(&next, f->accept_after);
		if (f->stopping)
			earlier(&next, f->stop_by);
		conn_bury(f);
		turn(f, until(next, now));
		now = clock_ms();
	}
}

static int watch(struct front *f, int fd, int *kind, int value, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = kind};

	*kind = value;
	if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_set(e, ERR_SETUP, errno, "watch descriptor %d", fd);
	return 0;
}

static int watch_signals(struct front *f, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	f->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (f->signals < 0)
		return err_set(e, ERR_SETUP, errno, "signalfd");
	return watch(f, f->signals, &f->kind_signals, KIND_SIGNALS, e);
}

/* One copy of several has one worker, and the web server decides who waits. */
static void set_limits(struct front *f, bool own)
{
	unsigned max = own ? (unsigned)f->conf->workers_max : 1;
	unsigned reserved = own ? (unsigned)f->conf->workers_reserved : 0;

	f->queue[ERRAND_ANY].limit = max;
	f->queue[ERRAND_BRIEF].limit = max + (reserved ? reserved - 1 : 0);
	f->queue[ERRAND_HEALTH].limit = max + reserved;
}

static int prepare(struct front *f, struct err *e)
{
	const struct conf *c = f->conf;
	bool own = f->args->own;
	int flags = fcntl(f->args->listener, F_GETFL);

	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (f->epoll < 0)
		return err_set(e, ERR_SETUP, errno, "epoll");
	if (access_open(&f->access, c, e) < 0 || stats_open(&f->stats, c->state_dir, e) < 0)
		return -1;
	stats_sit(&f->stats, SEAT_MAIN);
	stats_gauge(&f->stats, MAIN_WORKERS_MAX, own ? (uint64_t)c->workers_max : 1);
	if (watch_signals(f, e) < 0)
		return -1;
	if (f->args->lifeline >= 0 && !MUTATED("lifeline") &&
		watch(f, f->args->lifeline, &f->kind_lifeline, KIND_LIFELINE, e) < 0)
		return -1;
	f->kind_listener = KIND_LISTENER;
	if (flags < 0 || fcntl(f->args->listener, F_SETFL, flags | O_NONBLOCK) < 0 ||
		fcntl(f->args->listener, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "listening socket");
	set_limits(f, own);
	f->pending_max = own ? (unsigned)c->pending_max : OTHERS_PENDING;
	if (crew_init(&f->crew, c, f->epoll, KIND_WORKER, own ? (unsigned)c->workers_min : 1,
		    own ? f->queue[ERRAND_HEALTH].limit + (unsigned)c->streams_max : 1, e) < 0)
		return -1;
	f->crew.access = &f->access;
	return 0;
}

static void clear(struct front *f)
{
	struct conns *lists[] = {&f->silent, &f->queue[ERRAND_ANY].list,
		&f->queue[ERRAND_BRIEF].list, &f->queue[ERRAND_HEALTH].list, &f->given};
	struct conn *c;

	crew_clear(&f->crew);
	own_close(&f->keeper_line);
	own_close(&f->presence);
	for (size_t i = 0; i < NELEM(lists); i++)
		while ((c = TAILQ_FIRST(lists[i])))
			conn_orphan(f, c);
	conn_bury(f);
	access_close(&f->access);
	stats_close(&f->stats);
	own_close(&f->signals);
	own_close(&f->epoll);
}

int front_run(const struct front_args *a, struct err *e)
{
	struct front f = {.args = a,
		.conf = a->conf,
		.epoll = -1,
		.signals = -1,
		.keeper_line = -1,
		.presence = -1,
		.access = ACCESS_NONE,
		.stats = STATS_NONE};
	int rc;

	TAILQ_INIT(&f.silent);
	for (struct queue *q = f.queue; q < f.queue + ERRANDS; q++)
		TAILQ_INIT(&q->list);
	TAILQ_INIT(&f.given);
	TAILQ_INIT(&f.dead);
	rc = prepare(&f, e);
	if (rc == 0)
		serve(&f);
	clear(&f);
	return rc;
}

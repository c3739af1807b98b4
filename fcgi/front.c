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
#include "fcgi/gate.h"
#include "fcgi/record.h"
#include "fcgi/trace.h"
#include "fcgi/worker.h"
#include "isolate/log.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/clock.h"

enum {
	EVENTS = 64,          /* taken from epoll at a time */
	ACCEPTS = 64,         /* connections accepted at a time */
	STOP_MS = 10000,      /* for running requests, once we were asked to end */
	LAST_WORD_MS = 5000,  /* from the end of a time limit to cutting the connection */
	ACCEPT_PAUSE_MS = 50, /* when descriptors or memory ran out */
	COMPLAIN_MS = 1000,   /* of silence before the same complaint again */
	OTHERS_PENDING = 8,   /* connections that one copy of several holds beside its worker's */
};

static void earlier(int64_t *a, int64_t b)
{
	if (b < *a)
		*a = b;
}

/* Takes a connection out of its list. It is freed by bury(). */
static void conn_end(struct front *f, struct conn *c)
{
	switch (c->phase) {
	case PHASE_DEAD:
		return;
	case PHASE_SILENT:
		TAILQ_REMOVE(&f->silent, c, link);
		f->waiting--;
		break;
	case PHASE_QUEUED:
		TAILQ_REMOVE(&f->queue, c, link);
		f->waiting--;
		f->queued--;
		break;
	default:
		TAILQ_REMOVE(&f->given, c, link);
		break;
	}
	c->phase = PHASE_DEAD;
	close(c->fd);
	TAILQ_INSERT_TAIL(&f->dead, c, link);
}

static void bury(struct front *f)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&f->dead))) {
		TAILQ_REMOVE(&f->dead, c, link);
		free(c);
	}
}

/*
 * The worker died over this connection. Nothing was answered unless the answer had begun, so
 * its peer can be told the truth; after that only the cut itself is true.
 */
static void conn_orphan(struct front *f, struct conn *c)
{
	static const char text[] = "Status: 503 Service Unavailable\r\n"
				   "Content-Type: application/json\r\n"
				   "Retry-After: 1\r\n"
				   "X-Content-Type-Options: nosniff\r\n\r\n"
				   "{\"detail\":\"The request was interrupted\"}";
	uint8_t out[512];
	size_t n = record_reply(out, sizeof out, c->id, text);

	if (c->id && c->phase != PHASE_REPLY && c->phase != PHASE_STREAM && c->phase != PHASE_CUT)
		send(c->fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(c->fd, SHUT_RDWR);
	conn_end(f, c);
}

/* Looks at what a silent connection has sent. */
static void conn_listen(struct front *f, struct conn *c, uint32_t events)
{
	uint8_t peek[GATE_PEEK];
	ssize_t n = recv(c->fd, peek, sizeof peek, MSG_PEEK | MSG_DONTWAIT);
	int verdict = n > 0 ? gate_peek(peek, (size_t)n, &c->id) : n == 0 ? -1 : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		verdict = -1;
	/* Nothing more will come. */
	if (verdict == 0 && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		verdict = -1;
	if (verdict < 0) {
		conn_end(f, c);
	} else if (verdict > 0) {
		TAILQ_REMOVE(&f->silent, c, link);
		c->phase = PHASE_QUEUED;
		TAILQ_INSERT_TAIL(&f->queue, c, link);
		f->queued++;
		c->queued_us = stats_now_us();
	}
}

static void conn_event(struct front *f, struct conn *c, uint32_t events)
{
	if (c->phase == PHASE_SILENT)
		conn_listen(f, c, events);
	else if (c->phase == PHASE_QUEUED && (events & (EPOLLHUP | EPOLLERR)))
		conn_end(f, c); /* closed on both sides: nobody waits for an answer */
}

static void conn_add(struct front *f, int fd, int64_t now)
{
	struct conn *c = calloc(1, sizeof *c);
	/* Edge-triggered: half a header must not make us spin. */
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c};

	if (!c || epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		log_line(LOG_WARN, "no memory for a connection");
		free(c);
		close(fd);
		return;
	}
	*c = (struct conn){
		.kind = KIND_CONN, .fd = fd, .deadline = now + f->conf->params_timeout_ms};
	TAILQ_INSERT_TAIL(&f->silent, c, link);
	f->waiting++;
}

static void accept_some(struct front *f, int64_t now)
{
	for (int i = 0; i < ACCEPTS && f->waiting < f->pending_max; i++) {
		int fd = accept4(f->args->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0) {
			conn_add(f, fd, now);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* Once a shortage, not once a try. */
			if (now >= f->complain_after)
				log_line(LOG_WARN, "accept: %s; waiting", strerrordesc_np(errno));
			f->complain_after = now + COMPLAIN_MS;
			f->accept_after = now + ACCEPT_PAUSE_MS;
			return;
		}
	}
}

/* Who waits beyond pending_max waits in the backlog of the socket. */
static void adjust_listener(struct front *f, int64_t now)
{
	bool want = !f->stopping && f->waiting < f->pending_max && now >= f->accept_after;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &f->kind_listener};

	if (want != f->listening && epoll_ctl(f->epoll, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
					    f->args->listener, &ev) == 0)
		f->listening = want;
}

static void give_out(struct front *f, int64_t now)
{
	struct member *m;
	struct conn *c;

	if (!TAILQ_EMPTY(&f->queue))
		access_follow(&f->access, now);
	while ((c = TAILQ_FIRST(&f->queue)) && (m = crew_idle(&f->crew))) {
		if (crew_give(&f->crew, m, c->fd, c, now) < 0)
			continue;
		stats_time(&f->stats, HIST_QUEUE, stats_now_us() - c->queued_us);
		epoll_ctl(f->epoll, EPOLL_CTL_DEL, c->fd, NULL);
		TAILQ_REMOVE(&f->queue, c, link);
		f->waiting--;
		f->queued--;
		c->phase = PHASE_PARAMS;
		c->deadline = now + f->conf->params_timeout_ms;
		c->worker = m;
		TAILQ_INSERT_TAIL(&f->given, c, link);
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
			c->phase = note == NOTE_PARAMS   ? PHASE_BODY
				   : note == NOTE_BODY   ? PHASE_COMMAND
				   : note == NOTE_STREAM ? PHASE_STREAM
							 : PHASE_REPLY;
			/* A client that does not read a stream is the worker's to cut. */
			c->deadline = note == NOTE_BODY || note == NOTE_STREAM
					      ? INT64_MAX
					      : now + f->conf->request_timeout_ms;
		}
	}
}

/*
 * A limit has passed. First the sender is cut off, so that the worker sees the end of its input
 * and can still answer; a worker that does not end then loses the connection.
 */
static void conn_expire(struct front *f, struct conn *c, int64_t now)
{
	if (c->phase == PHASE_SILENT) {
		conn_end(f, c);
	} else if (c->phase == PHASE_PARAMS || c->phase == PHASE_BODY) {
		shutdown(c->fd, SHUT_RD);
		c->phase = PHASE_CUT;
		c->deadline = now + LAST_WORD_MS;
	} else {
		shutdown(c->fd, SHUT_RDWR);
		c->deadline = INT64_MAX;
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

static void reap(struct front *f, int64_t now)
{
	int status;
	pid_t pid;

	/* Workers are missed by their pairs, which may be heard later than this. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		crew_reaped(&f->crew, pid);
		if (pid == f->keeper)
			front_keeper_died(f, status, now);
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
			accept_some(f, now);
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
	bury(f);
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
	return f->stopping &&
	       (now >= f->stop_by || (TAILQ_EMPTY(&f->queue) && TAILQ_EMPTY(&f->given)));
}

static void serve(struct front *f)
{
	int64_t now = clock_ms(), next;

	while (!done(f, now)) {
		next = expire(f, now);
		earlier(&next, crew_adjust(&f->crew, f->queued, now));
		earlier(&next, front_adjust_keeper(f, now));
		adjust_listener(f, now);
		if (f->accept_after > now)
			earlier(&next, f->accept_after);
		if (f->stopping)
			earlier(&next, f->stop_by);
		bury(f);
		turn(f, until(next, now));
		now = clock_ms();
	}
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
	return front_watch(f, f->signals, &f->kind_signals, KIND_SIGNALS, e);
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
		front_watch(f, f->args->lifeline, &f->kind_lifeline, KIND_LIFELINE, e) < 0)
		return -1;
	f->kind_listener = KIND_LISTENER;
	if (flags < 0 || fcntl(f->args->listener, F_SETFL, flags | O_NONBLOCK) < 0 ||
		fcntl(f->args->listener, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "listening socket");
	f->pending_max = own ? (unsigned)c->pending_max : OTHERS_PENDING;
	if (crew_init(&f->crew, c, f->epoll, KIND_WORKER, own ? (unsigned)c->workers_min : 1,
		    own ? (unsigned)c->workers_max : 1, e) < 0)
		return -1;
	f->crew.access = &f->access;
	return 0;
}

static void clear(struct front *f)
{
	struct conns *lists[] = {&f->silent, &f->queue, &f->given};
	struct conn *c;

	crew_clear(&f->crew);
	own_close(&f->keeper_line);
	own_close(&f->presence);
	for (size_t i = 0; i < NELEM(lists); i++)
		while ((c = TAILQ_FIRST(lists[i])))
			conn_orphan(f, c);
	bury(f);
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
	TAILQ_INIT(&f.queue);
	TAILQ_INIT(&f.given);
	TAILQ_INIT(&f.dead);
	rc = prepare(&f, e);
	if (rc == 0)
		serve(&f);
	clear(&f);
	return rc;
}

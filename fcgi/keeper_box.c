/*
 * The life of a sandbox: launched for a call, ready, stopped, gone. One that is live serves further
 * calls and runs, and is stopped when it idles. See keeper_int.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fcgi/keeper_container.h"
#include "fcgi/keeper_int.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { ENDING_MS = 5000, IDLE_NONE_MS = 60000 };

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static struct box *box_new(struct keeper *k, struct call *c)
{
	struct box *b = calloc(1, sizeof *b);

	if (!b)
		return NULL;
	TAILQ_INIT(&b->enders);
	b->ctl.fd = b->exit.fd = b->net.fd = b->disk.job.fd = b->group.dir = -1;
	b->ctl.box = b->exit.box = b->net.box = b->disk.job.box = b;
	b->pasta = (struct pasta)PASTA_NONE;
	b->sandbox = SANDBOX_NONE;
	b->memory_bytes = c->record.memory_bytes;
	b->cpu_percent = c->record.cpu_percent;
	b->layout = c->layout;
	b->disk.limit = c->disk;
	b->live = c->record.live || c->rq.op == KEEPER_RUN;
	if (c->record.live) /* a longer idle time would keep it from expiring */
		b->keep_ms = 1000 * least((uint64_t)k->conf->sandbox_idle_s,
					    (uint64_t)k->conf->session_idle_s);
	LIST_INIT(&b->runs);
	b->session = c->held;
	b->session->box = b;
	b->starter = c;
	c->box = b;
	LIST_INSERT_HEAD(&k->boxes, b, link);
	return b;
}

/* Who works in it learns of its end from pid 1's socket, and may not reach for it here any more. */
static void let_go(struct keeper *k, const struct box *b)
{
	struct call *c;

	LIST_FOREACH(c, &k->calls, link)
	if (c->box == b && c->state != CALL_STOP)
		c->box = NULL;
}

/* No process of it is left, or none was ever made. */
static void box_end(struct keeper *k, struct box *b)
{
	struct session *s = b->session;
	bool pinned = s->pinned; /* by the end of another one, which goes on after this */
	struct call *c;

	if (b->sandbox.pid > 0 || b->container)
		k->nboxes--;
	if (b->container)
		container_free(k, b);
	sandbox_stop(&b->sandbox); /* has ended already, or is waited for here */
	group_drop(k, b);
	volumes_let_go(k, b);
	run_box_gone(k, b);
	b->over = true;
	let_go(k, b);
	s->box = NULL;
	s->pinned = true; /* what comes next may let go of it */
	while ((c = TAILQ_FIRST(&b->enders))) {
		TAILQ_REMOVE(&b->enders, c, waiting);
		c->box = NULL;
		call_stopped(k, c);
	}
	s->pinned = pinned;
	lock_forget(s);
}

void box_reap(struct keeper *k)
{
	struct box *b = LIST_FIRST(&k->boxes), *next;

	for (; b; b = next) {
		next = LIST_NEXT(b, link);
		if (!b->over)
			continue;
		LIST_REMOVE(b, link);
		free(b);
	}
}

static void box_gone(struct keeper *k, struct source *s)
{
	struct box *b = s->box;

	keeper_unwatch(k, s);
	if (!b->container || !container_asks_why(k, b))
		box_end(k, b);
}

void box_ended(struct keeper *k, struct box *b)
{
	box_end(k, b);
}

bool box_watch_exit(struct keeper *k, struct box *b)
{
	OWN_FD copy = fcntl(b->sandbox.pidfd, F_DUPFD_CLOEXEC, 3);
	struct err e;

	b->exit.ready = box_gone;
	return copy >= 0 && keeper_watch(k, &b->exit, take_fd(&copy), &e) == 0;
}

/* The end of a namespace full of processes takes its time: the loop does not wait for it. False: it
 * had to, and b has ended. */
static bool box_stop(struct keeper *k, struct box *b)
{
	bool waits = false;

	if (b->state == BOX_STOPPING)
		return true;
	b->state = BOX_STOPPING;
	b->starter = NULL;
	watch_remove(k, b);
	keeper_unwatch(k, &b->ctl);
	net_stop(k, b);
	if (b->container) {
		waits = container_stop(k, b);
	} else if (b->sandbox.pid > 0) {
		cgroup_box_kill(&b->group);
		sys_pidfd_send_signal(b->sandbox.pidfd, SIGKILL);
		waits = box_watch_exit(k, b);
	}
	if (!waits)
		box_end(k, b); /* never launched, or out of descriptors */
	return waits;
}

void box_kill(struct keeper *k, struct box *b)
{
	box_stop(k, b);
}

bool box_has_ended(const struct box *b)
{
	struct pollfd p = {.fd = b->sandbox.pidfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

bool box_await_end(struct box *b, struct call *c)
{
	c->box = b;
	c->state = CALL_STOP;
	c->deadline_ms = 0;
	TAILQ_INSERT_TAIL(&b->enders, c, waiting);
	return true;
}

bool stop_sandbox(struct keeper *k, struct call *c)
{
	struct box *b = c->box;

	own_close(&c->client);
	c->box = NULL;
	if (!b)
		return false;
	if (b->live && b->state == BOX_READY) { /* it was a guest */
		box_idle(k, b);
		return false;
	}
	return box_stop(k, b) && box_await_end(b, c);
}

bool box_finish(struct keeper *k, struct box *b, struct call *c)
{
	const struct proto_request rq = {.op = PROTO_FINISH};

	if (b->state == BOX_READY && b->nruns > 0 &&
		fdmsg_send(b->ctl.fd, &rq, sizeof rq, NULL, 0, MSG_DONTWAIT) == 0) {
		b->state = BOX_ENDING;
		b->ending_by_ms = keeper_now_ms() + ENDING_MS;
	}
	return (b->state == BOX_ENDING || box_stop(k, b)) && box_await_end(b, c);
}

bool box_usable(const struct box *b)
{
	return b && b->live && b->state == BOX_READY;
}

/* Whether nobody needs it now. */
static bool box_idles(const struct box *b)
{
	return box_usable(b) && b->nruns == 0 && !b->session->holder;
}

void box_idle(struct keeper *k, struct box *b)
{
	(void)k; /* box_deadline() stops it: whoever calls may still be about to use its session */
	b->idle_since_ms = keeper_now_ms();
}

int box_deadline(struct keeper *k)
{
	uint64_t now = keeper_now_ms(), next = now + IDLE_NONE_MS;
	struct box *b, *after;

	for (b = LIST_FIRST(&k->boxes); b; b = after) {
		uint64_t due = b->state == BOX_ENDING ? b->ending_by_ms
						      : b->idle_since_ms + b->keep_ms;

		after = LIST_NEXT(b, link);
		if (b->why_by_ms && !b->over) {
			if (b->why_by_ms <= now)
				box_end(k, b);
			else
				next = least(next, b->why_by_ms);
			continue;
		}
		if (b->over || (b->state != BOX_ENDING && !box_idles(b)))
			continue;
		if (due <= now)
			box_stop(k, b);
		else
			next = least(next, due);
	}
	return (int)(next - now) + 1;
}

/* The loop waits for no pid 1: one that is busy, or was stopped, has a full socket one day. */
int box_attach(struct box *b, struct err *e)
{
	const struct proto_request rq = {.op = PROTO_ATTACH};
	OWN_FD ours = -1, theirs = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket for a sandbox");
	ours = pair[0];
	theirs = pair[1];
	if (fdmsg_send(b->ctl.fd, &rq, sizeof rq, &theirs, 1, MSG_DONTWAIT) == 0)
		return take_fd(&ours);
	if (errno == EPIPE || errno == ECONNRESET)
		return err_set(e, ERR_BUSY, EPIPE, "the sandbox ended");
	return err_set(e, ERR_BUSY, EUSERS, "the sandbox does not answer now");
}

int box_join(struct keeper *k, struct box *b, struct call *c, struct err *e)
{
	(void)k;
	c->client = box_attach(b, e);
	if (c->client < 0)
		return -1;
	c->box = b;
	return 0;
}

/* A live one makes room: the one that idles longest. */
static void make_room(struct keeper *k)
{
	struct box *b, *best = NULL;

	LIST_FOREACH(b, &k->boxes, link)
	if (box_idles(b) && (!best || b->idle_since_ms < best->idle_since_ms))
		best = b;
	if (best)
		box_stop(k, best);
}

void box_fail(struct keeper *k, struct box *b, const struct err *e)
{
	if (b->starter)
		call_fail(k, b->starter, e);
}

/* READY brought what the watchdog needs: a command runs only when it looks. */
static void box_watched(struct keeper *k, struct box *b, const struct sandbox *ready)
{
	struct call *c = b->starter;
	struct err e = {0};

	stats_time(&k->stats, HIST_SANDBOX, stats_now_us() - c->since_us);
	memcpy(b->sandbox.watch_fd, ready->watch_fd, sizeof ready->watch_fd);
	if (watch_add(k, b, &e) < 0) {
		box_fail(k, b, &e);
		return;
	}
	b->state = BOX_READY;
	b->idle_since_ms = keeper_now_ms();
	b->starter = NULL;
	call_ready(k, c);
}

/* What pid 1 of a live one says: runs have ended, or it has itself. */
static void live_said(struct keeper *k, struct box *b)
{
	struct proto_reply rp;
	int none, got;
	unsigned n;

	got = fdmsg_receive(b->ctl.fd, &rp, sizeof rp, &none, 0, &n, MSG_DONTWAIT);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got != 1) {
		log_line(LOG_WARN, "session %s: its sandbox has ended", b->session->id);
		b->lost_ms = keeper_now_ms();
		box_stop(k, b);
	} else if (rp.op == PROTO_DONE) {
		if (run_waits(b, rp.run))
			;
		else if (rp.err.kind != ERR_NONE)
			stats_add(&k->stats, COUNT_RUNS_FAILED, 1);
		else
			stats_run(&k->stats, &rp.result);
		run_done(k, b, rp.run, rp.err.kind == ERR_NONE ? &rp.result : NULL);
	} else if (rp.op == PROTO_QUIET && b->state == BOX_ENDING) {
		box_stop(k, b);
	}
}

static void box_said(struct keeper *k, struct source *s)
{
	struct box *b = s->box;
	struct sandbox box = b->sandbox;
	struct err e = {0};
	int ns[SANDBOX_NS] = {-1, -1}, got;

	box.ctl = s->fd;
	if (b->live && b->state != BOX_STARTING) {
		live_said(k, b);
		return;
	}
	if (b->state != BOX_STARTING) {
		/* pid 1 says nothing unasked later: it has ended, as after a last command */
		box_stop(k, b);
		return;
	}
	got = sandbox_next(&box, 0, ns, &e);
	if (got == SANDBOX_NETWORK && net_start(k, b, ns, &e) < 0)
		got = -1;
	own_close(&ns[SANDBOX_NS_USER]);
	own_close(&ns[SANDBOX_NS_NET]);
	if (got < 0) {
		stats_add(&k->stats, COUNT_SANDBOX_FAILED, 1);
		box_fail(k, b, &e);
	} else if (got == SANDBOX_READY)
		box_watched(k, b, &box);
}

int box_connected(struct keeper *k, struct box *b, struct err *e)
{
	int ret;

	b->ctl.ready = box_said;
	ret = keeper_watch(k, &b->ctl, b->sandbox.ctl, e);
	b->sandbox.ctl = -1; /* the source owns it now */
	return ret;
}

static int box_launch(struct keeper *k, struct box *b, struct call *c, struct err *e)
{
	OWN_FD theirs = -1;
	int pair[2] = {-1, -1};

	if ((c->rq.op == KEEPER_OPEN || c->rq.op == KEEPER_DEPS) &&
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket for the session");
	c->client = pair[0];
	theirs = pair[1];
	if ((k->engine ? container_launch(k, b, c, theirs, e) : start_launch(k, b, c, theirs, e)) <
		0)
		return -1;
	k->nboxes++;
	return b->container ? 0 : box_connected(k, b, e);
}

int start_sandbox(struct keeper *k, struct call *c, struct err *e)
{
	struct box *b;

	c->since_us = stats_now_us();
	if (k->nboxes >= (unsigned)k->conf->sandboxes_max)
		make_room(k); /* for who asks next */
	if (k->nboxes >= (unsigned)k->conf->sandboxes_max)
		return err_set(e, ERR_BUSY, EUSERS, "%u sandboxes run already", k->nboxes);
	b = box_new(k, c);
	if (!b)
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	if (box_launch(k, b, c, e) < 0) {
		stats_add(&k->stats, COUNT_SANDBOX_FAILED, 1);
		return -1; /* call_fail() ends what there is of it */
	}
	c->state = CALL_START;
	c->deadline_ms = keeper_now_ms() + START_TIMEOUT_MS;
	return 0;
}

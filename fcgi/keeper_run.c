/* Runs in the sandboxes of live sessions: begun here, kept by pid 1, followed by workers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "fcgi/keeper_int.h"
#include "isolate/clock.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"

struct box_run *run_find(const struct box *b, const char *id)
{
	struct box_run *r;

	if (!b)
		return NULL;
	LIST_FOREACH(r, &b->runs, link)
	if (!strcmp(r->id, id))
		return r;
	return NULL;
}

static bool active(void *arg, const char *run)
{
	return run_find(arg, run) != NULL;
}

/* Time first, so that names sort as runs began; never twice the same time. */
int run_make_id(struct keeper *k, char id[RUN_ID_LEN + 1], struct err *e)
{
	uint64_t us = (uint64_t)clock_real_us();
	uint32_t r;

	k->last_run_us = us > k->last_run_us ? us : k->last_run_us + 1;
	if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
		return err_set(e, ERR_SETUP, errno, "get random bytes");
	snprintf(id, RUN_ID_LEN + 1, "%016llx%08x", (unsigned long long)k->last_run_us, r);
	return 0;
}

/* The command goes to pid 1 from here: nobody else ever has a spool to write to. */
static int send_exec(const struct run_order *o, int sock, uint32_t number, int spool, struct err *e)
{
	const struct keeper_request *q = o->rq;
	struct proto_request rq = {.op = PROTO_EXEC,
		.run = number,
		.flags = q->flags | PROTO_KEPT | PROTO_TREE,
		.nargs = q->nargs,
		.nenv = q->nenv,
		.blob_bytes = q->blob_bytes,
		.timeout_ms = q->timeout_ms,
		.rows = q->rows,
		.cols = q->cols};
	int fds[3] = {o->fd[0], spool, o->fd[2]};

	if (fdmsg_send(sock, &rq, sizeof rq, fds, o->fd[2] < 0 ? 2 : 3, MSG_DONTWAIT) < 0)
		return err_set(e, ERR_BUSY, EPIPE, "the sandbox does not take a command");
	return 0;
}

int run_begin(struct keeper *k, const struct run_order *o, struct box *b, struct box_run *r,
	int *sock, struct err *e)
{
	const struct conf *f = k->conf;
	const char *id = b->session->id;
	OWN_FD spool = -1, reader = -1;

	r->number = PROTO_RUN_KEPT + ++b->last_number % PROTO_RUN_KEPT;
	run_dir_prune(&k->dirs, id, (size_t)f->runs_kept_max - 1, (uint64_t)f->runs_kept_max_bytes,
		active, b);
	if (watch_disk_room(k, e) < 0 || run_make_id(k, r->id, e) < 0)
		return -1;
	spool = run_dir_make(&k->dirs, id, r->id, o->fd[1], o->rq->about_bytes,
		(uint64_t)f->run_spool_max_bytes, e);
	if (spool < 0)
		return -1;
	/* All that can fail comes before the command: one that nobody counts would never end. */
	reader = run_dir_open(&k->dirs, id, r->id, "spool", O_RDONLY);
	if (reader < 0)
		err_set(e, ERR_SETUP, errno, "open a spool");
	else if ((*sock = box_attach(b, e)) >= 0 && send_exec(o, *sock, r->number, spool, e) == 0)
		return take_fd(&reader);
	run_dir_remove(&k->dirs, id, r->id, &(struct err){0});
	return -1;
}

void run_add(struct box *b, struct box_run *r)
{
	LIST_INSERT_HEAD(&b->runs, r, link);
	b->nruns++;
}

void run_start(struct keeper *k, struct call *c)
{
	struct box *b = c->held ? c->held->box : lock_find(k, c->rq.id)->box;
	OWN_MEM struct box_run *r = calloc(1, sizeof *r);
	const struct run_order o = {&c->rq, c->fd};
	struct keeper_reply rp = {.op = KEEPER_RUN};
	struct err e = {0};
	OWN_FD sock = -1, spool = -1;

	if (b->nruns >= PROTO_RUNS_MAX)
		err_set(&e, ERR_BUSY, EUSERS, "%u runs are in progress", b->nruns);
	else if (!r)
		err_set(&e, ERR_SETUP, ENOMEM, "start a run");
	else
		follows_full(k, c, &e);
	if (e.kind == ERR_NONE && retry_keep(r, c, &e) == 0)
		spool = run_begin(k, &o, b, r, &sock, &e);
	if (e.kind != ERR_NONE) {
		if (r)
			retry_drop(r);
		call_fail(k, c, &e);
		return;
	}
	memcpy(rp.run, r->id, sizeof rp.run);
	rp.number = r->number;
	run_add(b, take_ptr(&r));
	call_answer(c, &rp, (int[]){sock, spool}, 2);
	c->box = NULL; /* the run holds it from here on */
	lock_release(k, c);
}

/* What is left of one that has ended, or will never be told of. */
static void drop(struct keeper *k, struct box *b, struct box_run *r)
{
	struct err e;

	if (r->forget && run_dir_remove(&k->dirs, b->session->id, r->id, &e) < 0)
		log_err(LOG_WARN, &e, "run %s", r->id);
	LIST_REMOVE(r, link);
	retry_drop(r);
	free(r);
	b->nruns--;
}

static struct box_run *by_number(const struct box *b, uint32_t number)
{
	struct box_run *r = LIST_FIRST(&b->runs);

	while (r && r->number != number)
		r = LIST_NEXT(r, link);
	return r;
}

bool run_waits(const struct box *b, uint32_t number)
{
	const struct box_run *r = by_number(b, number);

	return r && r->waits;
}

void run_done(struct keeper *k, struct box *b, uint32_t number, const struct result *res)
{
	struct box_run *r = by_number(b, number);

	if (!r)
		return;
	retry_begin(k, b, r, res);
	drop(k, b, r);
	session_dir_touch(&k->dirs, b->session->id);
	if (b->nruns == 0)
		box_idle(k, b);
}

void run_box_gone(struct keeper *k, struct box *b)
{
	struct box_run *r;

	while ((r = LIST_FIRST(&b->runs))) {
		run_dir_end(&k->dirs, b->session->id, r->id,
			b->out_of_memory ? VERDICT_MEMORY : VERDICT_INTERRUPTED);
		drop(k, b, r);
	}
}

bool follows_full(struct keeper *k, struct call *c, struct err *e)
{
	uint32_t how = c->rq.follow;
	/* Who waits has one of the workers that all requests share. */
	unsigned half = ((unsigned)k->conf->workers_max + 1) / 2;
	unsigned max = how == FOLLOW_STREAM ? (unsigned)k->conf->streams_max : half;

	if (how == FOLLOW_NOT || how >= FOLLOWS || c->follow != FOLLOW_NOT)
		return false;
	if (k->nfollowed[how] >= max) {
		err_set(e, ERR_BUSY, EUSERS, "%u %s", k->nfollowed[how],
			how == FOLLOW_STREAM ? "streams are open"
					     : "requests wait for runs or ports");
		return true;
	}
	c->follow = how;
	k->nfollowed[how]++;
	return false;
}

/* Answers with what is kept of it and, while it runs, a socket to follow it by. */
static int answer_open(
	struct keeper *k, struct call *c, const struct box_run *r, int sock, struct err *e)
{
	struct keeper_reply rp = {.op = KEEPER_RUN_OPEN, .number = r ? r->number : 0};
	OWN_FD about = -1, spool = -1;

	if (!r)
		run_dir_end(&k->dirs, c->rq.id, c->rq.run,
			VERDICT_INTERRUPTED); /* unless it has its verdict */
	spool = run_dir_open(&k->dirs, c->rq.id, c->rq.run, "spool", O_RDONLY);
	about = run_dir_open(&k->dirs, c->rq.id, c->rq.run, "about", O_RDONLY);
	if (spool < 0 || about < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, errno, "open a run");
	memcpy(rp.run, c->rq.run, sizeof rp.run);
	call_answer(c, &rp, (int[]){spool, about, sock}, r ? 3 : 2);
	return 0;
}

void run_open(struct keeper *k, struct call *c)
{
	struct session *s = lock_find(k, c->rq.id);
	struct box *b = s ? s->box : NULL;
	struct box_run *r = run_find(b, c->rq.run);
	struct err e = {0};
	OWN_FD sock = -1;

	if (r && r->forget)
		err_set(&e, ERR_NOTFOUND, ENOENT, "the run is being removed");
	if (e.kind == ERR_NONE && r && box_usable(b) && (sock = box_attach(b, &e)) < 0 &&
		e.errnum == EPIPE) {
		e.kind = ERR_NONE; /* pid 1 is gone, and how is known in a moment */
		box_kill(k, b);
		s = lock_find(k, c->rq.id);
		b = s ? s->box : NULL;
		r = run_find(b, c->rq.run);
	}
	if (e.kind == ERR_NONE && r && sock < 0) {
		box_await_end(b, c);
		return;
	}
	if (e.kind != ERR_NONE || follows_full(k, c, &e) || answer_open(k, c, r, sock, &e) < 0)
		call_fail(k, c, &e);
}

void run_forget(struct keeper *k, struct call *c)
{
	struct session *s = lock_find(k, c->rq.id);
	struct box_run *r = run_find(s ? s->box : NULL, c->rq.run);
	OWN_FD there = run_dir_open(&k->dirs, c->rq.id, c->rq.run, "spool", O_PATH);
	struct keeper_reply rp = {.op = KEEPER_RUN_FORGET};
	struct proto_request rq = {.op = PROTO_END};

	if (there < 0 || (r && r->forget)) {
		err_set(&rp.err, ERR_NOTFOUND, ENOENT, "no such run");
	} else if (r) {
		r->forget = true;
		rq.run = r->number;
		/* One that does not take it is being ended as a whole. */
		if (fdmsg_send(s->box->ctl.fd, &rq, sizeof rq, NULL, 0, MSG_DONTWAIT) < 0)
			log_line(LOG_INFO, "run %s: %s", r->id, strerror(errno));
	} else {
		run_dir_remove(&k->dirs, c->rq.id, c->rq.run, &rp.err);
	}
	call_answer(c, &rp, NULL, 0);
}

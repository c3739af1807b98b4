/* One request of a worker: its states, from the message to the answer. See keeper_int.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "isolate/fdmsg.h"
#include "fcgi/keeper_ahead.h"
#include "fcgi/keeper_engine.h"
#include "fcgi/keeper_int.h"
#include "fcgi/keeper_warm.h"
#include "isolate/log.h"
#include "isolate/own.h"

static void call_next(struct keeper *k, struct call *c);

static void close_fds(struct call *c)
{
	for (int i = 0; i < KEEPER_FDS_MAX; i++)
		own_close(&c->fd[i]);
}

/* Sends the answer; the call is idle again, whatever the worker makes of it. */
void call_answer(struct call *c, struct keeper_reply *rp, const int *fds, unsigned nfds)
{
	rp->magic = KEEPER_MAGIC;
	rp->op = c->rq.op;
	c->state = CALL_IDLE;
	c->deadline_ms = 0;
	close_fds(c);
	if (!c->gone && fdmsg_send(c->sock.fd, rp, sizeof *rp, fds, nfds, MSG_DONTWAIT) < 0)
		log_line(LOG_WARN, "answer to a worker: %s", strerror(errno));
}

/* The session that was made for the worker alone goes with it; if it cannot, it expires. */
static void end_tied(struct keeper *k, struct call *c)
{
	struct err e = {0};
	int held;

	c->gone = true;
	c->failure.kind = ERR_NONE; /* nobody is left to be told */
	c->rq = (struct keeper_request){.op = KEEPER_DESTROY};
	memcpy(c->rq.id, c->tied, sizeof c->rq.id);
	held = c->held ? 1 : lock_take(k, c, c->rq.id, &e);
	if (held < 0)
		call_fail(k, c, &e);
	else if (held > 0)
		call_next(k, c);
}

/* Lets go of everything; the memory goes after this round of events. */
static void finish(struct keeper *k, struct call *c)
{
	if (c->over)
		return;
	if (c->tied[0] && c->rq.op != KEEPER_DESTROY) {
		end_tied(k, c);
		return;
	}
	c->over = true;
	keeper_unwatch(k, &c->sock);
	close_fds(c);
	own_close(&c->pull_out);
	session_record_clear(&c->record);
	k->nfollowed[c->follow] -= c->follow != FOLLOW_NOT;
	workspace_clear(c);
	deps_clear(k, c);
	lock_release(k, c);
}

void call_stopped(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.err = c->failure};

	if (c->gone && (c->rq.op != KEEPER_DESTROY || !c->tied[0] || c->failure.kind != ERR_NONE)) {
		finish(k, c);
		return;
	}
	if (c->failure.kind != ERR_NONE) {
		c->failure.kind = ERR_NONE;
		deps_clear(k, c);
		call_answer(c, &rp, NULL, 0);
		lock_release(k, c);
		return;
	}
	call_next(k, c);
}

void call_done(struct keeper *k, struct call *c, struct keeper_reply *rp, int fd)
{
	if (c->gone) {
		finish(k, c);
		return;
	}
	call_answer(c, rp, &fd, fd >= 0);
	workspace_clear(c); /* fd may be its own */
	lock_release(k, c);
}

/* A session that was begun and has no name yet must not stay: nothing counts it. */
static void drop_new(struct keeper *k, struct call *c)
{
	if (c->new_id[0])
		session_dir_abandon(&k->dirs, c->new_id);
	c->new_id[0] = '\0';
}

void call_fail(struct keeper *k, struct call *c, const struct err *e)
{
	drop_new(k, c);
	workspace_clear(c);
	c->failure = *e;
	if (!stop_sandbox(k, c))
		call_stopped(k, c);
}

/* The worker hung up: end what it had, wait for what cannot be ended. */
static void hang_up(struct keeper *k, struct call *c)
{
	c->gone = true;
	keeper_unwatch(k, &c->sock);
	switch (c->state) {
	case CALL_LOCK:
		lock_give_up(k, c);
		finish(k, c);
		break;
	case CALL_FACTS:
	case CALL_DEPS:
	case CALL_LATER:
		c->later = NULL;
		finish(k, c);
		break;
	case CALL_JOB:  /* bounded by its own time limit; the lock stays until it ends */
	case CALL_PULL: /* useful to the next who asks */
	case CALL_STOP:
		break;
	case CALL_IDLE:
	case CALL_START:
	case CALL_INSTALL:
		if (!stop_sandbox(k, c))
			finish(k, c);
		break;
	}
}

/* Starts the sandbox, after a look at the disk where the last one left a reason for it. */
static void begin(struct keeper *k, struct call *c)
{
	struct err e = {0};
	OWN_FD dir = -1;

	watch_disk_limits(k, c);
	if ((!c->disk.bytes && !c->disk.inodes) || !session_dir_check(&k->dirs, c->held->id)) {
		if (start_sandbox(k, c, &e) < 0)
			call_fail(k, c, &e);
		return;
	}
	dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	if (dir < 0) {
		err_set(&e, ERR_SETUP, errno, "open the session");
		call_fail(k, c, &e);
		return;
	}
	job_start(k, c, TREE_MEASURE, dir, -1);
}

static void added(struct keeper *k, struct call *c, const struct tree_result *r)
{
	struct err e;

	if (job_take_layout(k, c, &r->layout, &e) < 0)
		call_fail(k, c, &e);
	else
		begin(k, c);
}

static void measured(struct keeper *k, struct call *c, const struct tree_result *r)
{
	struct err e = {0};

	if (watch_disk_admit(k, c, r->bytes, r->inodes, &e) < 0 || start_sandbox(k, c, &e) < 0)
		call_fail(k, c, &e);
}

static void patched(struct call *c, const struct tree_result *r)
{
	struct keeper_reply rp = {.patch_bytes = r->patch_bytes};

	call_answer(c, &rp, NULL, 0);
}

static void job_done(struct keeper *k, struct source *s)
{
	struct call *c = s->call;
	struct tree_result r;
	struct err e = {0};

	if (tree_finish(s->fd, &r, &e) == 0)
		e = r.err;
	keeper_unwatch(k, s);
	files_note_growth(k, c, &r.files);
	if (e.kind != ERR_NONE) {
		/* a failed archive may have changed the workspace; the helper says to what */
		if (c->job_op == TREE_ADD && c->held && ws_layout_valid(&r.layout)) {
			struct err worse;

			if (job_take_layout(k, c, &r.layout, &worse) < 0)
				log_err(LOG_ERROR, &worse, "session %s", c->held->id);
		}
		call_fail(k, c, &e);
		return;
	}
	if (c->gone) {
		if (c->job_op == TREE_ADD && job_take_layout(k, c, &r.layout, &e) < 0)
			log_err(LOG_ERROR, &e, "session %s", c->held->id);
		drop_new(k, c);
		finish(k, c);
		return;
	}
	if (c->job_op == TREE_THAW)
		thaw_done(k, c, &r);
	else if (c->work)
		workspace_job_done(k, c, &r);
	else if (c->deps)
		deps_job_done(k, c, &r);
	else if (volume_files_wanted(&c->rq))
		volume_job_done(k, c, &r);
	else if (files_op(&c->rq))
		files_job_done(k, c, &r);
	else if (c->rq.op == KEEPER_CREATE || c->rq.op == KEEPER_CODE)
		create_done(k, c, &r);
	else if (c->job_op == TREE_MEASURE)
		measured(k, c, &r);
	else if (c->rq.op == KEEPER_OPEN)
		added(k, c, &r);
	else
		patched(c, &r);
}

void job_watch(struct keeper *k, struct call *c, enum tree_op op, int fd)
{
	struct err e = {0};

	c->job.ready = job_done;
	c->job_op = op;
	if (keeper_watch(k, &c->job, fd, &e) < 0)
		call_fail(k, c, &e);
	else
		c->state = CALL_JOB;
}

int job_begin(struct keeper *k, struct call *c, enum tree_op op, int dir, int data, struct err *e)
{
	static const struct disk_limits none = {0, 0};
	/* what a verb of the workspace counts it wants to know to its end */
	int fd = op == TREE_MEASURE ? job_measure(k, &c->layout, c->work ? &none : &c->disk, dir, e)
				    : job_open(k, c, op, dir, data, e);

	if (fd < 0)
		return -1;
	job_watch(k, c, op, fd);
	return 0;
}

void job_start(struct keeper *k, struct call *c, enum tree_op op, int dir, int data)
{
	struct err e = {0};

	if (job_begin(k, c, op, dir, data, &e) < 0)
		call_fail(k, c, &e);
}

/* --- the messages --- */

void call_pulled(struct keeper *k, struct call *c, const struct err *e)
{
	c->pulled = true;
	if (c->gone)
		finish(k, c);
	else if (e->kind != ERR_NONE)
		call_fail(k, c, e);
	else if (c->rq.op == KEEPER_DEPS)
		deps_begin(k, c);
	else
		create_begin(k, c);
}

static void do_exists(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_EXISTS};

	if (!session_dir_exists(&k->dirs, c->rq.id))
		err_set(&rp.err, ERR_NOTFOUND, 0, "no such session");
	call_answer(c, &rp, NULL, 0);
}

static void do_open(struct keeper *k, struct call *c)
{
	OWN_FD ws = -1;
	struct err e = {0};

	session_record_clear(&c->record);
	if (session_dir_load(&k->dirs, c->held->id, &c->record, &c->layout, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	session_dir_touch(&k->dirs, c->held->id);
	if (live_open(k, c) || thaw_begin(k, c))
		return;
	if (!c->rq.has_archive) {
		begin(k, c);
		return;
	}
	if (watch_disk_room(k, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	if (workspace_make_room(k, c))
		return; /* comes back */
	ws = session_dir_open(&k->dirs, c->held->id, "ws", O_RDONLY | O_DIRECTORY);
	if (ws < 0) {
		err_set(&e, ERR_SETUP, errno, "open the workspace");
		call_fail(k, c, &e);
		return;
	}
	ahead_choose(k, c);
	job_start(k, c, TREE_ADD, ws, c->fd[0]);
}

void call_ready(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.extract_patch = c->record.extract_patch,
		.has_baseline = c->rq.has_archive && c->layout.has_baseline};
	OWN_FD env = session_dir_open(&k->dirs, c->held->id, "env", O_RDONLY);
	int fds[2] = {c->client, env};
	struct err e;

	if (c->rq.op == KEEPER_RUN) {
		run_start(k, c);
		return;
	}
	if (c->deps) {
		deps_ready(k, c);
		return;
	}
	rp.live = c->box && c->box->live;
	if (env < 0) {
		err_set(&e, ERR_SETUP, errno, "open the session's environment");
		call_fail(k, c, &e);
		return;
	}
	call_answer(c, &rp, fds, 2);
	own_close(&c->client);
}

/* out: borrowed. */
void call_answer_image(struct keeper *k, struct call *c, int out, int code)
{
	struct keeper_reply rp = {.op = KEEPER_IMAGE, .code = code};

	if (c->gone)
		finish(k, c);
	else
		call_answer(c, &rp, &out, 1);
}

static void do_image(struct keeper *k, struct call *c)
{
	struct err e = {0};

	if (image_start(k, c, &e) < 0)
		call_fail(k, c, &e);
}

static void do_patch(struct keeper *k, struct call *c)
{
	struct err e = {0};
	OWN_FD ws = -1;

	if (!c->held || c->fd[0] < 0) {
		err_set(&e, ERR_BUG, 0, "a patch of no session");
		call_fail(k, c, &e);
		return;
	}
	if (stop_sandbox(k, c))
		return; /* comes back when no process is left */
	ws = session_dir_open(&k->dirs, c->held->id, "ws", O_RDONLY | O_DIRECTORY);
	if (ws < 0) {
		err_set(&e, ERR_SETUP, errno, "open the workspace");
		call_fail(k, c, &e);
		return;
	}
	job_start(k, c, TREE_PATCH, ws, c->fd[0]);
}

static void do_destroy(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_DESTROY};
	bool there = session_dir_exists(&k->dirs, c->held->id);

	if (c->held->box && box_finish(k, c->held->box, c))
		return;

	if (layers_discard_session(k, c->held->id, &rp.err) == 0 && there && k->nsessions > 0)
		k->nsessions--;
	call_answer(c, &rp, NULL, 0);
	lock_release(k, c);
	if (c->gone)
		finish(k, c);
	trash_work(k);
}

/* A run needs a live sandbox. Without the lock c has found one. */
static void do_run(struct keeper *k, struct call *c)
{
	struct session *s = c->held ? c->held : lock_find(k, c->rq.id);
	struct err e = {0};

	if (s && box_usable(s->box)) {
		run_start(k, c);
		return;
	}
	if (s && s->box && box_await_end(s->box, c))
		return;
	session_record_clear(&c->record);
	if (session_dir_load(&k->dirs, c->held->id, &c->record, &c->layout, &e) < 0)
		call_fail(k, c, &e);
	else if (!thaw_begin(k, c))
		begin(k, c);
}

static void do_health(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_HEALTH};

	keeper_stats_refresh(k);
	broker_serves(k, &rp.err);
	call_answer(c, &rp, NULL, 0);
}

static void do_files(struct keeper *k, struct call *c)
{
	if (volume_files_wanted(&c->rq))
		volume_files(k, c);
	else
		files_begin(k, c);
}

static void do_code(struct keeper *k, struct call *c)
{
	struct keeper_reply none = {.op = KEEPER_CODE};

	if (warm_take(k, k->warm, c))
		return;
	if (c->rq.waiting)
		call_answer(c, &none, NULL, 0);
	else
		create_begin(k, c);
}

/* Goes on with the message in c->rq, once whatever it waited for is there. */
static void call_next(struct keeper *k, struct call *c)
{
	static void (*const verb[KEEPER_OP_MAX])(struct keeper * k, struct call * c) = {
		[KEEPER_HEALTH] = do_health,
		[KEEPER_CREATE] = create_begin,
		[KEEPER_EXISTS] = do_exists,
		[KEEPER_OPEN] = do_open,
		[KEEPER_PATCH] = do_patch,
		[KEEPER_DESTROY] = do_destroy,
		[KEEPER_SYSTEM] = facts_ask,
		[KEEPER_IMAGE] = do_image,
		[KEEPER_RUN] = do_run,
		[KEEPER_RUN_OPEN] = run_open,
		[KEEPER_RUN_FORGET] = run_forget,
		[KEEPER_RUNS] = list_runs,
		[KEEPER_LIST] = list_sessions,
		[KEEPER_STATUS] = list_status,
		[KEEPER_STOP] = live_stop,
		[KEEPER_ENV] = list_env,
		[KEEPER_FILES] = do_files,
		[KEEPER_SEED] = do_files,
		[KEEPER_CONNECT] = connect_begin,
		[KEEPER_VOLUME] = volume_serve,
		[KEEPER_WORKSPACE] = workspace_start,
		[KEEPER_CODE] = do_code,
		[KEEPER_DEPS] = deps_begin,
		[KEEPER_DEPS_ATTACH] = deps_attach,
		[KEEPER_DEPS_LATER] = deps_later,
		[KEEPER_KEEP] = create_keep,
		[KEEPER_RECEIPTS] = receipts_take,
		[KEEPER_TURN] = turn_take,
	};

	verb[c->rq.op](k, c); /* check_request() has seen that there is one */
}

void call_again(struct keeper *k, struct call *c)
{
	workspace_clear(c);
	call_next(k, c);
}

void call_locked(struct keeper *k, struct call *c)
{
	stats_time(&k->stats, HIST_LOCK, stats_now_us() - c->since_us);
	call_next(k, c);
}

static void call_message(struct keeper *k, struct source *s)
{
	struct call *c = s->call;
	struct err e = {0};
	unsigned nfds;
	int got;

	if (c->state != CALL_IDLE) {
		hang_up(k, c); /* a worker waits for its answer: all it can have sent is its end */
		return;
	}
	close_fds(c);
	got = fdmsg_receive(
		s->fd, &c->rq, sizeof c->rq, c->fd, KEEPER_FDS_MAX, &nfds, MSG_DONTWAIT);
	if (got <= 0 || !check_request(k, c, nfds)) {
		if (got > 0)
			log_line(LOG_ERROR, "a worker's message is out of range");
		hang_up(k, c);
		return;
	}
	if (check_wants_lock(k, c)) {
		int held = c->rq.op == KEEPER_WORKSPACE && workspace_quiet(k, c, &e) < 0
				   ? -1
				   : lock_take(k, c, c->rq.id, &e);

		if (held < 0)
			call_fail(k, c, &e);
		if (held <= 0)
			return;
	}
	call_next(k, c);
}

void call_accept(struct keeper *k, int fd)
{
	struct call *c = calloc(1, sizeof *c);
	struct err e;

	if (!c || k->ncalls >= CALLS_MAX) {
		free(c);
		close(fd);
		return;
	}
	for (int i = 0; i < KEEPER_FDS_MAX; i++)
		c->fd[i] = -1;
	c->client = c->pull_out = -1;
	c->job.fd = c->exit.fd = -1;
	c->sock = (struct source){.fd = -1, .ready = call_message, .call = c};
	c->job.call = c->exit.call = c;
	LIST_INSERT_HEAD(&k->calls, c, link);
	k->ncalls++;
	if (keeper_watch(k, &c->sock, fd, &e) < 0)
		finish(k, c);
}

int call_deadline(struct keeper *k)
{
	uint64_t now = keeper_now_ms(), next = now + 60000;
	struct call *c;
	struct err e;

	LIST_FOREACH(c, &k->calls, link)
	{
		if (!c->deadline_ms)
			continue;
		if (c->deadline_ms > now) {
			next = c->deadline_ms < next ? c->deadline_ms : next;
			continue;
		}
		if (c->state == CALL_FACTS) {
			call_answer_system(k, c);
			continue;
		}
		if (c->state == CALL_LATER) {
			deps_later_deadline(c);
			continue;
		}
		if (c->state == CALL_LOCK) {
			lock_give_up(k, c);
			err_set(&e, ERR_BUSY, EWOULDBLOCK, "session is busy");
		} else {
			err_set(&e, ERR_SETUP, ETIMEDOUT, "the sandbox did not become ready");
		}
		c->deadline_ms = 0;
		call_fail(k, c, &e);
	}
	return (int)(next - now) + 1;
}

/*
 * The verbs of a quiet session's workspace. A call that serves one goes through steps; each that takes
 * time is a tree helper, after which workspace_go() looks what is still to be done. Every step leaves a
 * state that can be read: the layout of the session is replaced by one rename (keeper_freeze.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fcgi/keeper_fork.h"
#include "fcgi/keeper_freeze.h"
#include "fcgi/keeper_marks.h"
#include "fcgi/mark.h"
#include "fcgi/ws_compact.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { ROOM_FOR_ARCHIVE = 6 /* layers that the next archive and a freeze after it may add */ };

/* A call's work on its session. */
struct ws_work {
	bool room;                /* for an archive; else the message's verb */
	bool measured, frozen;    /* steps done */
	struct tree_result wrote; /* by which the shared layers grow */
	struct ws_layers mark;    /* for the helper: what to compare with, or what to join */
	unsigned char target[WS_LAYER_ID];
	bool joins_root;
	unsigned from, to; /* the part of the stack that is being joined, counted from the top */
	char path[TREE_PATH_MAX + 1];
	struct fork_work *fork;
};

void workspace_clear(struct call *c)
{
	if (c->work)
		fork_clear(c->work->fork);
	free(c->work);
	c->work = NULL;
}

/* --- who uses the session --- */

/* Whether the verb is one of the files; the others are of names alone. */
static bool works_on_files(const struct keeper_request *rq)
{
	return rq->verb != WORKSPACE_SNAPSHOTS && rq->verb != WORKSPACE_FORGET;
}

/* Runs of a live sandbox hold no lock. */
static int runs_quiet(const struct session *s, const struct keeper_request *rq, struct err *e)
{
	const struct box *b = s->box;

	if (rq->stop || !works_on_files(rq) || !box_usable(b) || b->nruns == 0)
		return 0;
	return err_set(e, ERR_BUSY, EWOULDBLOCK, "session is busy: %u runs are in progress in it",
		b->nruns);
}

int workspace_quiet(struct keeper *k, const struct call *c, struct err *e)
{
	struct session *s = lock_find(k, c->rq.id);

	if (!s || !s->holder || s->holder->gone) /* what is ending already is waited for */
		return s ? runs_quiet(s, &c->rq, e) : 0;
	if (!c->rq.stop)
		return err_set(e, ERR_BUSY, EWOULDBLOCK,
			s->holder->rq.op == KEEPER_WORKSPACE || files_op(&s->holder->rq)
				? "session is busy: another request works on its files"
				: "session is busy: a request runs commands in it");
	if (s->box)
		watch_end_commands(s->box);
	return 0;
}

/* --- the message --- */

unsigned workspace_request_fds(const struct keeper_request *rq)
{
	if (rq->verb == WORKSPACE_PATCH)
		return 1;
	return rq->verb == WORKSPACE_EXPORT ? 1 + (rq->path_bytes > 0) : 0;
}

bool workspace_request_ok(const struct keeper *k, const struct keeper_request *rq)
{
	bool may = rq->verb == WORKSPACE_PATCH || rq->verb == WORKSPACE_COMMIT;
	bool must = rq->verb == WORKSPACE_SNAPSHOT || rq->verb == WORKSPACE_RESTORE ||
		    rq->verb == WORKSPACE_FORGET;

	if (rq->verb >= WORKSPACE_VERB_MAX || rq->stop > 1 ||
		!memchr(rq->name, '\0', sizeof rq->name) || rq->path_bytes > TREE_PATH_MAX)
		return false;
	if (rq->verb == WORKSPACE_FORK &&
		(rq->count < 1 || rq->count > (uint64_t)k->conf->fork_max))
		return false;
	if (rq->verb == WORKSPACE_EXPORT && rq->format >= WS_FORMAT_MAX)
		return false;
	return rq->name[0] ? (may || must) && mark_name_good(rq->name) : !must;
}

static void answer_marks(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_WORKSPACE};
	OWN_FD out = memfd_create("snapshots", MFD_CLOEXEC);
	struct err e = {0};
	int marks = marks_open(k, c, false, &e);

	if (out < 0)
		err_set(&rp.err, ERR_SETUP, errno, "list the snapshots");
	else if (marks >= 0)
		marks_list(out, marks, &rp.err);
	else if (e.kind != ERR_NOTFOUND)
		rp.err = e;
	call_done(k, c, &rp, rp.err.kind == ERR_NONE ? out : -1);
}

/* --- joining layers --- */

/*
 * The larger of the two parts of a stack that the baseline (base layers from below, the topmost of
 * which may have to stay as it is) divides: places from the top.
 */
static bool choose_join(struct ws_work *w, const struct ws_layers *l, unsigned base, bool keep)
{
	unsigned above = l->n - base, below = base - (base && keep);

	w->from = above >= below ? 0 : l->n - below;
	w->to = above >= below ? above : l->n;
	return w->to - w->from >= 2;
}

static void start_join(struct keeper *k, struct call *c, bool root)
{
	struct ws_work *w = c->work;
	const struct ws_layout *lay = &c->layout;
	const struct ws_layers *l = root ? &lay->root : &lay->shared;
	bool own = root || lay->nlowers;
	bool keep = lay->base_kind == WS_BASE_ARCHIVE || lay->base_kind == WS_BASE_INDEX;
	char name[WS_LAYER_NAME], fs[WS_LAYER_NAME + 3];
	struct err e = {0};

	w->joins_root = root;
	if (!choose_join(w, l, own ? 0 : lay->base_at, !own && keep)) {
		err_set(&e, ERR_BUSY, 0, "the session has too many layers");
		call_fail(k, c, &e);
		return;
	}
	w->mark.n = w->to - w->from;
	memcpy(w->mark.id, l->id + w->from, w->mark.n * sizeof l->id[0]);
	if (layers_make(k, w->target, &e) == 0) {
		snprintf(fs, sizeof fs, "%s/fs", ws_layer_name(w->target, name));
		if (make_fresh(k->dirs.layers, fs, 0755, &e) == 0) {
			job_start(k, c, TREE_JOIN, k->dirs.layers, -1);
			return;
		}
	}
	call_fail(k, c, &e);
}

/* The joined layer takes the place of those that it was made of. */
static int joined(struct keeper *k, struct call *c, struct err *e)
{
	struct ws_work *w = c->work;
	OWN_MEM struct restack *r = malloc(sizeof *r);
	struct ws_layers *l;
	unsigned gone = w->to - w->from - 1;
	int ret;

	if (!r)
		return err_set(e, ERR_SETUP, ENOMEM, "join layers");
	if (restack_begin(k, c, r, e) < 0)
		return -1;
	l = w->joins_root ? &r->next.root : &r->next.shared;
	/* what lies below the baseline's place moves down with it */
	if (!w->joins_root && r->next.base_at && l->n - w->to < r->next.base_at &&
		w->from >= l->n - r->next.base_at)
		r->next.base_at -= gone;
	memcpy(l->id[w->from], w->target, WS_LAYER_ID);
	memmove(l->id[w->from + 1], l->id[w->to], (l->n - w->to) * sizeof l->id[0]);
	l->n -= gone;
	ret = restack_commit(k, c, r, e);
	restack_end(k, r);
	return ret;
}

/* --- the steps --- */

static void start_job(struct keeper *k, struct call *c, enum tree_op op, const char *at, int data)
{
	OWN_FD dir = session_dir_open(&k->dirs, c->held->id, at, O_RDONLY | O_DIRECTORY);
	struct err e = {0};

	if (dir < 0) {
		err_set(&e, ERR_SETUP, errno, "open the workspace");
		call_fail(k, c, &e);
		return;
	}
	job_start(k, c, op, dir, data);
}

void workspace_job(const struct call *c, struct tree_job *j)
{
	const struct ws_work *w = c->work;

	j->mark = w->mark;
	memcpy(j->target, w->target, sizeof j->target);
	j->format = c->rq.format;
	strcpy(j->path, w->path);
	j->stop_bytes = j->stop_inodes = 0;
}

/* A commit, and a snapshot, are what is left of a stack once it is frozen. */
static int freeze(struct keeper *k, struct call *c, struct err *e)
{
	struct ws_work *w = c->work;
	OWN_MEM struct restack *r = malloc(sizeof *r);
	bool commit = !w->room && c->rq.verb == WORKSPACE_COMMIT;
	bool root = !w->room && (!commit || c->rq.name[0]);
	int ret;

	if (!r)
		return err_set(e, ERR_SETUP, ENOMEM, "share the session's layers");
	if (restack_begin(k, c, r, e) < 0)
		return -1;
	ret = restack_freeze(k, r, root, &w->wrote, e);
	if (ret == 0 && commit) {
		r->next.base_kind = r->next.shared.n ? WS_BASE_STATE : WS_BASE_NONE;
		r->next.base_at = r->next.shared.n;
		r->next.commit_bytes = r->next.shared.bytes;
		r->next.commit_inodes = r->next.shared.inodes;
	}
	if (ret == 0)
		ret = restack_commit(k, c, r, e);
	restack_end(k, r);
	return ret;
}

static void answer_done(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_WORKSPACE};

	call_done(k, c, &rp, -1);
	trash_work(k);
}

/* The session's files are shared layers now, and nothing of it is only its own. */
static void frozen(struct keeper *k, struct call *c)
{
	struct err e = {0};
	int ret = 0;

	if (c->work->room) {
		call_again(k, c);
		return;
	}
	if (c->rq.verb == WORKSPACE_FORK) {
		if (fork_start(k, c, &c->work->fork, &e) < 0)
			call_fail(k, c, &e);
		return;
	}
	if (c->rq.name[0])
		ret = marks_save(k, c, &e);
	if (ret < 0)
		call_fail(k, c, &e);
	else
		answer_done(k, c);
}

/* What is still to be done until the session stands on shared layers alone. */
static void workspace_go(struct keeper *k, struct call *c)
{
	struct ws_work *w = c->work;
	const struct ws_layout *lay = &c->layout;
	unsigned more = !w->frozen ? lay->nlowers + 1 : w->room ? ROOM_FOR_ARCHIVE : 0;
	struct err e = {0};

	if (lay->shared.n + more > WS_LAYERS_MAX) {
		start_join(k, c, false);
	} else if (!w->frozen && lay->root.n + 1 > WS_LAYERS_MAX) {
		start_join(k, c, true);
	} else if (!w->measured) {
		start_job(k, c, TREE_MEASURE, ".", -1);
	} else if (!w->frozen) {
		w->frozen = true;
		if (freeze(k, c, &e) < 0)
			call_fail(k, c, &e);
		else
			workspace_go(k, c);
	} else {
		frozen(k, c);
	}
}

static int work_begin(struct call *c, struct err *e)
{
	workspace_clear(c);
	c->work = calloc(1, sizeof *c->work);
	return c->work ? 0 : err_set(e, ERR_SETUP, ENOMEM, "work on the session's files");
}

bool workspace_make_room(struct keeper *k, struct call *c)
{
	const struct ws_layout *lay = &c->layout;
	struct err e = {0};

	if (lay->shared.n == 0 || lay->shared.n + lay->nlowers + ROOM_FOR_ARCHIVE <= WS_LAYERS_MAX)
		return false;
	if (work_begin(c, &e) < 0) {
		call_fail(k, c, &e);
		return true;
	}
	c->work->room = true;
	workspace_go(k, c);
	return true;
}

static void start_patch(struct keeper *k, struct call *c)
{
	OWN_MEM struct ws_layout *mark = NULL;
	struct err e = {0};

	if (!c->rq.name[0]) {
		start_job(k, c, TREE_PATCH, "ws", c->fd[0]);
		return;
	}
	mark = malloc(sizeof *mark);
	if (!mark)
		err_set(&e, ERR_SETUP, ENOMEM, "read the snapshot");
	if (!mark || marks_load(k, c, mark, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	c->work->mark = mark->shared;
	start_job(k, c, TREE_SINCE, "ws", c->fd[0]);
}

static void start_export(struct keeper *k, struct call *c)
{
	struct ws_work *w = c->work;
	size_t n = c->rq.path_bytes;
	struct err e = {0};

	if (n && (pread(c->fd[1], w->path, n, 0) != (ssize_t)n || strlen(w->path) != n)) {
		err_set(&e, ERR_REQUEST, 0, "path: not a path below the workspace");
		call_fail(k, c, &e);
		return;
	}
	start_job(k, c, TREE_EXPORT, "ws", c->fd[0]);
}

/* --- back to the baseline, or to a snapshot --- */

/*
 * The stack that the baseline is. The archive of our own becomes a shared layer for that; own gets its
 * name, or "".
 */
static int baseline(struct keeper *k, struct restack *r, char own[OWN_NAME_MAX], struct err *e)
{
	const struct ws_layout was = r->next;
	struct ws_layout *n = &r->next;
	unsigned at = was.base_at;

	own[0] = '\0';
	*n = ws_layout_fresh(&was);
	n->form = WS_OVERLAY;
	n->entries = was.entries;
	n->bytes = was.bytes;
	n->base_kind = WS_BASE_STATE;
	if (was.nlowers) {
		n->shared.n = n->base_at = 1;
		snprintf(own, OWN_NAME_MAX, "ws/layer-%d", was.lower[0]);
		return layers_make(k, n->shared.id[0], e) < 0
			       ? -1
			       : restack_move(r, own, n->shared.id[0], "fs", e);
	}
	n->shared.n = n->base_at = was.base_kind == WS_BASE_ARCHIVE ? 1 : at;
	memcpy(n->shared.id, was.shared.id + was.shared.n - at,
		n->shared.n * sizeof n->shared.id[0]);
	if (was.base_kind == WS_BASE_STATE) {
		n->shared.bytes = n->commit_bytes = was.commit_bytes;
		n->shared.inodes = n->commit_inodes = was.commit_inodes;
	}
	return 0;
}

static int discard(struct keeper *k, struct call *c, struct restack *r, struct err *e)
{
	struct ws_layout was, next;
	char own[OWN_NAME_MAX];

	if (restack_begin(k, c, r, e) < 0)
		return -1;
	was = r->next;
	if (baseline(k, r, own, e) < 0)
		return -1;
	next = r->next;
	r->next = was;
	if (restack_drop(k, r, false, e) < 0)
		return -1;
	r->next = next;
	return restack_fresh(k, r, *own ? own : NULL, false, e) < 0 ? -1
								    : restack_commit(k, c, r, e);
}

/* After the helper: tree/ is the baseline already. */
static int discarded(struct keeper *k, struct call *c, const struct ws_layout *now,
	struct restack *r, struct err *e)
{
	if (now->shared.n != 0 || now->form == WS_OVERLAY)
		return err_set(e, ERR_BUG, 0, "a tree helper's layout has layers");
	if (restack_begin(k, c, r, e) < 0)
		return -1;
	if (r->next.form == WS_OVERLAY && restack_drop(k, r, false, e) < 0)
		return -1;
	r->next = *now;
	r->next.place = 0;
	r->next.has_baseline = 0;
	r->next.root = c->layout.root;
	r->next.root_top = c->layout.root_top;
	return restack_commit(k, c, r, e);
}

static int restore(struct keeper *k, struct call *c, struct restack *r, struct err *e)
{
	struct ws_layout mark;

	if (marks_load(k, c, &mark, e) < 0 || restack_begin(k, c, r, e) < 0 ||
		restack_drop(k, r, true, e) < 0)
		return -1;
	mark.top = mark.top > c->layout.top ? mark.top : c->layout.top;
	mark.root_top = mark.root_top > c->layout.root_top ? mark.root_top : c->layout.root_top;
	r->next = mark;
	return restack_fresh(k, r, NULL, true, e) < 0 ? -1 : restack_commit(k, c, r, e);
}

/* now: what a helper left, NULL: none was needed. */
static void replace_files(struct keeper *k, struct call *c, const struct ws_layout *now)
{
	OWN_MEM struct restack *r = malloc(sizeof *r);
	struct err e = {0};
	int ret = -1;

	if (!r) {
		err_set(&e, ERR_SETUP, ENOMEM, "replace the session's files");
	} else {
		r->dir = -1;
		r->has_junk = false;
		ret = now                               ? discarded(k, c, now, r, &e)
		      : c->rq.verb == WORKSPACE_DISCARD ? discard(k, c, r, &e)
							: restore(k, c, r, &e);
		restack_end(k, r);
	}
	if (ret < 0)
		call_fail(k, c, &e);
	else
		answer_done(k, c);
}

static void start_discard(struct keeper *k, struct call *c)
{
	const struct ws_layout *l = &c->layout;
	bool layered = l->form == WS_OVERLAY && (l->nlowers || l->base_kind == WS_BASE_ARCHIVE ||
							l->base_kind == WS_BASE_STATE);

	if (layered)
		replace_files(k, c, NULL);
	else
		start_job(k, c, TREE_DISCARD, "ws", -1);
}

/* --- the verbs --- */

static int check_fork(struct keeper *k, struct call *c, struct err *e)
{
	if (k->nsessions + c->rq.count > (size_t)k->conf->sessions_max)
		return err_set(e, ERR_BUSY, EUSERS, "%zu sessions exist already", k->nsessions);
	return watch_disk_room(k, e);
}

static int check_verb(struct keeper *k, struct call *c, struct err *e)
{
	switch (c->rq.verb) {
	case WORKSPACE_FORK:
		return check_fork(k, c, e);
	case WORKSPACE_COMMIT:
		return c->rq.name[0] ? marks_check(k, c, e) : 0;
	case WORKSPACE_SNAPSHOT:
		return marks_check(k, c, e);
	case WORKSPACE_FORGET:
		return marks_forget(k, c, e);
	default:
		return 0;
	}
}

static void start_verb(struct keeper *k, struct call *c)
{
	switch ((enum workspace_verb)c->rq.verb) {
	case WORKSPACE_PATCH:
		start_patch(k, c);
		return;
	case WORKSPACE_EXPORT:
		start_export(k, c);
		return;
	case WORKSPACE_DISCARD:
		start_discard(k, c);
		return;
	case WORKSPACE_RESTORE:
		replace_files(k, c, NULL);
		return;
	case WORKSPACE_SNAPSHOTS:
		answer_marks(k, c);
		return;
	case WORKSPACE_COMMIT:
	case WORKSPACE_FORK:
	case WORKSPACE_SNAPSHOT:
		workspace_go(k, c);
		return;
	case WORKSPACE_FORGET:
	case WORKSPACE_VERB_MAX:
		answer_done(k, c);
		return;
	}
}

void workspace_start(struct keeper *k, struct call *c)
{
	struct box *b = c->held->box;
	struct err e = {0};

	/* A live one has the files mounted, which are to be moved; whoever got the lock first may have
	 * begun a run. */
	if (b && runs_quiet(c->held, &c->rq, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	if (b && works_on_files(&c->rq) && box_finish(k, b, c))
		return; /* comes back */
	session_record_clear(&c->record);
	if (session_dir_load(&k->dirs, c->held->id, &c->record, &c->layout, &e) < 0 ||
		work_begin(c, &e) < 0 || check_verb(k, c, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	session_dir_touch(&k->dirs, c->held->id);
	start_verb(k, c);
}

void workspace_job_done(struct keeper *k, struct call *c, const struct tree_result *r)
{
	struct keeper_reply rp = {.op = KEEPER_WORKSPACE, .patch_bytes = r->patch_bytes};
	struct err e = {0};

	switch (c->job_op) {
	case TREE_MEASURE:
		c->work->wrote = *r;
		c->work->measured = true;
		workspace_go(k, c);
		return;
	case TREE_JOIN:
		if (joined(k, c, &e) < 0)
			call_fail(k, c, &e);
		else
			workspace_go(k, c);
		return;
	case TREE_DISCARD:
		replace_files(k, c, &r->layout);
		return;
	default:
		call_done(k, c, &rp, -1);
	}
}

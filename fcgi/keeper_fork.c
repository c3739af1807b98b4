#include "fcgi/keeper_fork.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fcgi/keeper_freeze.h"
#include "isolate/own.h"

enum { AT_A_TIME = 8 };

struct fork_work {
	unsigned made;
	int ids;    /* a file of them, one a line; owned */
	int parent; /* its directory; owned */
	mode_t ws_mode, root_mode;
	uint32_t place; /* of the parent: enum ws_place */
	bool check;     /* the parent is to be measured, so its children are, too */
};

void fork_clear(struct fork_work *f)
{
	if (!f)
		return;
	own_close(&f->ids);
	own_close(&f->parent);
	free(f);
}

static int failed(const char *what, struct err *e)
{
	return err_set(e, ERR_SETUP, errno, "make %s of a fork", what);
}

static int make_dirs(const struct fork_work *f, const struct ws_layout *lay, int dir, struct err *e)
{
	char name[OWN_NAME_MAX + 8];

	if (mkdirat(dir, "ws", 0700) < 0 || mkdirat(dir, "root", 0700) < 0)
		return failed("a directory", e);
	snprintf(name, sizeof name, "ws/upper-%u", lay->top);
	if (make_fresh(dir, name, f->ws_mode, e) < 0)
		return -1;
	snprintf(name, sizeof name, "ws/work-%u", lay->top);
	if (make_fresh(dir, name, 0755, e) < 0 ||
		make_fresh(dir, root_name("upper", lay->root_top, name), f->root_mode, e) < 0)
		return -1;
	return make_fresh(dir, root_name("work", lay->root_top, name), 0755, e);
}

/* Record and environment never change: the child's are the parent's. */
static int make_files(
	const struct fork_work *f, const struct ws_layout *lay, int dir, struct err *e)
{
	static const char *const empty[] = {"used", "check"};

	if (linkat(f->parent, "spec", dir, "spec", 0) < 0 ||
		linkat(f->parent, "env", dir, "env", 0) < 0)
		return failed("the record", e);
	if (linkat(f->parent, "bounds", dir, "bounds", 0) < 0 && errno != ENOENT)
		return failed("its end", e);
	for (int i = 0; i < 1 + f->check; i++) {
		OWN_FD fd = openat(dir, empty[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0)
			return failed("a file", e);
	}
	if (session_place_set(dir, f->place, e) < 0)
		return -1;
	return layout_save(dir, "layout", lay, NULL, 0, e);
}

static int name_child(struct keeper *k, const struct ws_layout *lay, const char *from,
	const char *id, struct err *e)
{
	if (layers_hold(k, &lay->shared, e) < 0)
		return -1;
	if (layers_hold(k, &lay->root, e) == 0) {
		if (renameat(k->dirs.sessions, from, k->dirs.sessions, id) == 0)
			return 0;
		failed("the name", e);
		layers_drop(k, &lay->root);
	}
	layers_drop(k, &lay->shared);
	return -1;
}

static int make_child(struct keeper *k, struct call *c, struct fork_work *f, struct err *e)
{
	char id[SESSION_ID_LEN + 1], name[SESSION_ID_LEN + 8];
	OWN_FD dir = -1;

	if (session_id_make(id, e) < 0)
		return -1;
	snprintf(name, sizeof name, ".new-%s", id);
	memcpy(c->new_id, id, sizeof c->new_id); /* removed when it comes to nothing */
	if (mkdirat(k->dirs.sessions, name, 0700) < 0)
		return failed("a directory", e);
	dir = openat(k->dirs.sessions, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return failed("a directory", e);
	if (make_files(f, &c->layout, dir, e) < 0 || make_dirs(f, &c->layout, dir, e) < 0 ||
		name_child(k, &c->layout, name, id, e) < 0)
		return -1;
	c->new_id[0] = '\0';
	k->nsessions++;
	f->made++;
	return dprintf(f->ids, "%s\n", id) < 0 ? failed("the list", e) : 0;
}

/* Part of the children can be there then, whose ids nobody learns. */
static void give_up(struct keeper *k, struct fork_work *f)
{
	char id[SESSION_ID_LEN + 2];
	struct err e;

	for (off_t at = 0; pread(f->ids, id, sizeof id - 1, at) == sizeof id - 1;
		at += sizeof id - 1) {
		id[SESSION_ID_LEN] = '\0';
		if (layers_discard_session(k, id, &e) == 0 && k->nsessions > 0)
			k->nsessions--;
	}
	trash_work(k);
}

static void go_on(struct keeper *k, struct source *s)
{
	struct call *c = s->call;
	struct fork_work *f = s->data;
	struct keeper_reply rp = {.op = KEEPER_WORKSPACE};
	struct err e = {0};
	int ret = 0;

	if (c->gone)
		ret = err_set(&e, ERR_BUSY, EPIPE, "nobody waits for the forks");
	for (int i = 0; i < AT_A_TIME && f->made < c->rq.count && ret == 0; i++)
		ret = make_child(k, c, f, &e);
	if (ret == 0 && f->made < c->rq.count)
		return; /* the source is ready still: after others had their turn */
	keeper_unwatch(k, s);
	if (ret < 0) {
		give_up(k, f);
		call_fail(k, c, &e);
		return;
	}
	call_done(k, c, &rp, f->ids);
}

static int look_at_parent(struct keeper *k, struct call *c, struct fork_work *f, struct err *e)
{
	const struct ws_layout *lay = &c->layout;

	f->parent = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	f->ids = memfd_create("forks", MFD_CLOEXEC);
	if (f->parent < 0 || f->ids < 0)
		return failed("the list", e);
	f->check = session_dir_check(&k->dirs, c->held->id);
	f->place = session_place_get(f->parent);
	f->root_mode = 0755;
	if (lay->root.n && layer_mode(k, lay->root.id[0], &f->root_mode, e) < 0)
		return -1;
	return layer_mode(k, lay->shared.id[0], &f->ws_mode, e);
}

int fork_start(struct keeper *k, struct call *c, struct fork_work **out, struct err *e)
{
	struct fork_work *f = calloc(1, sizeof *f);
	int ready;

	if (!f)
		return failed("the list", e);
	f->ids = f->parent = -1;
	*out = f;
	if (look_at_parent(k, c, f, e) < 0)
		return -1;
	ready = eventfd(1, EFD_CLOEXEC);
	if (ready < 0)
		return failed("a turn", e);
	c->job.ready = go_on;
	c->job.data = f;
	if (keeper_watch(k, &c->job, ready, e) < 0)
		return -1;
	c->state = CALL_JOB;
	return 0;
}

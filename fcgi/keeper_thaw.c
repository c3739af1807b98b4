/*
 * backend = docker: commit, snapshot, restore and fork leave a session on shared layers (keeper_freeze.h). Before it is
 * used again it gets directories of its own, which an Engine can bind. See keeper_int.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "fcgi/keeper_freeze.h"
#include "isolate/own.h"

bool thaw_begin(struct keeper *k, struct call *c)
{
	const struct ws_layout *l = &c->layout;
	OWN_FD dir = -1;
	struct err e = {0};

	if (!k->engine || (l->form != WS_OVERLAY && !l->root.n))
		return false;
	if (watch_disk_room(k, &e) < 0) {
		call_fail(k, c, &e);
		return true;
	}
	dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	if (dir < 0) {
		err_set(&e, ERR_SETUP, errno, "open the session");
		call_fail(k, c, &e);
		return true;
	}
	job_start(k, c, TREE_THAW, dir, -1);
	return true;
}

static bool result_ok(const struct ws_layout *was, const struct ws_layout *now)
{
	return !now->shared.n && !now->root.n && now->form != WS_OVERLAY &&
	       now->root_top == was->root_top + (was->root.n > 0);
}

static int commit(struct keeper *k, struct call *c, const struct ws_layout *now, struct restack *r,
	struct err *e)
{
	const struct ws_layout *was = &c->layout;
	char name[OWN_NAME_MAX];

	if (!result_ok(was, now))
		return err_set(e, ERR_BUG, 0, "a tree helper's layout has layers");
	if (restack_begin(k, c, r, e) < 0)
		return -1;
	if (was->form == WS_OVERLAY && restack_drop(k, r, false, e) < 0)
		return -1;
	if (was->root.n &&
		(restack_drop_root(k, r, e) < 0 ||
			make_fresh(r->dir, root_name("work", now->root_top, name), 0755, e) < 0))
		return -1;
	r->next = *now;
	r->next.place = 0;
	return restack_commit(k, c, r, e);
}

void thaw_done(struct keeper *k, struct call *c, const struct tree_result *t)
{
	OWN_MEM struct restack *r = malloc(sizeof *r);
	struct err e = {0};
	int ret;

	if (!r) {
		err_set(&e, ERR_SETUP, ENOMEM, "copy the session's files");
		call_fail(k, c, &e);
		return;
	}
	r->dir = -1;
	r->has_junk = false;
	ret = commit(k, c, &t->layout, r, &e);
	restack_end(k, r);
	trash_work(k);
	if (ret < 0)
		call_fail(k, c, &e);
	else
		call_again(k, c);
}

#include "fcgi/keeper_freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/ws_compact.h"
#include "fcgi/ws_stack.h"
#include "isolate/log.h"
#include "isolate/own.h"

const char *root_name(const char *kind, uint32_t number, char out[OWN_NAME_MAX])
{
	if (number)
		snprintf(out, OWN_NAME_MAX, "root/%s-%u", kind, number);
	else
		snprintf(out, OWN_NAME_MAX, "root/%s", kind);
	return out;
}

int make_fresh(int dir, const char *name, mode_t mode, struct err *e)
{
	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make %s", name);
	/* mkdir(2) heeds the umask */
	if (fchmodat(dir, name, mode & 07777, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "make %s", name);
	return 0;
}

int layer_mode(struct keeper *k, const unsigned char *id, mode_t *mode, struct err *e)
{
	char name[WS_LAYER_NAME], path[WS_LAYER_NAME + 3];
	struct stat st;

	snprintf(path, sizeof path, "%s/fs", ws_layer_name(id, name));
	if (fstatat(k->dirs.layers, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "look at a shared layer");
	*mode = st.st_mode & 07777;
	return 0;
}

int restack_begin(struct keeper *k, struct call *c, struct restack *r, struct err *e)
{
	r->next = c->layout;
	r->nmoves = 0;
	r->has_junk = false;
	r->dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	return r->dir < 0 ? err_set(e, ERR_SETUP, errno, "open the session") : 0;
}

void restack_end(struct keeper *k, struct restack *r)
{
	struct ws_layers junk = {.n = 1};

	own_close(&r->dir);
	if (!r->has_junk)
		return;
	r->has_junk = false;
	memcpy(junk.id[0], r->junk, WS_LAYER_ID);
	if (layers_hold(k, &junk, NULL) == 0) /* else it goes at the next start */
		layers_drop(k, &junk);
}

int restack_move(
	struct restack *r, const char *from, const unsigned char *id, const char *to, struct err *e)
{
	struct layout_move *m = &r->moves[r->nmoves];

	if (r->nmoves == LAYOUT_MOVES_MAX)
		return err_set(e, ERR_BUG, 0, "too many directories move");
	snprintf(m->from, sizeof m->from, "%s", from);
	snprintf(m->to, sizeof m->to, "%s", to);
	memcpy(m->id, id, WS_LAYER_ID);
	r->nmoves++;
	return 0;
}

static int move_ws(
	struct restack *r, const char *name, const unsigned char *id, const char *to, struct err *e)
{
	char from[OWN_NAME_MAX + 8];

	snprintf(from, sizeof from, "ws/%s", name);
	return restack_move(r, from, id, to, e);
}

/* A new layer on top of l. Returns its id, NULL on error. */
static unsigned char *push_layer(struct keeper *k, struct ws_layers *l, struct err *e)
{
	if (l->n >= WS_LAYERS_MAX) {
		err_set(e, ERR_BUG, 0, "more than %d layers", WS_LAYERS_MAX);
		return NULL;
	}
	memmove(l->id[1], l->id[0], l->n * sizeof l->id[0]);
	if (layers_make(k, l->id[0], e) < 0) {
		memmove(l->id[0], l->id[1], l->n * sizeof l->id[0]);
		return NULL;
	}
	l->n++;
	return l->id[0];
}

/* 1: nothing in it, 0: something, -1. */
static int is_empty(int dir, const char *name, struct err *e)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	OWN_DIR d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d)
		return err_set(e, ERR_SETUP, errno, "open %s", name);
	take_fd(&fd);
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			return 0;
	return 1;
}

/* The plain tree becomes the lowest layer, and the files beside it go with it. */
static int freeze_tree(struct keeper *k, struct restack *r, struct err *e)
{
	struct ws_layout *n = &r->next;
	bool indexed = n->form == WS_PLAIN;
	const unsigned char *id = push_layer(k, &n->shared, e);

	if (!id || move_ws(r, "tree", id, "fs", e) < 0)
		return -1;
	if (indexed && (move_ws(r, "rest.idx", id, "rest.idx", e) < 0 ||
			       move_ws(r, "base.idx", id, "base.idx", e) < 0 ||
			       move_ws(r, "base.raw", id, "base.raw", e) < 0))
		return -1;
	n->form = WS_OVERLAY;
	n->base_kind = indexed ? WS_BASE_INDEX : WS_BASE_NONE;
	n->base_at = indexed;
	n->stacked_bytes += n->base_bytes;
	n->base_bytes = n->base_inodes = 0;
	return 0;
}

/* Layers of our own, lowest first; the topmost is the newest archive, and the baseline. */
static int freeze_lowers(struct keeper *k, struct restack *r, struct err *e)
{
	struct ws_layout *n = &r->next;
	const unsigned char *id = NULL;
	char name[WS_NAME_MAX];

	for (uint32_t i = n->nlowers; i-- > 0;) {
		id = push_layer(k, &n->shared, e);
		if (!id || move_ws(r, ws_stack_name(n->lower[i], name), id, "fs", e) < 0)
			return -1;
	}
	if (!id)
		return 0;
	n->nlowers = 0;
	n->base_kind = WS_BASE_ARCHIVE;
	n->base_at = n->shared.n;
	return move_ws(r, "left.idx", id, "left.idx", e);
}

/* 1: it became a layer, 0: it is empty and stays. */
static int freeze_upper(struct keeper *k, struct restack *r, struct err *e)
{
	struct ws_layout *n = &r->next;
	char upper[OWN_NAME_MAX + 8], work[WS_NAME_MAX];
	const unsigned char *id;
	int empty;

	snprintf(upper, sizeof upper, "ws/upper-%u", n->top);
	snprintf(work, sizeof work, "work-%u", n->top);
	empty = is_empty(r->dir, upper, e);
	if (empty)
		return empty < 0 ? -1 : 0;
	id = push_layer(k, &n->shared, e);
	if (!id || restack_move(r, upper, id, "fs", e) < 0 || move_ws(r, work, id, "work", e) < 0)
		return -1;
	return 1;
}

static int freeze_root(
	struct keeper *k, struct restack *r, const struct tree_result *wrote, struct err *e)
{
	struct ws_layout *n = &r->next;
	char upper[OWN_NAME_MAX], work[OWN_NAME_MAX];
	const unsigned char *id;
	struct stat st;
	int empty;

	root_name("upper", n->root_top, upper);
	root_name("work", n->root_top, work);
	empty = is_empty(r->dir, upper, e);
	if (empty)
		return empty < 0 ? -1 : 0;
	if (fstatat(r->dir, upper, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "look at the root's layer");
	id = push_layer(k, &n->root, e);
	if (!id || restack_move(r, upper, id, "fs", e) < 0 ||
		restack_move(r, work, id, "work", e) < 0)
		return -1;
	n->root.bytes += wrote->root_bytes;
	n->root.inodes += wrote->root_inodes;
	n->root_top++;
	return make_fresh(r->dir, root_name("upper", n->root_top, upper), st.st_mode, e) < 0
		       ? -1
		       : make_fresh(r->dir, root_name("work", n->root_top, work), 0755, e);
}

/* The writable layer that comes next looks as the one did that tenants saw as /repo. */
static int fresh_ws(struct restack *r, mode_t mode, struct err *e)
{
	char name[OWN_NAME_MAX + 8];

	r->next.top++;
	snprintf(name, sizeof name, "ws/upper-%u", r->next.top);
	if (make_fresh(r->dir, name, mode, e) < 0)
		return -1;
	snprintf(name, sizeof name, "ws/work-%u", r->next.top);
	return make_fresh(r->dir, name, 0755, e);
}

int restack_freeze(struct keeper *k, struct restack *r, bool root, const struct tree_result *wrote,
	struct err *e)
{
	struct ws_layout *n = &r->next;
	bool overlay = n->form == WS_OVERLAY;
	char seen[OWN_NAME_MAX + 8];
	struct stat st;
	int moved = 1;

	if (overlay)
		snprintf(seen, sizeof seen, "ws/upper-%u", n->top);
	else
		strcpy(seen, "ws/tree");
	if (fstatat(r->dir, seen, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "look at the workspace");
	if ((overlay ? freeze_lowers(k, r, e) : freeze_tree(k, r, e)) < 0)
		return -1;
	if (overlay)
		moved = freeze_upper(k, r, e);
	if (moved < 0 || (moved && fresh_ws(r, st.st_mode, e) < 0))
		return -1;
	n->shared.bytes += wrote->ws_bytes;
	n->shared.inodes += wrote->ws_inodes;
	return root ? freeze_root(k, r, wrote, e) : 0;
}

static int to_junk(struct keeper *k, struct restack *r, const char *from, struct err *e)
{
	char to[16];

	if (!r->has_junk && layers_make(k, r->junk, e) < 0)
		return -1;
	r->has_junk = true;
	snprintf(to, sizeof to, "old%u", r->nmoves);
	return restack_move(r, from, r->junk, to, e);
}

static int drop_ws(struct keeper *k, struct restack *r, const char *name, struct err *e)
{
	char from[OWN_NAME_MAX + 8];

	snprintf(from, sizeof from, "ws/%s", name);
	return to_junk(k, r, from, e);
}

/* Whether the move of one of our names is asked for already. */
static bool moves(const struct restack *r, const char *name)
{
	for (unsigned i = 0; i < r->nmoves; i++)
		if (!strcmp(r->moves[i].from + 3, name))
			return true;
	return false;
}

static int drop_overlay(
	struct keeper *k, struct restack *r, const struct ws_layout *was, struct err *e)
{
	char name[WS_NAME_MAX];

	snprintf(name, sizeof name, "work-%u", was->top);
	if (drop_ws(k, r, name, e) < 0 ||
		drop_ws(k, r, ws_stack_name(-(int32_t)was->top, name), e) < 0)
		return -1;
	for (uint32_t i = 0; i < was->nlowers; i++)
		if (!moves(r, ws_stack_name(was->lower[i], name)) && drop_ws(k, r, name, e) < 0)
			return -1;
	return 0;
}

int restack_drop_root(struct keeper *k, struct restack *r, struct err *e)
{
	char name[OWN_NAME_MAX];

	if (to_junk(k, r, root_name("upper", r->next.root_top, name), e) < 0)
		return -1;
	return to_junk(k, r, root_name("work", r->next.root_top, name), e);
}

int restack_drop(struct keeper *k, struct restack *r, bool root, struct err *e)
{
	const struct ws_layout was = r->next;

	if (was.form == WS_OVERLAY) {
		if (drop_overlay(k, r, &was, e) < 0)
			return -1;
	} else if (drop_ws(k, r, "tree", e) < 0 || drop_ws(k, r, "rest.idx", e) < 0 ||
		   drop_ws(k, r, "base.idx", e) < 0 || drop_ws(k, r, "base.raw", e) < 0) {
		return -1;
	}
	return root ? restack_drop_root(k, r, e) : 0;
}

int restack_fresh(struct keeper *k, struct restack *r, const char *top, bool root, struct err *e)
{
	struct ws_layout *n = &r->next;
	char name[OWN_NAME_MAX];
	struct stat st = {.st_mode = 0};
	mode_t mode;

	if (top && fstatat(r->dir, top, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "look at the workspace");
	mode = st.st_mode & 07777;
	if (!top && layer_mode(k, n->shared.id[0], &mode, e) < 0)
		return -1;
	if (fresh_ws(r, mode, e) < 0)
		return -1;
	if (!root)
		return 0;
	mode = 0755;
	if (n->root.n && layer_mode(k, n->root.id[0], &mode, e) < 0)
		return -1;
	n->root_top++;
	return make_fresh(r->dir, root_name("upper", n->root_top, name), mode, e) < 0
		       ? -1
		       : make_fresh(r->dir, root_name("work", n->root_top, name), 0755, e);
}

int restack_commit(struct keeper *k, struct call *c, struct restack *r, struct err *e)
{
	struct ws_layout *was = &c->layout;

	if (!ws_layout_valid(&r->next))
		return err_set(e, ERR_BUG, 0, "the new layout is out of range");
	if (layers_hold(k, &r->next.shared, e) < 0)
		return -1;
	if (layers_hold(k, &r->next.root, e) < 0) {
		layers_drop(k, &r->next.shared);
		return -1;
	}
	if (layout_save(r->dir, "layout", &r->next, r->moves, r->nmoves, e) < 0) {
		layers_drop(k, &r->next.shared);
		layers_drop(k, &r->next.root);
		return -1;
	}
	layers_drop(k, &was->shared);
	layers_drop(k, &was->root);
	*was = r->next;
	was->place = 0;
	return layout_settle(r->dir, k->dirs.layers, &r->next, e);
}

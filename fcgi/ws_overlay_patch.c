#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/ignore.h"
#include "fcgi/patch.h"
#include "fcgi/patch_name.h"
#include "fcgi/ws_file.h"
#include "fcgi/ws_index.h"
#include "fcgi/ws_overlay.h"
#include "fcgi/ws_side.h"
#include "fcgi/ws_stack.h"
#include "fcgi/ws_walk.h"
#include "isolate/own.h"

/* Places in the opened stack: what was written in this call, the archive, and all before it. */
enum { UPPER = 0, LAYER = 1 };

struct changes {
	struct ws_stack stack;
	struct ws_index left; /* entry.at: place in the layout's lowers, so one less than here */
	struct ignore_set *ignore;
	struct patch_list list;
};

static bool in_patch(const struct stat *st)
{
	return S_ISREG(st->st_mode) || S_ISLNK(st->st_mode);
}

static int read_ignore(void *arg, const char *dir, struct buf *out, struct err *e)
{
	const struct changes *c = arg;
	OWN_MEM char *path = NULL;
	int layer;

	if (asprintf(&path, "%s%s.gitignore", dir, *dir ? "/" : "") < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "read a .gitignore");
	layer = ws_stack_find(&c->stack, path);
	return layer < 0 ? 0 : ws_side_ignore(c->stack.fd[layer], path, out, e);
}

/* Adds a change; from: place of the new side, or -1 for a deletion. */
static int note(struct changes *c, const char *path, bool has_old, int from, struct err *e)
{
	struct patch_side old = {0}, new = {0};

	if (has_old && ws_side_path(&old, c->stack.fd[LAYER], path, e) < 0)
		return -1;
	if (from >= 0) {
		if (ws_side_path(&new, c->stack.fd[from], path, e) < 0) {
			free(old.link);
			return -1;
		}
		new.at = from;
	}
	return patch_add(&c->list, path, &old, &new, e);
}

static int note_deleted_below(void *arg, const struct ws_visit *v, struct err *e)
{
	struct changes *c = arg;
	struct stat st;

	if (patch_name_refused(v->name, strlen(v->name)))
		return 0;
	if (v->type == S_IFDIR)
		return 1;
	if (v->type != S_IFREG && v->type != S_IFLNK)
		return 0;
	/* What the upper has at this path, its own walk meets. */
	return ws_stat(c->stack.fd[UPPER], v->path, &st) == 0 ? 0 : note(c, v->path, true, -1, e);
}

/* The archive's directory path is not seen any more. */
static int note_deleted_dir(struct changes *c, const char *path, struct err *e)
{
	return ws_walk(c->stack.fd[LAYER], path, note_deleted_below, c, e);
}

static int note_created(struct changes *c, const char *path, int from, struct err *e)
{
	int ignored = ignore_check(c->ignore, path, false, e);

	if (ignored)
		return ignored < 0 ? -1 : 0;
	return note(c, path, false, from, e);
}

/* A directory of the upper: joined with the archive's, in place of it, or new. */
static int take_dir(
	struct changes *c, const struct ws_visit *v, const struct stat *base, struct err *e)
{
	int r;

	if (base && S_ISDIR(base->st_mode)) {
		r = ws_is_opaque(c->stack.fd[UPPER], v->path);
		if (r < 0)
			return err_set(e, ERR_SETUP, errno, "look at a directory of the workspace");
		return r && note_deleted_dir(c, v->path, e) < 0 ? -1 : 1;
	}
	if (base && in_patch(base) && note(c, v->path, true, -1, e) < 0)
		return -1;
	r = ignore_check(c->ignore, v->path, true, e);
	return r < 0 ? -1 : !r;
}

/* One entry of the upper against the archive's at the same path. */
static int take_entry(void *arg, const struct ws_visit *v, struct err *e)
{
	struct changes *c = arg;
	struct stat base_st, *base = NULL;
	bool kept = v->type == S_IFREG || v->type == S_IFLNK;

	if (patch_name_refused(v->name, strlen(v->name)))
		return 0;
	if (ws_stat(c->stack.fd[LAYER], v->path, &base_st) == 0)
		base = &base_st;
	else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
		return err_set(e, ERR_SETUP, errno, "look at a file of the archive");
	if (v->type == S_IFDIR)
		return take_dir(c, v, base, e);
	if (base && S_ISDIR(base->st_mode)) {
		if (note_deleted_dir(c, v->path, e) < 0)
			return -1;
		base = NULL;
	}
	if (base && in_patch(base))
		return note(c, v->path, true, kept ? UPPER : -1, e);
	return kept ? note_created(c, v->path, UPPER, e) : 0;
}

static int take_leftovers(struct changes *c, struct err *e)
{
	for (size_t i = 0; i < c->left.n; i++) {
		const struct ws_entry *en = &c->left.v[i];

		if (S_ISDIR(en->mode) || en->at < 1 || en->at + 1 >= c->stack.n)
			return err_set(e, ERR_SETUP, 0, "the list of earlier files is damaged");
		if (!ws_stack_hides(c->stack.fd[UPPER], en->path) &&
			note_created(c, en->path, (int)en->at + 1, e) < 0)
			return -1;
	}
	return 0;
}

static int cmp_change(const void *a, const void *b)
{
	const struct patch_change *x = a, *y = b;
	int d = strcmp(x->path, y->path);

	/* Of one path, what has a new side goes before a deletion. */
	return d ? d : (x->new.mode == 0) - (y->new.mode == 0);
}

/* Nested opaque directories can report one deletion more than once. */
static void drop_repeats(struct patch_list *l)
{
	size_t kept = 0;

	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, cmp_change);
	for (size_t i = 0; i < l->n; i++) {
		if (kept && !strcmp(l->v[kept - 1].path, l->v[i].path)) {
			free(l->v[i].path);
			free(l->v[i].old.link);
			free(l->v[i].new.link);
		} else {
			l->v[kept++] = l->v[i];
		}
	}
	l->n = kept;
}

static int open_side(
	void *arg, const struct patch_change *ch, bool newer, off_t *offset, struct err *e)
{
	const struct changes *c = arg;

	*offset = 0;
	return ws_side_open(c->stack.fd[newer ? ch->new.at : LAYER], ch->path, e);
}

static int collect(struct changes *c, struct err *e)
{
	char *bytes = NULL;
	size_t n = 0;

	c->ignore = ignore_new(read_ignore, c);
	if (!c->ignore)
		return err_set(e, ERR_SETUP, ENOMEM, "make the patch");
	if (ws_file_read("left.idx", &bytes, &n, e) < 0 ||
		ws_index_parse(&c->left, bytes, n, e) < 0 ||
		ws_walk(c->stack.fd[UPPER], "", take_entry, c, e) < 0)
		return -1;
	return take_leftovers(c, e);
}

int ws_overlay_patch(const struct ws_layout *lay, int out_fd, const struct ws_limits *lim,
	uint64_t *bytes, struct err *e)
{
	struct changes c = {0};
	const struct patch_source src = {open_side, &c};
	int ret = ws_stack_open(&c.stack, lay, true, e);

	if (ret < 0)
		return -1;
	ret = collect(&c, e);
	if (ret == 0) {
		drop_repeats(&c.list);
		ret = patch_write(&c.list, &src, out_fd, lim->patch_max_bytes, bytes, e);
	}
	patch_list_clear(&c.list);
	ws_index_clear(&c.left);
	ignore_free(c.ignore);
	ws_stack_close(&c.stack);
	return ret;
}

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/patch_name.h"
#include "fcgi/ws_compare.h"
#include "fcgi/ws_diff.h"
#include "fcgi/ws_file.h"
#include "fcgi/ws_overlay.h"
#include "fcgi/ws_side.h"
#include "fcgi/ws_stack.h"
#include "fcgi/ws_walk.h"
#include "isolate/own.h"

/* A patch in the making: the stack as it is, and the one it is compared with. */
struct changes {
	struct ws_stack now, old;
	unsigned common;         /* lowest layers that both have */
	int only;                /* the only layer of old whose files count, -1: all do */
	struct ws_index left;    /* with only: what layers below that one show */
	struct ws_compare plain; /* with by_index: the old files are those of its index */
	bool by_index;
	struct ignore_set *ignore;
	struct patch_list list; /* sides' at: place in now or old, or in plain.raw */
};

static bool in_patch(uint32_t type)
{
	return type == S_IFREG || type == S_IFLNK;
}

static int read_ignore(void *arg, const char *dir, struct buf *out, struct err *e)
{
	const struct changes *c = arg;
	OWN_MEM char *path = NULL;
	int layer;

	if (asprintf(&path, "%s%s.gitignore", dir, *dir ? "/" : "") < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "read a .gitignore");
	layer = ws_stack_find(&c->now, path);
	return layer < 0 ? 0 : ws_side_ignore(c->now.fd[layer], path, out, e);
}

/* The baseline's side of path. 1: it has one, 0: none, -1. */
static int old_side(
	const struct changes *c, const struct ws_diff_visit *v, struct patch_side *s, struct err *e)
{
	const struct ws_entry *en;

	if (c->by_index) {
		en = ws_index_find(&c->plain.index, v->path, strlen(v->path));
		if (!en || S_ISDIR(en->mode))
			return 0;
		return ws_compare_old(&c->plain, en, s, e) < 0 ? -1 : 1;
	}
	if (!in_patch(v->old.type) || (c->only >= 0 && v->old.layer != c->only))
		return 0;
	if (ws_side_path(s, c->old.fd[v->old.layer], v->path, e) < 0)
		return -1;
	s->at = v->old.layer;
	return 1;
}

static int take_file(struct changes *c, const struct ws_diff_visit *v, struct err *e)
{
	struct patch_side old = {0}, new = {0};
	bool kept = in_patch(v->new.type);
	int had = old_side(c, v, &old, e);

	if (had < 0)
		return -1;
	if (!had && kept) {
		int ignored = ignore_check(c->ignore, v->path, false, e);

		if (ignored)
			return ignored < 0 ? -1 : 0;
	}
	if (kept && ws_side_path(&new, c->now.fd[v->new.layer], v->path, e) < 0) {
		free(old.link);
		return -1;
	}
	new.at = kept ? v->new.layer : 0;
	return had || kept ? patch_add(&c->list, v->path, &old, &new, e) : 0;
}

static bool base_has_dir(const struct changes *c, const struct ws_diff_visit *v)
{
	size_t n = strlen(v->path);

	if (c->by_index)
		return ws_index_has_dir(&c->plain.index, v->path, n) ||
		       ws_index_find(&c->plain.index, v->path, n);
	if (c->only < 0)
		return v->old.type == S_IFDIR;
	return v->old_parts && memchr(v->old_part, c->only, v->old_parts);
}

static int take(void *arg, const struct ws_diff_visit *v, struct err *e)
{
	struct changes *c = arg;
	int ignored;

	if (patch_name_refused(v->name, strlen(v->name)))
		return 0;
	if (v->new.type != S_IFDIR || v->old.type != S_IFDIR)
		if (take_file(c, v, e) < 0)
			return -1;
	if (v->new.type != S_IFDIR)
		return v->old.type == S_IFDIR;
	if (base_has_dir(c, v)) /* what the baseline has is never ignored */
		return 1;
	ignored = ignore_check(c->ignore, v->path, true, e);
	return ignored < 0 ? -1 : !ignored;
}

/* Whether a layer that is above the old stack hides path. */
static bool hidden(const struct changes *c, const char *path)
{
	for (unsigned i = 0; i + c->common < c->now.n; i++)
		if (ws_stack_hides(c->now.fd[i], path))
			return true;
	return false;
}

static int take_leftover(struct changes *c, const char *path, struct err *e)
{
	struct patch_side old = {0}, new = {0};
	int layer, ignored;

	layer = hidden(c, path) ? -1 : ws_stack_find(&c->old, path);
	if (layer < 0 || layer == c->only)
		return 0;
	ignored = ignore_check(c->ignore, path, false, e);
	if (ignored)
		return ignored < 0 ? -1 : 0;
	if (ws_side_path(&new, c->old.fd[layer], path, e) < 0)
		return -1;
	new.at = (int64_t)(c->now.n - c->common) + layer;
	return patch_add(&c->list, path, &old, &new, e);
}

static int take_leftovers(struct changes *c, struct err *e)
{
	for (size_t i = 0; i < c->left.n; i++) {
		if (S_ISDIR(c->left.v[i].mode))
			return err_set(e, ERR_SETUP, 0, "the list of earlier files is damaged");
		if (take_leftover(c, c->left.v[i].path, e) < 0)
			return -1;
	}
	return 0;
}

/* One change that lies in the plain tree, as it is seen now. 1: it stays. */
static int seen_now(const struct changes *c, struct patch_change *ch)
{
	int tree = (int)c->now.n - 1, layer = ws_stack_find(&c->now, ch->path);
	struct stat st;

	if (layer == tree) {
		ch->new.at = tree;
		return 1;
	}
	if (layer >= 0 && ws_stat(c->now.fd[layer], ch->path, &st) == 0 &&
		in_patch(st.st_mode & S_IFMT))
		return 0; /* the comparison of the layers has it */
	free(ch->new.link);
	ch->new = (struct patch_side){0};
	return ch->old.mode != 0;
}

/* What changed in the plain tree while it was one, less what the layers above it changed since. */
static int take_plain(struct changes *c, struct err *e)
{
	struct patch_list *l = &c->plain.list;

	c->plain.ignore = c->ignore;
	if (ws_compare_run(&c->plain, e) < 0)
		return -1;
	for (size_t i = 0; i < l->n; i++) {
		struct patch_change *ch = &l->v[i];

		if (!seen_now(c, ch))
			continue;
		if (patch_add(&c->list, ch->path, &ch->old, &ch->new, e) < 0) {
			ch->old.link = ch->new.link = NULL;
			return -1;
		}
		ch->old.link = ch->new.link = NULL; /* taken over */
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

/* A file of the plain tree that is gone can be reported twice. */
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
	int fd;

	*offset = 0;
	if (newer)
		return ws_side_open(c->now.fd[ch->new.at], ch->path, e);
	if (!c->by_index)
		return ws_side_open(c->old.fd[ch->old.at], ch->path, e);
	*offset = (off_t)ch->old.at;
	fd = fcntl(c->plain.raw, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "read the raw file") : fd;
}

static int write_patch(
	struct changes *c, int out_fd, const struct ws_limits *lim, uint64_t *bytes, struct err *e)
{
	const struct patch_source src = {open_side, c};
	int ret;

	c->ignore = ignore_new(read_ignore, c);
	if (!c->ignore)
		return err_set(e, ERR_SETUP, ENOMEM, "make the patch");
	ret = ws_diff(&c->old, &c->now, c->common, take, c, e);
	if (ret == 0)
		ret = c->by_index ? take_plain(c, e) : take_leftovers(c, e);
	if (ret == 0) {
		drop_repeats(&c->list);
		ret = patch_write(&c->list, &src, out_fd, lim->patch_max_bytes, bytes, e);
	}
	patch_list_clear(&c->list);
	ignore_free(c->ignore);
	return ret;
}

/* The lowest n layers of now are what it is compared with. Descriptors stay now's. */
static void compare_with_lowest(struct changes *c, unsigned n)
{
	c->common = c->old.n = n;
	memcpy(c->old.fd, c->now.fd + c->now.n - n, n * sizeof c->old.fd[0]);
}

/* The files beside the archive's layer, which lies in dir. */
static int read_left(struct changes *c, int dir, struct err *e)
{
	char *bytes = NULL;
	size_t n = 0;

	c->only = 0;
	if (ws_file_read_at(dir, "left.idx", &bytes, &n, e) < 0)
		return -1;
	return ws_index_parse(&c->left, bytes, n, e);
}

static int find_base(
	struct changes *c, const struct ws_layout *lay, const int *shared, struct err *e)
{
	unsigned at = lay->base_at;

	if (lay->nlowers) {
		compare_with_lowest(c, lay->nlowers + lay->shared.n);
		return read_left(c, AT_FDCWD, e);
	}
	compare_with_lowest(c, at);
	switch (lay->base_kind) {
	case WS_BASE_ARCHIVE:
		return read_left(c, shared[lay->shared.n - at], e);
	case WS_BASE_INDEX:
		c->by_index = true;
		return ws_compare_open(&c->plain, shared[lay->shared.n - at], "fs", e);
	default:
		return 0;
	}
}

static const struct changes no_changes = {.only = -1, .plain = {.tree = -1, .raw = -1}};

int ws_overlay_patch(const struct ws_layout *lay, const int *shared, int out_fd,
	const struct ws_limits *lim, uint64_t *bytes, struct err *e)
{
	struct changes c = no_changes;
	int ret = ws_stack_open(&c.now, lay, shared, true, e);

	if (ret < 0)
		return -1;
	ret = find_base(&c, lay, shared, e);
	if (ret == 0)
		ret = write_patch(&c, out_fd, lim, bytes, e);
	ws_index_clear(&c.left);
	ws_compare_clear(&c.plain);
	ws_stack_close(&c.now);
	return ret;
}

/* How many of the lowest layers are the same in both. */
static unsigned count_common(const struct ws_layers *a, const struct ws_layers *b)
{
	unsigned n = 0;

	while (n < a->n && n < b->n &&
		!memcmp(a->id[a->n - 1 - n], b->id[b->n - 1 - n], WS_LAYER_ID))
		n++;
	return n;
}

int ws_patch_since(const struct ws_layout *lay, const int *shared, const struct ws_layers *mark,
	const int *mark_fd, int out_fd, const struct ws_limits *lim, uint64_t *bytes, struct err *e)
{
	struct changes c = no_changes;
	int ret;

	*bytes = 0;
	if (!ws_layout_valid(lay) || mark->n > WS_LAYERS_MAX)
		return err_set(e, ERR_BUG, 0, "the workspace's layout is out of range");
	ret = ws_stack_open(&c.now, lay, shared, true, e);
	if (ret == 0)
		ret = ws_stack_add(&c.old, mark_fd, mark->n, e);
	c.common = count_common(&lay->shared, mark);
	if (ret == 0)
		ret = write_patch(&c, out_fd, lim, bytes, e);
	ws_stack_close(&c.old);
	ws_stack_close(&c.now);
	return ret;
}

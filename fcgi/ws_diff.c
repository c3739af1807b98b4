#include "fcgi/ws_diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/ws_walk.h"
#include "isolate/buf.h"
#include "isolate/own.h"

/* The layers of one stack that have a part in a directory, topmost first, down to an opaque one. */
struct part {
	unsigned n;
	unsigned char layer[WS_STACK_MAX];
};

/* A directory still to be compared. */
struct pair {
	struct pair *next;
	struct part side[2];
	char path[];
};

struct diff {
	const struct ws_stack *stack[2];
	unsigned common;
	ws_diff_fn *fn;
	void *arg;
	struct pair *todo;
};

/* One directory: its descriptors, in the order of the parts, and the names to look at. */
struct reading {
	int fd[2][WS_STACK_MAX];
	struct buf names; /* each with its NUL */
	size_t n;
};

static int no_memory(struct err *e)
{
	return err_set(e, ERR_SETUP, ENOMEM, "compare the layers of the workspace");
}

static int failed(struct err *e)
{
	return err_set(e, ERR_SETUP, errno, "compare the layers of the workspace");
}

static bool is_common(const struct diff *d, unsigned side, unsigned layer)
{
	return layer + d->common >= d->stack[side]->n;
}

/* Whether both sides see the same common layers in this directory. */
static bool same_below(const struct diff *d, const struct pair *p)
{
	unsigned n[2] = {0, 0};

	for (unsigned s = 0; s < 2; s++)
		while (n[s] < p->side[s].n &&
			is_common(d, s, p->side[s].layer[p->side[s].n - 1 - n[s]]))
			n[s]++;
	if (n[0] != n[1])
		return false;
	for (unsigned i = 1; i <= n[0]; i++)
		if (d->stack[0]->n - p->side[0].layer[p->side[0].n - i] !=
			d->stack[1]->n - p->side[1].layer[p->side[1].n - i])
			return false;
	return true;
}

static int note_name(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	struct reading *r = arg;

	(void)dirfd, (void)type;
	r->n++;
	return buf_add(&r->names, name, strlen(name) + 1) < 0 ? no_memory(e) : 0;
}

static int open_all(const struct diff *d, const struct pair *p, struct reading *r, struct err *e)
{
	bool skip = same_below(d, p);

	for (unsigned s = 0; s < 2; s++)
		for (unsigned i = 0; i < p->side[s].n; i++) {
			unsigned layer = p->side[s].layer[i];
			int fd = ws_open(d->stack[s]->fd[layer], p->path, O_RDONLY | O_DIRECTORY);

			r->fd[s][i] = fd;
			if (fd < 0)
				return failed(e);
			if (skip && is_common(d, s, layer))
				continue;
			if (ws_names(fd, note_name, r, e) < 0)
				return -1;
		}
	return 0;
}

static bool fd_is_opaque(int dirfd, const char *name)
{
	OWN_FD fd = ws_open(dirfd, name, O_RDONLY | O_DIRECTORY);

	return fd >= 0 && ws_is_opaque(fd, "") == 1;
}

/*
 * Finds name on one side: the topmost layer that has it decides. down: of a directory, the layers
 * that have a part in it.
 */
static int find_side(const struct part *p, const int *fd, const char *name,
	struct ws_diff_side *out, struct part *down, struct stat *st, struct err *e)
{
	*out = (struct ws_diff_side){.layer = -1};
	down->n = 0;
	for (unsigned i = 0; i < p->n; i++) {
		struct stat now;

		if (fstatat(fd[i], name, &now, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno != ENOENT)
				return failed(e);
			continue;
		}
		if (down->n == 0 && !ws_is_whiteout(&now)) {
			*out = (struct ws_diff_side){p->layer[i], now.st_mode & S_IFMT};
			*st = now;
		}
		if (!S_ISDIR(now.st_mode))
			return 0;
		down->layer[down->n++] = p->layer[i];
		if (i + 1 < p->n && fd_is_opaque(fd[i], name))
			return 0;
	}
	return 0;
}

static int push(struct diff *d, const char *path, const struct part side[2], struct err *e)
{
	struct pair *p = malloc(sizeof *p + strlen(path) + 1);

	if (!p)
		return no_memory(e);
	p->side[0] = side[0];
	p->side[1] = side[1];
	strcpy(p->path, path);
	p->next = d->todo;
	d->todo = p;
	return 0;
}

static int visit(struct diff *d, const struct pair *p, const struct reading *r, const char *name,
	struct err *e)
{
	struct part down[2];
	struct ws_diff_side side[2];
	struct stat st[2];
	OWN_MEM char *path = NULL;
	struct ws_diff_visit v = {.name = name};
	int ret;

	for (unsigned s = 0; s < 2; s++)
		if (find_side(&p->side[s], r->fd[s], name, &side[s], &down[s], &st[s], e) < 0)
			return -1;
	if (side[0].layer < 0 && side[1].layer < 0)
		return 0;
	/* also the same by a hard link in a joined layer */
	if (side[0].type == side[1].type && side[0].type != S_IFDIR &&
		st[0].st_ino == st[1].st_ino && st[0].st_dev == st[1].st_dev)
		return 0;
	if (strlen(p->path) + 1 + strlen(name) > WS_PATH_MAX)
		return 0;
	if (asprintf(&path, "%s%s%s", p->path, *p->path ? "/" : "", name) < 0)
		return no_memory(e);
	v.path = path;
	v.old = side[0];
	v.new = side[1];
	v.old_part = down[0].layer;
	v.old_parts = down[0].n;
	ret = d->fn(d->arg, &v, e);
	if (ret > 0 && (down[0].n || down[1].n))
		return push(d, path, down, e);
	return ret < 0 ? -1 : 0;
}

static int cmp_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int visit_all(struct diff *d, const struct pair *p, const struct reading *r, struct err *e)
{
	OWN_MEM const char **v = calloc(r->n + 1, sizeof *v);
	const char *at = r->names.p;

	if (!v)
		return no_memory(e);
	for (size_t i = 0; i < r->n; i++, at += strlen(at) + 1)
		v[i] = at;
	qsort(v, r->n, sizeof *v, cmp_name);
	for (size_t i = 0; i < r->n; i++)
		if ((i == 0 || strcmp(v[i], v[i - 1]) != 0) && visit(d, p, r, v[i], e) < 0)
			return -1;
	return 0;
}

static int compare_dir(struct diff *d, const struct pair *p, struct err *e)
{
	OWN_MEM struct reading *r = malloc(sizeof *r);
	int ret;

	if (!r)
		return no_memory(e);
	memset(r->fd, -1, sizeof r->fd);
	r->names = BUF_INIT((size_t)1 << 30);
	r->n = 0;
	ret = open_all(d, p, r, e);
	if (ret == 0 && r->n)
		ret = visit_all(d, p, r, e);
	buf_clear(&r->names);
	for (unsigned s = 0; s < 2; s++)
		for (unsigned i = 0; i < p->side[s].n; i++)
			own_close(&r->fd[s][i]);
	return ret;
}

int ws_diff(const struct ws_stack *old, const struct ws_stack *new, unsigned common, ws_diff_fn *fn,
	void *arg, struct err *e)
{
	struct diff d = {.stack = {old, new}, .common = common, .fn = fn, .arg = arg};
	struct part all[2];
	int ret;

	for (unsigned s = 0; s < 2; s++) {
		all[s].n = d.stack[s]->n;
		for (unsigned i = 0; i < all[s].n; i++)
			all[s].layer[i] = (unsigned char)i;
	}
	ret = push(&d, "", all, e);
	while (d.todo) {
		struct pair *p = d.todo;

		d.todo = p->next;
		if (ret == 0)
			ret = compare_dir(&d, p, e);
		free(p);
	}
	return ret;
}

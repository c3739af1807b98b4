#include "fcgi/ws_stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "fcgi/ws_walk.h"
#include "isolate/buf.h"
#include "isolate/own.h"

/* A directory to be read: where, and the layers that have a part in it, top first. */
struct joint {
	char *path;
	unsigned n;
	unsigned char layer[WS_STACK_MAX];
};

/* One name in one layer. */
struct found {
	char *name;
	uint32_t type; /* S_IFMT bits; 0 is a whiteout */
	unsigned layer;
};

struct reading {
	struct found *v;
	size_t n, cap;
	unsigned layer;
};

struct stack_walk {
	const struct ws_stack *stack;
	ws_seen_fn *fn;
	void *arg;
	bool all; /* whiteouts too */
	struct joint **todo;
	size_t n, cap;
};

const char *ws_stack_name(int32_t k, char out[WS_NAME_MAX])
{
	if (k == 0)
		snprintf(out, WS_NAME_MAX, "tree");
	else if (k > 0)
		snprintf(out, WS_NAME_MAX, "layer-%d", k);
	else
		snprintf(out, WS_NAME_MAX, "upper-%u", 0u - (unsigned)k);
	return out;
}

static int add_named(struct ws_stack *s, int at, const char *name, struct err *e)
{
	int fd = s->n < WS_STACK_MAX ? ws_open(at, name, O_RDONLY | O_DIRECTORY) : -1;

	if (fd < 0) {
		err_set(e, ERR_SETUP, errno, "open \"%s\" of the workspace", name);
		ws_stack_close(s);
		return -1;
	}
	s->fd[s->n++] = fd;
	return 0;
}

int ws_stack_add(struct ws_stack *s, const int *shared, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++)
		if (add_named(s, shared[i], "fs", e) < 0)
			return -1;
	return 0;
}

int ws_stack_open(struct ws_stack *s, const struct ws_layout *lay, const int *shared,
	bool with_upper, struct err *e)
{
	bool upper = with_upper && lay->form == WS_OVERLAY;
	char name[WS_NAME_MAX];

	s->n = 0;
	if (upper && add_named(s, AT_FDCWD, ws_stack_name(-(int32_t)lay->top, name), e) < 0)
		return -1;
	for (unsigned i = 0; i < lay->nlowers; i++)
		if (add_named(s, AT_FDCWD, ws_stack_name(lay->lower[i], name), e) < 0)
			return -1;
	if (lay->form != WS_OVERLAY)
		return add_named(s, AT_FDCWD, ws_stack_name(0, name), e);
	return ws_stack_add(s, shared, lay->shared.n, e);
}

void ws_stack_close(struct ws_stack *s)
{
	for (unsigned i = 0; i < s->n; i++)
		own_close(&s->fd[i]);
	s->n = 0;
}

bool ws_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static bool fd_is_opaque(int fd)
{
	char v[2];

	return fgetxattr(fd, "user.overlay.opaque", v, sizeof v) == 1 && v[0] == 'y';
}

int ws_is_opaque(int root, const char *path)
{
	OWN_FD fd = ws_open(root, path, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? -1 : fd_is_opaque(fd);
}

enum seen_as { SEEN_NOTHING, SEEN_HERE, SEEN_HIDDEN };

/* What one layer says of path: a descent by descriptors, so that depth costs its length once. */
static enum seen_as look(int root, const char *path)
{
	OWN_MEM char *parts = strdup(path);
	OWN_FD at = -1;
	bool opaque = false;
	struct stat st;

	for (char *p = parts, *next; p; p = next) {
		int dir = at < 0 ? root : at, fd;

		next = strchr(p, '/');
		if (next)
			*next++ = '\0';
		if (fstatat(dir, p, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return opaque ? SEEN_HIDDEN : SEEN_NOTHING;
		if (!next)
			return ws_is_whiteout(&st) ? SEEN_HIDDEN : SEEN_HERE;
		fd = S_ISDIR(st.st_mode) ? ws_open(dir, p, O_RDONLY | O_DIRECTORY) : -1;
		if (fd < 0)
			return SEEN_HIDDEN;
		opaque = opaque || fd_is_opaque(fd);
		own_close(&at);
		at = fd;
	}
	return SEEN_NOTHING;
}

int ws_stack_find(const struct ws_stack *s, const char *path)
{
	struct stat st;
	bool any = false;

	/* One call a layer settles the usual question: is there such a file anywhere at all? */
	for (unsigned i = 0; i < s->n && !any; i++)
		any = ws_stat(s->fd[i], path, &st) == 0;
	for (unsigned i = 0; any && i < s->n; i++) {
		enum seen_as r = look(s->fd[i], path);

		if (r != SEEN_NOTHING)
			return r == SEEN_HERE ? (int)i : -1;
	}
	return -1;
}

bool ws_stack_hides(int upper, const char *path)
{
	return look(upper, path) != SEEN_NOTHING;
}

static int no_memory(struct err *e)
{
	return err_set(e, ERR_SETUP, ENOMEM, "join the layers of the workspace");
}

static int note_name(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	struct reading *r = arg;
	struct stat st;

	if (type == S_IFCHR) {
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_set(e, ERR_SETUP, errno, "look at a whiteout");
		type = ws_is_whiteout(&st) ? 0 : S_IFCHR;
	}
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 64;
		struct found *v = reallocarray(r->v, cap, sizeof *v);

		if (!v)
			return no_memory(e);
		r->v = v;
		r->cap = cap;
	}
	r->v[r->n] = (struct found){strdup(name), type, r->layer};
	return r->v[r->n].name ? (r->n++, 0) : no_memory(e);
}

static int cmp_found(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	int d = strcmp(x->name, y->name);

	return d ? d : (int)x->layer - (int)y->layer;
}

static int push(struct stack_walk *w, const char *path, const unsigned char *layer, unsigned n,
	struct err *e)
{
	struct joint *j = calloc(1, sizeof *j);

	if (j)
		j->path = strdup(path);
	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		struct joint **v = reallocarray(w->todo, cap, sizeof *v);

		if (v) {
			w->todo = v;
			w->cap = cap;
		}
	}
	if (!j || !j->path || w->n == w->cap) {
		if (j)
			free(j->path);
		free(j);
		return no_memory(e);
	}
	j->n = n;
	memcpy(j->layer, layer, n);
	w->todo[w->n++] = j;
	return 0;
}

/* The layers of the directory path among the finds of its name, down to an opaque one. */
static unsigned join_layers(const struct stack_walk *w, const char *path, const struct found *f,
	size_t n, unsigned char *layer, bool *opaque)
{
	unsigned k = 0;

	*opaque = false;
	for (size_t i = 0; i < n && f[i].type == S_IFDIR && !*opaque; i++) {
		layer[k++] = (unsigned char)f[i].layer;
		if (w->all || i + 1 < n)
			*opaque = ws_is_opaque(w->stack->fd[f[i].layer], path) == 1;
	}
	/* what is no directory hides those below it as well */
	*opaque = *opaque || (k > 0 && k < n);
	return k;
}

/* One name, which n layers have: the topmost decides. */
static int visit_name(
	struct stack_walk *w, const char *dir, const struct found *f, size_t n, struct err *e)
{
	struct ws_seen v = {.type = f->type, .layer = f->layer, .shared = false};
	unsigned char layer[WS_STACK_MAX];
	OWN_MEM char *path = NULL;
	unsigned k = 0;
	int ret;

	if ((f->type == 0 && !w->all) || strlen(dir) + 1 + strlen(f->name) > WS_PATH_MAX)
		return 0;
	if (asprintf(&path, "%s%s%s", dir, *dir ? "/" : "", f->name) < 0)
		return no_memory(e);
	if (f->type == S_IFDIR)
		k = join_layers(w, path, f, n, layer, &v.opaque);
	v.path = path;
	v.shared = k > 1 || v.layer > 0;
	ret = w->fn(w->arg, &v, e);
	if (ret > 0 && k)
		ret = push(w, path, layer, k, e);
	return ret < 0 ? -1 : 0;
}

static int read_joint(struct stack_walk *w, const struct joint *j, struct err *e)
{
	struct reading r = {0};
	int ret = 0;

	for (unsigned i = 0; i < j->n && ret == 0; i++) {
		OWN_FD fd = ws_open(w->stack->fd[j->layer[i]], j->path, O_RDONLY | O_DIRECTORY);

		r.layer = j->layer[i];
		ret = fd < 0 ? err_set(e, ERR_SETUP, errno, "open a directory of the workspace")
			     : ws_names(fd, note_name, &r, e);
	}
	if (ret == 0 && r.n)
		qsort(r.v, r.n, sizeof *r.v, cmp_found);
	for (size_t i = 0, k; ret == 0 && i < r.n; i = k) {
		for (k = i + 1; k < r.n && !strcmp(r.v[k].name, r.v[i].name);)
			k++;
		ret = visit_name(w, j->path, &r.v[i], k - i, e);
	}
	while (r.n)
		free(r.v[--r.n].name);
	free(r.v);
	return ret;
}

static int walk_stack(
	const struct ws_stack *s, bool whiteouts, ws_seen_fn *fn, void *arg, struct err *e)
{
	struct stack_walk w = {.stack = s, .fn = fn, .arg = arg, .all = whiteouts};
	unsigned char all[WS_STACK_MAX];
	int ret;

	for (unsigned i = 0; i < s->n; i++)
		all[i] = (unsigned char)i;
	ret = push(&w, "", all, s->n, e);
	while (w.n) {
		struct joint *j = w.todo[--w.n];

		if (ret == 0)
			ret = read_joint(&w, j, e);
		free(j->path);
		free(j);
	}
	free(w.todo);
	return ret;
}

int ws_stack_walk(const struct ws_stack *s, ws_seen_fn *fn, void *arg, struct err *e)
{
	return walk_stack(s, false, fn, arg, e);
}

int ws_stack_walk_all(const struct ws_stack *s, ws_seen_fn *fn, void *arg, struct err *e)
{
	return walk_stack(s, true, fn, arg, e);
}

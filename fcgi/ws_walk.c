#include "fcgi/ws_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/beneath.h"
#include "isolate/buf.h"
#include "isolate/own.h"

enum { NAMES_BUF = 32768 };

struct walk {
	int root;
	ws_enter_fn *enter;
	ws_visit_fn *fn;
	void *arg;
	struct ws_paths todo; /* directories still to be read */
	size_t dirlen;        /* of the directory being read, with its slash */
	char path[WS_PATH_MAX + 1];
};

int ws_open(int root, const char *path, int flags)
{
	return beneath_open(root, path, flags | O_NOFOLLOW, BENEATH_NO_LINKS);
}

int ws_stat(int root, const char *path, struct stat *st)
{
	OWN_FD fd = ws_open(root, path, O_PATH);

	return fd < 0 ? -1 : fstatat(fd, "", st, AT_EMPTY_PATH);
}

char *ws_readlink(int dirfd, const char *name, size_t size)
{
	char *to = malloc(size + 1);
	ssize_t n = to ? readlinkat(dirfd, name, to, size + 1) : -1;

	if (n < 0 || (size_t)n > size) {
		free(to);
		return NULL;
	}
	to[n] = '\0';
	return to;
}

static uint32_t entry_type(int dirfd, const struct dirent64 *d)
{
	struct stat st;

	if (d->d_type != DT_UNKNOWN)
		return (uint32_t)DTTOIF(d->d_type);
	return fstatat(dirfd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode & S_IFMT;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

int ws_names(int dirfd, ws_name_fn *fn, void *arg, struct err *e)
{
	_Alignas(struct dirent64) char buf[NAMES_BUF];

	for (;;) {
		ssize_t n = getdents64(dirfd, buf, sizeof buf);

		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read a directory");
		if (n == 0)
			return 0;
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			at += d->d_reclen;
			if (is_dots(d->d_name))
				continue;
			if (fn(arg, dirfd, d->d_name, entry_type(dirfd, d), e) < 0)
				return -1;
		}
	}
}

int ws_paths_push(struct ws_paths *p, const char *path, struct err *e)
{
	char *copy = strdup(path);

	if (p->n == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 64;
		char **v = reallocarray(p->v, cap, sizeof *v);

		if (!v) {
			free(copy);
			return err_set(e, ERR_SETUP, ENOMEM, "walk a tree");
		}
		p->v = v;
		p->cap = cap;
	}
	if (!copy)
		return err_set(e, ERR_SETUP, ENOMEM, "walk a tree");
	p->v[p->n++] = copy;
	return 0;
}

char *ws_paths_pop(struct ws_paths *p)
{
	return p->n ? p->v[--p->n] : NULL;
}

void ws_paths_clear(struct ws_paths *p)
{
	while (p->n)
		free(ws_paths_pop(p));
	free(p->v);
	*p = (struct ws_paths){.n = 0};
}

static int visit_name(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	struct walk *w = arg;
	size_t n = strlen(name);
	struct ws_visit v = {.dirfd = dirfd, .path = w->path, .name = name, .type = type};
	int ret;

	if (n > sizeof w->path - 1 - w->dirlen)
		return 0;
	memcpy(w->path + w->dirlen, name, n + 1);
	v.len = w->dirlen + n;
	ret = w->fn(w->arg, &v, e);
	if (ret > 0 && type == S_IFDIR)
		return ws_paths_push(&w->todo, w->path, e);
	return ret < 0 ? -1 : 0;
}

static int enter_quiet(int root, const char *dir, struct err *e)
{
	int fd = ws_open(root, dir, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	char shown[80];

	return fd >= 0 ? fd
		       : err_set(e, ERR_SETUP, errno, "open the directory %s",
				 quote(dir, strlen(dir), shown, sizeof shown));
}

static int walk_dir(struct walk *w, const char *dir, struct err *e)
{
	OWN_FD fd = w->enter(w->root, dir, e);
	size_t n = strlen(dir);

	if (fd < 0)
		return fd == WS_PASS_OVER ? 0 : -1;
	memcpy(w->path, dir, n);
	if (n)
		w->path[n++] = '/';
	w->dirlen = n;
	if (ws_names(fd, visit_name, w, e) == 0)
		return 0;
	/* where others are at work it may be removed while it is read */
	return w->enter != enter_quiet && e->kind == ERR_SETUP && e->errnum == ENOENT ? 0 : -1;
}

int ws_walk(int root, const char *start, ws_visit_fn *fn, void *arg, struct err *e)
{
	return ws_walk_with(root, start, enter_quiet, fn, arg, e);
}

int ws_walk_with(
	int root, const char *start, ws_enter_fn *enter, ws_visit_fn *fn, void *arg, struct err *e)
{
	struct walk w = {.root = root, .enter = enter, .fn = fn, .arg = arg};
	int ret = ws_paths_push(&w.todo, start, e);

	while (ret == 0 && w.todo.n) {
		OWN_MEM char *dir = ws_paths_pop(&w.todo);

		if (strlen(dir) < WS_PATH_MAX - 1)
			ret = walk_dir(&w, dir, e);
	}
	ws_paths_clear(&w.todo);
	return ret;
}

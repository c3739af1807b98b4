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
	ws_visit_fn *fn;
	void *arg;
	char **todo; /* directories still to be read: a stack of heap strings */
	size_t n, cap;
	size_t dirlen; /* of the directory being read, with its slash */
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

static int push(struct walk *w, const char *path, struct err *e)
{
	char *copy = strdup(path);

	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		char **v = reallocarray(w->todo, cap, sizeof *v);

		if (!v) {
			free(copy);
			return err_set(e, ERR_SETUP, ENOMEM, "walk a tree");
		}
		w->todo = v;
		w->cap = cap;
	}
	if (!copy)
		return err_set(e, ERR_SETUP, ENOMEM, "walk a tree");
	w->todo[w->n++] = copy;
	return 0;
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
		return push(w, w->path, e);
	return ret < 0 ? -1 : 0;
}

static int walk_dir(struct walk *w, const char *dir, struct err *e)
{
	OWN_FD fd = ws_open(w->root, dir, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	size_t n = strlen(dir);
	char shown[80];

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open the directory %s",
			quote(dir, n, shown, sizeof shown));
	memcpy(w->path, dir, n);
	if (n)
		w->path[n++] = '/';
	w->dirlen = n;
	return ws_names(fd, visit_name, w, e);
}

int ws_walk(int root, const char *start, ws_visit_fn *fn, void *arg, struct err *e)
{
	struct walk w = {.root = root, .fn = fn, .arg = arg};
	int ret = push(&w, start, e);

	while (ret == 0 && w.n) {
		OWN_MEM char *dir = w.todo[--w.n];

		if (strlen(dir) < WS_PATH_MAX - 1)
			ret = walk_dir(&w, dir, e);
	}
	while (w.n)
		free(w.todo[--w.n]);
	free(w.todo);
	return ret;
}

#include "fcgi/ws_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/ws_walk.h"
#include "isolate/buf.h"
#include "isolate/own.h"

/* A file of several names, by its inode. */
struct named {
	dev_t dev;
	ino_t ino;
	char *path; /* of the first copy */
};

struct copying {
	int from, to;
	int dir; /* of the copy: where the last entry went, and what it is called, with its slash */
	size_t dir_len;
	char dir_path[WS_PATH_MAX + 1];
	void *names; /* tsearch(3) of struct named */
	ws_copied_fn *fn;
	void *arg;
};

static int failed(const char *path, struct err *e)
{
	char shown[80];

	return err_set(e, ERR_SETUP, errno, "copy %s",
		quote(*path ? path : "/", strlen(path) + !*path, shown, sizeof shown));
}

int ws_copy_data(int in, int out, off_t at, off_t size)
{
	for (off_t from = 0; from < size;) {
		off_t begin = lseek(in, from, SEEK_DATA), end;

		if (begin < 0 && errno == ENXIO)
			break; /* a hole up to the end */
		end = begin < 0 ? -1 : lseek(in, begin, SEEK_HOLE);
		if (end < 0)
			return -1;
		end = end < size ? end : size;
		for (off_t i = begin, o = at + begin; i < end;) {
			ssize_t n = copy_file_range(in, &i, out, &o, (size_t)(end - i), 0);

			if (n == 0)
				errno = EIO;
			if (n <= 0)
				return -1;
		}
		from = end;
	}
	return ftruncate(out, at + size);
}

static int cmp_named(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void free_named(void *p)
{
	struct named *n = p;

	free(n->path);
	free(n);
}

/* The path of the copy that there is already; NULL: none, and path is noted. *bad: no memory. */
static const char *first_name(struct copying *c, const struct stat *st, const char *path, bool *bad)
{
	struct named *n = calloc(1, sizeof *n), **at;

	*bad = !n;
	if (!n)
		return NULL;
	*n = (struct named){st->st_dev, st->st_ino, strdup(path)};
	at = n->path ? tsearch(n, &c->names, cmp_named) : NULL;
	*bad = !at;
	if (at && *at == n)
		return NULL;
	free_named(n);
	return at ? (*at)->path : NULL;
}

static int copy_regular(
	struct copying *c, const struct ws_visit *v, const struct stat *st, int to, struct err *e)
{
	OWN_FD in = openat(v->dirfd, v->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	OWN_FD out = openat(to, v->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (in < 0 || out < 0 || ws_copy_data(in, out, 0, st->st_size) < 0 ||
		fchmod(out, st->st_mode & 07777) < 0)
		return failed(v->path, e);
	return c->fn ? c->fn(c->arg, v->path, st, out, e) : 0;
}

/* One more name. Returns 1 when there was a first, 0, or -1. */
static int link_name(
	struct copying *c, const struct ws_visit *v, const struct stat *st, int to, struct err *e)
{
	bool bad;
	const char *path = first_name(c, st, v->path, &bad);
	OWN_FD fd = -1;

	if (!path)
		return bad ? err_set(e, ERR_SETUP, ENOMEM, "copy a tree") : 0;
	if (linkat(c->to, path, to, v->name, 0) < 0)
		return failed(v->path, e);
	fd = openat(to, v->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed(v->path, e);
	return c->fn && c->fn(c->arg, v->path, st, fd, e) < 0 ? -1 : 1;
}

static int copy_link(
	struct copying *c, const struct ws_visit *v, const struct stat *st, int to, struct err *e)
{
	OWN_MEM char *target = ws_readlink(v->dirfd, v->name, (size_t)st->st_size);

	if (!target || symlinkat(target, to, v->name) < 0)
		return failed(v->path, e);
	return c->fn ? c->fn(c->arg, v->path, st, -1, e) : 0;
}

static int copy_kind(
	struct copying *c, const struct ws_visit *v, const struct stat *st, int to, struct err *e)
{
	int ret = 0;

	switch (st->st_mode & S_IFMT) {
	case S_IFDIR:
		return mkdirat(to, v->name, 0700) < 0 ? failed(v->path, e) : 0;
	case S_IFREG:
		ret = st->st_nlink > 1 ? link_name(c, v, st, to, e) : 0;
		return ret ? (ret < 0 ? -1 : 0) : copy_regular(c, v, st, to, e);
	case S_IFLNK:
		return copy_link(c, v, st, to, e);
	case S_IFIFO:
	case S_IFSOCK:
		return mknodat(to, v->name, st->st_mode, 0) < 0 ? failed(v->path, e) : 0;
	default:
		return 0; /* a device, which no tenant can make but the one that means "not there" */
	}
}

/* The directory of the copy that an entry goes into. Most follow one another in the same. */
static int open_parent(struct copying *c, const struct ws_visit *v)
{
	size_t n = v->len - strlen(v->name);

	if (c->dir < 0 || n != c->dir_len || memcmp(v->path, c->dir_path, n) != 0) {
		memcpy(c->dir_path, v->path, n);
		c->dir_path[n ? n - 1 : 0] = '\0'; /* its slash */
		own_close(&c->dir);
		c->dir = ws_open(c->to, c->dir_path, O_PATH | O_DIRECTORY);
		memcpy(c->dir_path, v->path, n);
		c->dir_len = n;
	}
	return c->dir;
}

static int copy_entry(void *arg, const struct ws_visit *v, struct err *e)
{
	struct copying *c = arg;
	struct timespec times[2];
	struct stat st;
	int to;

	if (v->len + NAME_MAX >= WS_PATH_MAX) /* the walk would leave out what is longer */
		return err_set(e, ERR_LIMIT, 0, "a path of the session is too long to be copied");
	to = open_parent(c, v);
	if (to < 0 || fstatat(v->dirfd, v->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(v->path, e);
	if (copy_kind(c, v, &st, to, e) < 0)
		return -1;
	if (S_ISDIR(st.st_mode))
		return 1;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (utimensat(to, v->name, times, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
		return failed(v->path, e);
	return 0;
}

/* Directories get their modes and times when nothing is made in them any more. */
static int settle(int to, const char *path, const struct stat *st, struct err *e)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	OWN_FD fd = ws_open(to, path, O_RDONLY | O_DIRECTORY);

	return fd < 0 || fchmod(fd, st->st_mode & 07777) < 0 || futimens(fd, times) < 0
		       ? failed(path, e)
		       : 0;
}

static int settle_dir(void *arg, const struct ws_visit *v, struct err *e)
{
	const struct copying *c = arg;
	struct stat st;

	if (v->type != S_IFDIR)
		return 0;
	if (fstatat(v->dirfd, v->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(v->path, e);
	return settle(c->to, v->path, &st, e) < 0 ? -1 : 1;
}

int ws_copy_tree(int from, int to, ws_copied_fn *fn, void *arg, struct err *e)
{
	struct copying c = {.from = from, .to = to, .dir = -1, .fn = fn, .arg = arg};
	struct stat st;
	int ret = ws_walk(from, "", copy_entry, &c, e);

	own_close(&c.dir);
	tdestroy(c.names, free_named);
	if (ret < 0 || ws_walk(from, "", settle_dir, &c, e) < 0)
		return -1;
	return fstat(from, &st) < 0 ? failed("", e) : settle(to, "", &st, e);
}

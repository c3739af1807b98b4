/*
 * The walk keeps one descriptor and climbs by "..", and goes on only when that is where it came from: beside
 * a sandbox that runs, a directory may be moved while we are in it. A directory is left only when it is
 * empty, so every return reads what is left of it.
 */
#include "images/rmtree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/own.h"

/* Opens a directory; one of ours that has no r, w or x for us gets them. */
static int open_directory(int dirfd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);

	if (fd >= 0 && faccessat(fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) == 0)
		return fd;
	if (fd >= 0) {
		if (fchmod(fd, 0700) < 0) {
			own_close(&fd);
			return -1;
		}
		return fd;
	}
	if (errno != EACCES)
		return -1;
	/* The directory is not readable, so it cannot be opened to chmod what was opened; a quiet
	 * tree cannot put a link in its place in between. */
	if (fchmodat(dirfd, name, 0700, 0) < 0)
		return -1;
	return openat(dirfd, name, flags);
}

/*
 * Removes what can be removed from the directory fd. 0: it is empty; 1: *child is a directory
 * with contents; -1: errno.
 */
static int empty_directory(int fd, char child[256])
{
	OWN_DIR d = NULL;
	OWN_FD copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *ent;
	bool dir;

	d = copy < 0 ? NULL : fdopendir(copy);
	if (!d)
		return -1;
	take_fd(&copy);
	while (errno = 0, ent = readdir(d)) {
		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		dir = ent->d_type == DT_DIR;
		if (unlinkat(fd, ent->d_name, dir ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT)
			continue;
		if (!dir && errno == EISDIR &&
			unlinkat(fd, ent->d_name, AT_REMOVEDIR) == 0) /* d_type was unknown */
			continue;
		if (errno != ENOTEMPTY && errno != EEXIST && errno != EISDIR)
			return -1;
		memcpy(child, ent->d_name, strlen(ent->d_name) + 1);
		return 1;
	}
	return errno ? -1 : 0;
}

struct step {
	dev_t dev;
	ino_t ino;
};

/* The directories above the one in hand. */
struct trail {
	struct step *v;
	size_t n, cap;
};

static void trail_clear(struct trail *t)
{
	free(t->v);
}

static int trail_push(struct trail *t, int fd)
{
	struct stat st;

	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 32;
		struct step *v = reallocarray(t->v, cap, sizeof *v);

		if (!v)
			return -1;
		t->v = v;
		t->cap = cap;
	}
	if (fstat(fd, &st) < 0)
		return -1;
	t->v[t->n++] = (struct step){st.st_dev, st.st_ino};
	return 0;
}

/* Opens the directory above fd when it is the last of the trail, and takes that off. */
static int climb(struct trail *t, int fd)
{
	const struct step *s = &t->v[--t->n];
	OWN_FD up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (up < 0 || fstat(up, &st) < 0)
		return -1;
	if (st.st_dev != s->dev || st.st_ino != s->ino) {
		errno = ESTALE;
		return -1;
	}
	return take_fd(&up);
}

static int remove_below(int top, struct err *e)
{
	OWN_FD cur = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__attribute__((cleanup(trail_clear))) struct trail t = {.v = NULL};
	char child[256];
	int next, r;

	while (cur >= 0) {
		r = empty_directory(cur, child);
		if (r < 0)
			return err_set(e, ERR_SETUP, errno, "remove what a directory holds");
		if (r == 0 && t.n == 0)
			return 0;
		if (r == 1 && trail_push(&t, cur) < 0)
			return err_set(e, ERR_SETUP, errno, "remember a directory");
		next = r == 0 ? climb(&t, cur) : open_directory(cur, child);
		if (next < 0)
			return err_set(e, ERR_SETUP, errno, "open directory \"%s\" to remove it",
				r == 0 ? ".." : child);
		own_close(&cur);
		cur = next;
	}
	return err_set(e, ERR_SETUP, errno, "open a directory to remove it");
}

int rmtree_at(int dirfd, const char *name, struct err *e)
{
	OWN_FD top = -1;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_set(e, ERR_SETUP, errno, "remove \"%s\"", name);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	top = open_directory(dirfd, name);
	if (top < 0)
		return err_set(e, ERR_SETUP, errno, "open directory \"%s\" to remove it", name);
	if (remove_below(top, e) < 0)
		return -1;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		return err_set(e, ERR_SETUP, errno, "remove \"%s\"", name);
	return 0;
}

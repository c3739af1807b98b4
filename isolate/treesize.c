#include "isolate/treesize.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "isolate/own.h"

enum { OPEN_DIR = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC };

struct level {
	dev_t dev;
	ino_t ino;
	size_t names; /* length of the stack of names when its directory had been read */
};

/* Names of directories still to be entered, of all levels, and the levels above the current one. */
struct walk {
	struct tree_use *use;
	char *names; /* NUL-terminated, one behind the other */
	size_t len, cap;
	struct level *level;
	size_t depth, depth_cap;
};

static int push_name(struct walk *w, const char *name, struct err *e)
{
	size_t n = strlen(name) + 1;

	if (w->cap - w->len < n) {
		size_t cap = 2 * w->cap + n + 4096;
		char *more = realloc(w->names, cap);

		if (!more)
			return err_set(e, ERR_LIMIT, ENOMEM, "measure a tree");
		w->names = more;
		w->cap = cap;
	}
	memcpy(w->names + w->len, name, n);
	w->len += n;
	return 0;
}

/* Takes the last name off; it stays valid until the next push. NULL: none above floor. */
static const char *pop_name(struct walk *w, size_t floor)
{
	size_t at = w->len;

	if (at <= floor)
		return NULL;
	for (at--; at > floor && w->names[at - 1] != '\0'; at--)
		;
	w->len = at;
	return w->names + at;
}

static int add_entry(struct walk *w, int dirfd, const char *name, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0; /* it has just gone */
	w->use->inodes++;
	if (S_ISDIR(st.st_mode)) {
		w->use->bytes += (uint64_t)st.st_blocks * 512;
		return push_name(w, name, e);
	}
	w->use->bytes += (uint64_t)st.st_blocks * 512 / (st.st_nlink ? st.st_nlink : 1);
	return 0;
}

static int push_level(struct walk *w, int fd, struct err *e)
{
	struct stat st;

	if (w->depth == w->depth_cap) {
		size_t cap = 2 * w->depth_cap + 64;
		struct level *more = realloc(w->level, cap * sizeof *more);

		if (!more)
			return err_set(e, ERR_LIMIT, ENOMEM, "measure a tree");
		w->level = more;
		w->depth_cap = cap;
	}
	if (fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "measure a tree");
	w->level[w->depth++] = (struct level){.dev = st.st_dev, .ino = st.st_ino, .names = w->len};
	return 0;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static int add_entries(struct walk *w, int dirfd, struct err *e)
{
	OWN_FD copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *de;
	int ret = 0;

	if (!d)
		return err_set(e, ERR_SETUP, errno, "measure a tree");
	copy = -1; /* it is d's now */
	while (ret == 0 && (errno = 0, de = readdir(d)))
		if (!is_dots(de->d_name))
			ret = add_entry(w, dirfd, de->d_name, e);
	if (ret == 0 && errno && errno != ENOENT) /* ENOENT: removed while it was read */
		ret = err_set(e, ERR_SETUP, errno, "measure a tree");
	closedir(d);
	return ret;
}

/* Reads the directory fd; its subdirectories' names are then on top of the stack. */
static int enter(struct walk *w, int fd, struct err *e)
{
	return push_level(w, fd, e) < 0 ? -1 : add_entries(w, fd, e);
}

/* Up one level. -1: the directory was moved meanwhile, there is no way back. */
static int leave(struct walk *w, int *fd, struct err *e)
{
	const struct level *above = &w->level[--w->depth - 1];
	OWN_FD up = openat(*fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (up < 0 || fstat(up, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "measure a tree");
	if (st.st_ino != above->ino || st.st_dev != above->dev)
		return err_set(e, ERR_BUSY, ESTALE, "a directory moved while it was measured");
	own_close(fd);
	*fd = take_fd(&up);
	return 0;
}

static bool enough(const struct tree_use *u)
{
	return (u->stop_bytes && u->bytes > u->stop_bytes) ||
	       (u->stop_inodes && u->inodes > u->stop_inodes);
}

static int walk_all(struct walk *w, int *fd, struct err *e)
{
	if (enter(w, *fd, e) < 0)
		return -1;
	while (!enough(w->use)) {
		const char *name = pop_name(w, w->level[w->depth - 1].names);
		int sub;

		if (!name) {
			if (w->depth == 1)
				return 0;
			if (leave(w, fd, e) < 0)
				return -1;
			continue;
		}
		sub = openat(*fd, name, OPEN_DIR);
		if (sub < 0)
			continue; /* gone, or something else by now */
		own_close(fd);
		*fd = sub;
		if (enter(w, sub, e) < 0)
			return -1;
	}
	return 0;
}

int tree_measure(const char *path, struct tree_use *use, struct err *e)
{
	OWN_FD fd = open(path, OPEN_DIR);
	struct walk w = {.use = use};
	int ret;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "open %s", path);
	ret = walk_all(&w, &fd, e);
	free(w.names);
	free(w.level);
	return ret;
}

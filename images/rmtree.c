/*
 * The walk keeps one descriptor and climbs by "..": the tree is quiet, so ".." is where we came
 * from. A directory is left only when it is empty, so every return reads what is left of it.
 */
#include "images/rmtree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
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

static int remove_below(int top, struct err *e)
{
	OWN_FD cur = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char child[256];
	unsigned long depth = 0;
	int next, r;

	while (cur >= 0) {
		r = empty_directory(cur, child);
		if (r < 0)
			return err_set(e, ERR_SETUP, errno, "remove what a directory holds");
		if (r == 0 && depth-- == 0)
			return 0;
		next = open_directory(cur, r == 0 ? ".." : child);
		if (next < 0)
			return err_set(e, ERR_SETUP, errno, "open directory \"%s\" to remove it",
				r == 0 ? ".." : child);
		depth += r == 1;
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

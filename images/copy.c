#include "images/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/own.h"

enum { FILE_MAX_BYTES = 4 << 20, DEPTH_MAX = 12 };

static int copy_bytes(int in, int out)
{
	char block[65536];
	ssize_t n;

	while ((n = read(in, block, sizeof block)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || write(out, block, (size_t)n) != n)
			return -1;
	}
	return 0;
}

static int copy_file(int in, const char *name, int to, mode_t mode, struct err *e)
{
	OWN_FD out = openat(
		to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode & 0111) ? 0755 : 0644);

	if (out < 0 && errno == EEXIST)
		return 0;
	if (out < 0 || copy_bytes(in, out) < 0 || fchmod(out, (mode & 0111) ? 0755 : 0644) < 0)
		return err_set(e, ERR_SETUP, errno, "copy \"%s\"", name);
	return 0;
}

static int copy_link(int from, const char *name, int to, struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);

	if (n < 0)
		return 0;
	target[n] = '\0';
	if (symlinkat(target, to, name) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "copy link \"%s\"", name);
	return 0;
}

static int copy_entry(int from, const char *name, int to, int depth, struct err *e);

static int copy_directory(int in, const char *name, int to, int depth, struct err *e)
{
	OWN_DIR d = NULL;
	OWN_FD copy = openat(in, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), out = -1;
	struct dirent *ent;

	if (depth >= DEPTH_MAX)
		return 0;
	if (mkdirat(to, name, 0755) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make directory \"%s\"", name);
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = copy < 0 || out < 0 || fchmod(out, 0755) < 0 ? NULL : fdopendir(copy);
	if (!d)
		return err_set(e, ERR_SETUP, errno, "open directory \"%s\"", name);
	take_fd(&copy);
	while ((ent = readdir(d)))
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0 &&
			copy_entry(in, ent->d_name, out, depth + 1, e) < 0)
			return -1;
	return 0;
}

static int copy_entry(int from, const char *name, int to, int depth, struct err *e)
{
	OWN_FD in = -1;
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (S_ISLNK(st.st_mode))
		return copy_link(from, name, to, e);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return 0;
	in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (in < 0 || fstat(in, &st) < 0 || !(st.st_mode & S_IROTH))
		return 0;
	if (S_ISDIR(st.st_mode))
		return copy_directory(in, name, to, depth, e);
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES)
		return 0;
	return copy_file(in, name, to, st.st_mode, e);
}

int copy_public(int from, const char *name, int to, struct err *e)
{
	return copy_entry(from, name, to, 0, e);
}

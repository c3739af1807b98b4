#include "isolate/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

static uint64_t resolve_flags(enum beneath how)
{
	switch (how) {
	case BENEATH_LINKS:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
	case BENEATH_IN_ROOT:
		return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
	case BENEATH_ONE_MOUNT:
		return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
	case BENEATH_NO_LINKS:
		break;
	}
	return RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
}

/* A filter that does not know the call may say EPERM. The walk is safe for an EPERM of the file
 * system as well, and ends in the same error. */
static bool is_missing(int errnum)
{
	return errnum == ENOSYS || errnum == EPERM;
}

/* Fails with ELOOP when fd is a link that was opened as itself, closing it. */
static int refuse_link(int fd)
{
	OWN_FD own = fd;
	struct stat st;

	if (own < 0 || fstat(own, &st) < 0)
		return -1;
	if (S_ISLNK(st.st_mode)) {
		errno = ELOOP;
		return -1;
	}
	return take_fd(&own);
}

/* Takes the next component off *path. Its length; 0 at the end, -1 when it is refused. */
static int next_name(const char **path, char name[NAME_MAX + 1])
{
	size_t n;

	do {
		*path += strspn(*path, "/");
		n = strcspn(*path, "/");
		if (n > NAME_MAX) {
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, *path, n);
		name[n] = '\0';
		*path += n;
	} while (!strcmp(name, "."));
	if (!strcmp(name, "..")) {
		errno = ELOOP;
		return -1;
	}
	return (int)n;
}

/* The last component. O_DIRECTORY finds that a link is no directory before it finds a link. */
static int open_last(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if ((flags & O_PATH) && (flags & O_NOFOLLOW))
		return fd;
	if (fd < 0 && errno == ENOTDIR)
		errno = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)
				? ELOOP
				: ENOTDIR;
	return refuse_link(fd);
}

/* Each step goes from a directory that is held to a name in it that is neither ".." nor a link, so
 * none leads out. Magic links are links to fstat(2) too. Mounts are crossed, as by openat2. */
static int walk(int root, const char *path, int flags)
{
	OWN_FD dir = root == AT_FDCWD ? openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC)
				      : fcntl(root, F_DUPFD_CLOEXEC, 3);
	char name[NAME_MAX + 1], next[NAME_MAX + 1];
	int n = next_name(&path, name), more = n;

	if (dir < 0 || n < 0)
		return -1;
	if (n == 0)
		return openat(dir, ".", flags | O_CLOEXEC);
	for (;;) {
		int fd;

		more = next_name(&path, next);
		if (more < 0)
			return -1;
		if (more == 0)
			break;
		fd = refuse_link(openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
		if (fd < 0)
			return -1;
		own_close(&dir);
		dir = fd; /* one that is no directory is ENOTDIR for the next name */
		memcpy(name, next, (size_t)more + 1);
	}
	return open_last(dir, name, flags);
}

int beneath_open(int root, const char *path, int flags, enum beneath how)
{
	int fd = -1;

	if (!*path)
		path = ".";
	if (MUTATED("in-root"))
		return openat(root, path + (*path == '/' && path[1]), flags | O_CLOEXEC);
	for (int i = 0; i < BENEATH_TRIES; i++) {
		fd = sys_openat2(root, path, (uint64_t)flags | O_CLOEXEC, 0, resolve_flags(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	if (fd >= 0 || !is_missing(errno))
		return fd;
	if (*path == '/' && how != BENEATH_IN_ROOT && how != BENEATH_ONE_MOUNT) {
		errno = EXDEV;
		return -1;
	}
	return walk(root, path, flags);
}

int beneath_open_file(int root, const char *path, int flags, enum beneath how)
{
	OWN_FD fd = beneath_open(root, path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, how);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	return take_fd(&fd);
}

/* The length of path without its last component and the slashes before that. */
static size_t parent_length(const char *path, size_t n)
{
	while (n > 0 && path[n - 1] == '/')
		n--;
	while (n > 0 && path[n - 1] != '/')
		n--;
	while (n > 0 && path[n - 1] == '/')
		n--;
	return n;
}

/* The directory that the first n bytes of path name; "" is root itself. */
static int open_prefix(int root, const char *path, size_t n, enum beneath how)
{
	char prefix[PATH_MAX] = "";

	memcpy(prefix, path, n);
	prefix[n] = '\0';
	return beneath_open(root, prefix, O_PATH | O_DIRECTORY, how);
}

/* Makes the directory that the first n bytes of path name, whose parent exists. */
static int make_one(int root, const char *path, size_t n, enum beneath how)
{
	size_t up = parent_length(path, n);
	OWN_FD parent = open_prefix(root, path, up, how);
	char name[PATH_MAX];

	if (parent < 0)
		return -1;
	while (path[up] == '/')
		up++;
	memcpy(name, path + up, n - up);
	name[n - up] = '\0';
	return mkdirat(parent, name, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

int beneath_make_dir(int root, const char *path, enum beneath how)
{
	size_t len = strlen(path);
	int dir = beneath_open(root, path, O_PATH | O_DIRECTORY, how);

	if (dir >= 0 || errno != ENOENT)
		return dir;
	if (len >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (size_t n = strspn(path, "/"); n < len; n += strspn(path + n, "/")) {
		n += strcspn(path + n, "/");
		if (make_one(root, path, n, how) < 0)
			return -1;
	}
	return beneath_open(root, path, O_PATH | O_DIRECTORY, how);
}

static int open_target(int root, const char *path, enum beneath how)
{
	OWN_FD fd = beneath_open(root, path, O_PATH, how);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return -1;
	}
	return take_fd(&fd);
}

int beneath_make_file(int root, const char *path, enum beneath how)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	char dir[PATH_MAX] = "";
	OWN_FD parent = -1, made = -1;

	if (n >= sizeof dir) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(dir, path, n);
	dir[n] = '\0';
	parent = beneath_make_dir(root, dir, how);
	if (parent < 0)
		return -1;
	made = openat(parent, slash ? slash + 1 : path,
		O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
	if (made < 0 && errno != EEXIST)
		return -1;
	return open_target(root, path, how);
}

bool beneath_has_links(void)
{
	OWN_FD fd = sys_openat2(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0, 0);

	return fd >= 0 || !is_missing(errno);
}

#include "images/place.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images/rmtree.h"
#include "isolate/beneath.h"
#include "isolate/own.h"

enum { DIRS_MAX = 1 << 30 }; /* bytes of directory names kept for place_finish() */

/* One record of place.dirs; the path and its NUL follow. */
struct dir_note {
	struct timespec mtime;
	mode_t mode;
	uint32_t path_len;
};

void place_init(struct place *p, int root, bool layer)
{
	p->root = root;
	p->layer = layer;
	p->parent_fd = -1;
	p->parent_path[0] = '\0';
	p->dirs = BUF_INIT(DIRS_MAX);
}

static void forget_parent(struct place *p)
{
	own_close(&p->parent_fd);
	p->parent_path[0] = '\0';
}

void place_clear(struct place *p)
{
	forget_parent(p);
	buf_clear(&p->dirs);
}

static int place_error(struct err *e, const char *doing, const char *path)
{
	int errnum = errno;
	char shown[160];

	if (errnum == ENAMETOOLONG)
		return err_set(
			e, ERR_REQUEST, errnum, "Invalid or truncated archive: a name is too long");
	return err_set(e, ERR_SETUP, errnum, "%s %s", doing,
		quote(path, strlen(path), shown, sizeof shown));
}

/* Opens a directory below the root by its whole path. */
static int open_below(const struct place *p, const char *path, int flags)
{
	return beneath_open(
		p->root, path, flags | O_DIRECTORY, p->layer ? BENEATH_IN_ROOT : BENEATH_NO_LINKS);
}

/* Removes what is in the way at name below dirfd, which is the root or the cached parent. */
static int clear_way(struct place *p, int dirfd, const char *name, struct err *e)
{
	if (dirfd == p->root) /* only then can the cached parent lie in it */
		forget_parent(p);
	return rmtree_at(dirfd, name, e);
}

/* Makes every directory of path that is missing. Slow: once per new directory without entry. */
static int make_parents(struct place *p, const char *path, struct err *e)
{
	OWN_FD dir = open_below(p, "", O_PATH);
	char prefix[ENTRY_NAME_MAX + 1];
	size_t at = 0, n;
	int next;

	while (dir >= 0 && path[at]) {
		n = strcspn(path + at, "/");
		memcpy(prefix, path, at + n);
		prefix[at + n] = '\0';
		next = open_below(p, prefix, O_PATH);
		if (next < 0) {
			/* A layer's link that only openat2 could follow is not one to replace. */
			if (p->layer && errno == ELOOP && !beneath_has_links())
				return place_error(e, "without openat2(2), follow", prefix);
			if (rmtree_at(dir, prefix + at, e) < 0)
				return -1;
			if (mkdirat(dir, prefix + at, 0755) < 0)
				return place_error(e, "make directory", prefix);
			next = open_below(p, prefix, O_PATH);
		}
		own_close(&dir);
		dir = next;
		at += n;
		at += path[at] == '/';
	}
	if (dir < 0)
		return place_error(e, "open directory", path);
	return 0;
}

/* The directory that holds path; *base points at the last component. */
static int open_parent(struct place *p, const char *path, const char **base, struct err *e)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	char dir[ENTRY_NAME_MAX + 1];

	*base = slash ? slash + 1 : path;
	if (n == 0)
		return p->root;
	if (p->parent_fd >= 0 && !strncmp(p->parent_path, path, n) && !p->parent_path[n])
		return p->parent_fd;
	memcpy(dir, path, n);
	dir[n] = '\0';
	forget_parent(p);
	p->parent_fd = open_below(p, dir, O_PATH);
	if (p->parent_fd < 0) {
		if (make_parents(p, dir, e) < 0)
			return -1;
		p->parent_fd = open_below(p, dir, O_PATH);
	}
	if (p->parent_fd < 0)
		return place_error(e, "open directory", dir);
	memcpy(p->parent_path, dir, n + 1);
	return p->parent_fd;
}

int place_file(struct place *p, const struct entry *en, struct err *e)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	const char *base;
	int dir = open_parent(p, en->path, &base, e), fd;

	if (dir < 0)
		return -1;
	fd = openat(dir, base, flags, en->mode);
	if (fd < 0 && errno == EEXIST) {
		if (clear_way(p, dir, base, e) < 0)
			return -1;
		fd = openat(dir, base, flags, en->mode);
	}
	return fd < 0 ? place_error(e, "create", en->path) : fd;
}

static int set_opaque(int dir, const char *name, struct err *e)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fsetxattr(fd, "user.overlay.opaque", "y", 1, 0) < 0)
		return err_set(e, ERR_SETUP, errno,
			"mark a directory opaque (the image store needs user extended attributes)");
	return 0;
}

static int note_directory(
	struct place *p, const struct entry *en, struct timespec mtime, struct err *e)
{
	struct dir_note note = {mtime, en->mode, (uint32_t)strlen(en->path)};

	buf_add(&p->dirs, &note, sizeof note);
	buf_add(&p->dirs, en->path, note.path_len + 1);
	if (!buf_ok(&p->dirs))
		return err_set(e, ERR_LIMIT, ENOMEM, "too many directories in the archive");
	return 0;
}

int place_directory(struct place *p, const struct entry *en, struct timespec mtime, struct err *e)
{
	mode_t mode = en->mode | 0700; /* what is below must still be made */
	const char *base;
	int dir = open_parent(p, en->path, &base, e);
	bool whiteout;
	struct stat st;

	if (dir < 0)
		return -1;
	if (mkdirat(dir, base, mode) == 0)
		return note_directory(p, en, mtime, e);
	if (errno != EEXIST || fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return place_error(e, "make directory", en->path);
	if (S_ISDIR(st.st_mode))
		return note_directory(p, en, mtime, e);
	whiteout = p->layer && S_ISCHR(st.st_mode);
	if (clear_way(p, dir, base, e) < 0)
		return -1;
	if (mkdirat(dir, base, mode) < 0)
		return place_error(e, "make directory", en->path);
	if (whiteout && set_opaque(dir, base, e) < 0)
		return -1;
	return note_directory(p, en, mtime, e);
}

int place_symlink(struct place *p, const struct entry *en, struct timespec mtime, struct err *e)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, mtime};
	const char *base;
	int dir = open_parent(p, en->path, &base, e);

	if (dir < 0)
		return -1;
	if (symlinkat(en->link, dir, base) < 0) {
		if (errno != EEXIST)
			return place_error(e, "make symbolic link", en->path);
		if (clear_way(p, dir, base, e) < 0)
			return -1;
		if (symlinkat(en->link, dir, base) < 0)
			return place_error(e, "make symbolic link", en->path);
	}
	if (utimensat(dir, base, times, AT_SYMLINK_NOFOLLOW) < 0)
		return place_error(e, "set the time of", en->path);
	return 0;
}

/* Copies a file when a link cannot be made: the file system's limit of links is reached. */
static int copy_file(int from_dir, const char *from, int to_dir, const char *to, struct err *e)
{
	OWN_FD in = openat(from_dir, from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	OWN_FD out = -1;
	struct stat st;
	char block[65536];
	ssize_t n;

	if (in < 0 || fstat(in, &st) < 0)
		return place_error(e, "open", from);
	out = openat(to_dir, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		st.st_mode & 07777);
	while (out >= 0 && (n = read(in, block, sizeof block)) != 0)
		if (n < 0 || write(out, block, (size_t)n) != n)
			return place_error(e, "copy", from);
	if (out < 0 || futimens(out, (struct timespec[2]){st.st_atim, st.st_mtim}) < 0)
		return place_error(e, "create", to);
	return 0;
}

/* The parent directory and base name of a hard link's target; -1 when it is not a file. */
static int open_target(struct place *p, const char *link, const char **base, struct stat *st)
{
	const char *slash = strrchr(link, '/');
	char dir[ENTRY_NAME_MAX + 1];
	size_t n = slash ? (size_t)(slash - link) : 0;
	int fd;

	memcpy(dir, link, n);
	dir[n] = '\0';
	*base = slash ? slash + 1 : link;
	fd = open_below(p, dir, O_PATH);
	if (fd >= 0 && (fstatat(fd, *base, st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st->st_mode)))
		own_close(&fd);
	return fd;
}

int place_hardlink(struct place *p, const struct entry *en, struct err *e)
{
	const char *base, *target;
	OWN_FD from = -1;
	struct stat st, old;
	int dir;

	from = open_target(p, en->link, &target, &st);
	if (from < 0)
		return 0;
	dir = open_parent(p, en->path, &base, e);
	if (dir < 0)
		return -1;
	/* The name may be the target itself, or a link to it already. */
	if (fstatat(dir, base, &old, AT_SYMLINK_NOFOLLOW) == 0) {
		if (old.st_dev == st.st_dev && old.st_ino == st.st_ino)
			return 1;
		if (clear_way(p, dir, base, e) < 0)
			return -1;
	}
	if (linkat(from, target, dir, base, 0) == 0)
		return 1;
	if (errno == ENOENT) /* the target lay in what was cleared away */
		return 0;
	if (errno != EMLINK && errno != EPERM && errno != EXDEV)
		return place_error(e, "link", en->path);
	return copy_file(from, target, dir, base, e) < 0 ? -1 : 1;
}

bool place_below_link(const struct place *p, const struct entry *en)
{
	const char *slash = strrchr(en->path, '/');
	size_t n = en->action == ENTRY_OPAQUE ? strlen(en->path)
		   : slash                    ? (size_t)(slash - en->path)
					      : 0;
	char dir[ENTRY_NAME_MAX + 1];
	OWN_FD fd = -1;

	memcpy(dir, en->path, n);
	dir[n] = '\0';
	fd = beneath_open(p->root, dir, O_PATH | O_DIRECTORY, BENEATH_NO_LINKS);
	/* ENOTDIR: a file, or a link that is the last component. */
	return fd < 0 && (errno == ELOOP || errno == ENOTDIR);
}

int place_whiteout(struct place *p, const struct entry *en, struct err *e)
{
	const char *base;
	int dir = open_parent(p, en->path, &base, e);
	struct stat st;

	if (dir < 0)
		return -1;
	if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) == 0) /* removed and made again */
		return S_ISDIR(st.st_mode) ? set_opaque(dir, base, e) : 0;
	/* Character device 0:0 needs no privilege since Linux 5.8. */
	if (mknodat(dir, base, S_IFCHR, makedev(0, 0)) < 0)
		return place_error(e, "make whiteout", en->path);
	return 0;
}

int place_opaque(struct place *p, const struct entry *en, struct err *e)
{
	OWN_FD dir = open_below(p, en->path, O_PATH);

	if (dir < 0) {
		if (make_parents(p, en->path, e) < 0)
			return -1;
		dir = open_below(p, en->path, O_PATH);
	}
	if (dir < 0)
		return place_error(e, "open directory", en->path);
	return set_opaque(dir, ".", e);
}

/* A directory that a later entry replaced by something else is left alone. */
static int finish_directory(
	struct place *p, const struct dir_note *note, const char *path, struct err *e)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, note->mtime};
	OWN_FD fd = open_below(p, path, O_RDONLY | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
			       ? 0
			       : place_error(e, "open directory", path);
	if (fchmod(fd, note->mode) < 0 || futimens(fd, times) < 0)
		return place_error(e, "set mode and time of", path);
	return 0;
}

int place_finish(struct place *p, struct err *e)
{
	struct dir_note note;

	for (size_t at = 0; at < p->dirs.len; at += sizeof note + note.path_len + 1) {
		memcpy(&note, p->dirs.p + at, sizeof note);
		if (finish_directory(p, &note, p->dirs.p + at + sizeof note, e) < 0)
			return -1;
	}
	return 0;
}

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
	p->stale = false;
	p->nheld = 0;
	p->dirs = BUF_INIT(DIRS_MAX);
}

/* Closes what lies deeper than the first n. */
static void forget(struct place *p, size_t n)
{
	while (p->nheld > n)
		own_close(&p->held[--p->nheld].fd);
}

void place_clear(struct place *p)
{
	forget(p, 0);
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

/* Removes what is in the way at name below dirfd, which stays open. */
static int clear_way(struct place *p, int dirfd, const char *name, struct err *e)
{
	/* Of a layer, whose links are followed, a directory that is held may lie anywhere. */
	p->stale = p->layer;
	return rmtree_at(dirfd, name, e);
}

static int open_name(int dir, const char *name)
{
	return openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The directory path[0..n), whose last component is name below dir. Made where there is none. */
static int open_next(struct place *p, int dir, const char *path, const char *name, struct err *e)
{
	int fd = open_name(dir, name);
	bool there = fd >= 0 || errno != ENOENT;

	if (fd >= 0)
		return fd;
	/* A link, which a layer's paths go through. */
	if (p->layer && (errno == ENOTDIR || errno == ELOOP)) {
		fd = open_below(p, path, O_PATH);
		if (fd >= 0)
			return fd;
		/* One that only openat2 could follow is not one to replace. */
		if (errno == ELOOP && !beneath_has_links())
			return place_error(e, "without openat2(2), follow", path);
	}
	if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
		return place_error(e, "open directory", path);
	if (there && rmtree_at(dir, name, e) < 0)
		return -1;
	if (mkdirat(dir, name, 0755) < 0)
		return place_error(e, "make directory", path);
	fd = open_name(dir, name);
	return fd < 0 ? place_error(e, "open directory", path) : fd;
}

static void hold(struct place *p, int fd, size_t len)
{
	if (p->nheld == PLACE_HELD)
		forget(p, PLACE_HELD - 1);
	p->held[p->nheld++] = (struct place_dir){fd, len};
}

/* Forgets what does not lead to the directory path[0..n). */
static void keep_common(struct place *p, const char *path, size_t n)
{
	size_t kept = 0;

	for (; kept < p->nheld; kept++) {
		size_t from = kept ? p->held[kept - 1].len : 0, len = p->held[kept].len;

		if (len > n || memcmp(p->path + from, path + from, len - from) != 0 ||
			(len < n && path[len] != '/'))
			break;
	}
	forget(p, kept);
}

/*
 * The directory path[0..n), kept open; made where there is none. Each step goes from a directory
 * that is held to a name in it that is no link; a layer's links are followed within the root.
 */
static int open_directory(struct place *p, const char *path, size_t n, struct err *e)
{
	size_t at;
	int fd;

	if (p->stale)
		forget(p, 0);
	p->stale = false;
	keep_common(p, path, n);
	at = p->nheld ? p->held[p->nheld - 1].len : 0;
	fd = p->nheld ? p->held[p->nheld - 1].fd : p->root;
	while (at < n) {
		size_t from = at + (at > 0), len = from + strcspn(path + from, "/");

		memcpy(p->path + at, path + at, len - at);
		p->path[len] = '\0';
		fd = open_next(p, fd, p->path, p->path + from, e);
		if (fd < 0)
			return -1;
		hold(p, fd, len);
		at = len;
	}
	return fd;
}

/* The directory that holds path; *base points at the last component. */
static int open_parent(struct place *p, const char *path, const char **base, struct err *e)
{
	const char *slash = strrchr(path, '/');

	*base = slash ? slash + 1 : path;
	return open_directory(p, path, slash ? (size_t)(slash - path) : 0, e);
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
	int dir = open_directory(p, en->path, strlen(en->path), e);

	return dir < 0 ? -1 : set_opaque(dir, ".", e);
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

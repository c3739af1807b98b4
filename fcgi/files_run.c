/* The verbs' common ground: from a path to a place, from an errno to a code. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fcgi/files_int.h"
#include "isolate/beneath.h"

enum { LINKS_MAX = 40 }; /* as the kernel's MAXSYMLINKS */

#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif

int files_code(struct files_job *j, enum files_code code)
{
	j->r->code = code;
	return 0;
}

int files_code_why(struct files_job *j, enum files_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->r->text, sizeof j->r->text, fmt, ap);
	va_end(ap);
	return files_code(j, code);
}

int files_errno(struct files_job *j, int errnum, const char *doing, struct err *e)
{
	switch (errnum) {
	case ENOENT:
		return files_code(j, FILES_NOT_FOUND);
	case ENOTDIR:
		return files_code(j, FILES_NOT_DIR);
	case EISDIR:
		return files_code(j, FILES_IS_DIR);
	case EEXIST:
		return files_code(j, FILES_EXISTS);
	case EACCES:
	case EPERM:
	case EROFS:
		return files_code(j, FILES_DENIED);
	case ELOOP:
	case ENAMETOOLONG:
	case EXDEV:
	case EAGAIN:
		return files_code(j, FILES_BAD_PATH);
	case EINVAL:
	case ENXIO:
	case ENODEV:
		return files_code(j, FILES_NOT_FILE);
	case ENOTEMPTY:
		return files_code(j, FILES_NOT_EMPTY);
	case EBUSY:
	case ETXTBSY:
		return files_code(j, FILES_BUSY);
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return files_code(j, FILES_NO_SPACE);
	default:
		return err_set(e, ERR_SETUP, errnum, "%s", doing);
	}
}

bool files_alien(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return true;
	return fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ||
	       fs.f_type == CGROUP2_SUPER_MAGIC || fs.f_type == DEVPTS_SUPER_MAGIC;
}

/* The directory of the first n bytes of path. -1 with errno. */
static int open_above(int root, const char *path, size_t n, bool make)
{
	char above[PATH_MAX];

	if (n >= sizeof above) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(above, path, n);
	above[n] = '\0';
	return make ? beneath_make_dir(root, above, BENEATH_IN_ROOT)
		    : beneath_open(root, above, O_PATH | O_DIRECTORY, BENEATH_IN_ROOT);
}

/* One step: the directory and the last name of path, which is not followed. -1 with errno. */
static int find(int root, const char *path, bool make, struct place *p)
{
	size_t n = strlen(path), from, len;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (from = n; from > 0 && path[from - 1] != '/';)
		from--;
	len = n - from;
	if (len > NAME_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(p->name, path + from, len);
	p->name[len] = '\0';
	if (!strcmp(p->name, "..")) { /* of a link: a directory is what is meant */
		from = n;
		p->name[0] = '\0';
	}
	if (!*p->name)
		strcpy(p->name, ".");
	own_close(&p->dir);
	p->dir = open_above(root, path, from, make);
	if (p->dir < 0)
		return -1;
	p->there = fstatat(p->dir, p->name, &p->st, AT_SYMLINK_NOFOLLOW) == 0;
	return p->there || errno == ENOENT ? 0 : -1;
}

/* Brings path, a link at p, to where it points. -1 with errno. */
static int follow(const struct place *p, char path[PATH_MAX])
{
	char target[PATH_MAX], whole[2 * PATH_MAX];
	ssize_t n = readlinkat(p->dir, p->name, target, sizeof target - 1);
	char *slash;

	if (n < 0)
		return -1;
	target[n] = '\0';
	if (n == 0) {
		errno = ENOENT;
		return -1;
	}
	if (*target == '/') {
		memcpy(path, target, (size_t)n + 1);
		return 0;
	}
	while ((slash = strrchr(path, '/')) && slash[1] == '\0' && slash > path)
		*slash = '\0';
	n = snprintf(whole, sizeof whole, "%.*s/%s", slash ? (int)(slash - path) : 0, path, target);
	if (n >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(path, whole, (size_t)n + 1);
	return 0;
}

static uint32_t slashes(const char *path)
{
	uint32_t n = 0;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

int files_place(struct files_job *j, const char *path, enum place_how how, bool make,
	struct place *p, struct err *e)
{
	OWN_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char at[PATH_MAX];

	*p = (struct place){.dir = -1};
	if (root < 0)
		return err_set(e, ERR_SETUP, errno, "open the root");
	if (*path != '/' || strlen(path) >= sizeof at)
		return files_code(j, FILES_BAD_PATH);
	strcpy(at, path);
	for (int links = 0;; links++) {
		if (links > LINKS_MAX)
			return files_code(j, FILES_BAD_PATH);
		if (make)
			j->r->records += slashes(at);
		if (find(root, at, make, p) < 0)
			return files_errno(j, errno, "find a path", e);
		if (!p->there || !S_ISLNK(p->st.st_mode) || how == PLACE_ITSELF)
			break;
		if (follow(p, at) < 0)
			return files_errno(j, errno, "follow a link", e);
	}
	if (files_alien(p->dir))
		return files_code(j, FILES_BAD_PATH);
	return 1;
}

/* -2: the code is set; -1: error. */
static int failed(struct files_job *j, int errnum, const char *doing, struct err *e)
{
	return files_errno(j, errnum, doing, e) < 0 ? -1 : -2;
}

int files_open(struct files_job *j, const struct place *p, struct err *e)
{
	OWN_FD fd = -1;
	struct stat st;

	if (!p->there)
		return failed(j, ENOENT, "", e);
	if (!S_ISREG(p->st.st_mode))
		return failed(j, S_ISDIR(p->st.st_mode) ? EISDIR : EINVAL, "", e);
	fd = openat(p->dir, p->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return failed(j, errno, "open a file", e);
	if (!S_ISREG(st.st_mode)) /* another one took its place */
		return failed(j, EINVAL, "", e);
	if (files_alien(fd))
		return failed(j, EXDEV, "", e);
	return take_fd(&fd);
}

int files_open_dir(struct files_job *j, const struct place *p, struct err *e)
{
	OWN_FD fd = -1;

	if (!p->there)
		return failed(j, ENOENT, "", e);
	if (!S_ISDIR(p->st.st_mode))
		return failed(j, ENOTDIR, "", e);
	fd = openat(p->dir, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return failed(j, errno, "open a directory", e);
	if (files_alien(fd))
		return failed(j, EXDEV, "", e);
	return take_fd(&fd);
}

static int64_t ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void files_describe(struct files_job *j, const struct stat *st)
{
	j->r->mode = st->st_mode;
	j->r->size = st->st_size;
	j->r->mtime_ns = ns(st->st_mtim);
	j->r->ctime_ns = ns(st->st_ctim);
	j->r->ino = st->st_ino;
}

int files_emit(struct files_job *j, const void *p, size_t n, struct err *e)
{
	while (n > 0) {
		ssize_t w = pwrite(j->data, p, n, j->r->bytes);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return err_set(e, ERR_SETUP, errno, "hand on what was read");
		p = (const char *)p + w;
		n -= (size_t)w;
		j->r->bytes += w;
	}
	return 0;
}

int files_emit_record(struct files_job *j, struct files_record rec, const char *name,
	const char *text, struct err *e)
{
	rec.name_bytes = (uint32_t)strlen(name);
	j->r->records++;
	if (files_emit(j, &rec, sizeof rec, e) < 0 || files_emit(j, name, rec.name_bytes, e) < 0)
		return -1;
	return files_emit(j, text, rec.text_bytes, e);
}

/* How many texts each verb has at least, and at most. */
static const struct verb {
	int (*run)(struct files_job *j, struct err *e);
	int least, most;
} verbs[FILES_VERB_MAX] = {
	[FILES_STAT] = {files_stat, 1, 1},
	[FILES_LIST] = {files_list, 1, 1},
	[FILES_LINES] = {files_lines, 1, 1},
	[FILES_GREP] = {files_grep, 3, FILES_TEXTS_MAX},
	[FILES_GLOB] = {files_glob, 2, FILES_TEXTS_MAX},
	[FILES_WRITE] = {files_write, 1, 1},
	[FILES_APPEND] = {files_append, 1, 1},
	[FILES_EDIT] = {files_edit, 3, 3},
	[FILES_DELETE] = {files_delete, 1, 1},
	[FILES_MKDIR] = {files_mkdir, 1, 1},
	[FILES_FETCH] = {files_fetch, 1, 1},
	[FILES_PACK] = {files_pack, 1, 1},
	[FILES_UNPACK] = {files_unpack, 1, 1},
};

static int take_texts(struct files_job *j, const char *p)
{
	const struct verb *v = &verbs[j->o->verb];

	j->ntexts = files_take_texts(p, j->o->text_bytes, j->text);
	if (j->ntexts < v->least || j->ntexts > v->most)
		return -1;
	/* a NUL may stand in the texts of an edit, nowhere else */
	for (int i = 0; i < j->ntexts; i++)
		if (strlen(j->text[i].p) != j->text[i].n && (i == 0 || j->o->verb != FILES_EDIT))
			return -1;
	return 0;
}

int files_run(const struct files_order *o, const struct files_limits *lim, int texts, int data,
	struct files_result *out, struct err *e)
{
	struct files_job j = {.o = o, .lim = lim, .data = data, .r = out};
	OWN_MEM char *p = NULL;

	memset(out, 0, sizeof *out);
	if (!files_order_valid(o))
		return err_set(e, ERR_BUG, 0, "an order of the file verbs is out of range");
	p = malloc((size_t)o->text_bytes + 1);
	if (!p)
		return err_set(e, ERR_SETUP, ENOMEM, "the texts of a file verb");
	if (pread(texts, p, o->text_bytes, 0) != (ssize_t)o->text_bytes)
		return err_set(e, ERR_BUG, errno, "the texts of a file verb are cut short");
	if (take_texts(&j, p) < 0)
		return err_set(e, ERR_BUG, 0, "the texts of a file verb are out of shape");
	return verbs[o->verb].run(&j, e) < 0 ? -1 : 0;
}

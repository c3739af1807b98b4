/* What changes the tree: write, append, delete, mkdir. A file takes its place by rename. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "fcgi/files_int.h"
#include "fcgi/ws_walk.h"

enum { STEP = 1 << 16, ROUNDS_MAX = 16, PERMISSIONS = 0777, MODE_NEW = 0644, MODE_DIR = 0755 };

int files_aside(struct files_job *j, const struct place *p, struct aside *a, struct err *e)
{
	uint64_t random;

	a->fd = -1;
	if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
		return err_set(e, ERR_SETUP, errno, "get random bytes");
	snprintf(a->name, sizeof a->name, ".cgibox-%016llx", (unsigned long long)random);
	a->fd = openat(p->dir, a->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return a->fd < 0 ? files_errno(j, errno, "make a file", e) : 1;
}

void files_aside_drop(const struct place *p, struct aside *a)
{
	if (a->fd >= 0)
		unlinkat(p->dir, a->name, 0);
	own_close(&a->fd);
}

/* mode 0: what was there before, or that of a new file. */
static mode_t mode_of(const struct files_job *j, const struct place *p)
{
	if (j->o->mode)
		return j->o->mode & PERMISSIONS;
	return p->there && S_ISREG(p->st.st_mode) ? p->st.st_mode & PERMISSIONS : MODE_NEW;
}

int files_replace(
	struct files_job *j, const struct place *p, struct aside *a, bool keep, struct err *e)
{
	struct stat st;

	if (fchmod(a->fd, mode_of(j, p)) < 0 ||
		renameat2(p->dir, a->name, p->dir, p->name, keep ? RENAME_NOREPLACE : 0) < 0) {
		int errnum = errno;

		files_aside_drop(p, a);
		return files_errno(j, errnum, "put a file into its place", e);
	}
	if (fstat(a->fd, &st) == 0)
		files_describe(j, &st);
	own_close(&a->fd);
	if (!p->there)
		j->r->flags |= FILES_MADE;
	return files_code(j, FILES_OK);
}

/* Copies n bytes of the data to fd at `at`: 1, or as files_errno(). n < 0: all. */
static int copy_in(struct files_job *j, int fd, int64_t at, int64_t n, struct err *e)
{
	char step[STEP];
	int64_t from = 0;

	while (n < 0 || from < n) {
		size_t want = n < 0 || n - from > STEP ? STEP : (size_t)(n - from);
		ssize_t k = pread(j->data, step, want, from);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set(e, ERR_SETUP, errno, "read the contents");
		if (k == 0)
			return n < 0 ? 1 : err_set(e, ERR_BUG, 0, "the contents are cut short");
		for (ssize_t w, done = 0; done < k; done += w) {
			w = pwrite(fd, step + done, (size_t)(k - done), at + from + done);
			if (w < 0)
				return files_errno(j, errno, "write a file", e);
		}
		from += k;
	}
	return 1;
}

/* A directory, a mount point and what lies in another world are no place for a file. */
static int check_target(struct files_job *j, const struct place *p)
{
	if (!strcmp(p->name, ".") || (p->there && S_ISDIR(p->st.st_mode)))
		return files_code(j, FILES_IS_DIR);
	return 1;
}

int files_write(struct files_job *j, struct err *e)
{
	bool create = j->o->flags & FILES_CREATE_ONLY;
	struct aside a;
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, create ? PLACE_ITSELF : PLACE_FOLLOW, true, &p, e);

	if (got > 0 && create && p.there)
		return files_code(j, FILES_EXISTS);
	if (got > 0)
		got = check_target(j, &p);
	if (got > 0)
		got = files_aside(j, &p, &a, e);
	if (got <= 0)
		return got;
	got = copy_in(j, a.fd, 0, -1, e);
	if (got <= 0) {
		files_aside_drop(&p, &a);
		return got;
	}
	return files_replace(j, &p, &a, create, e);
}

/* FNV-1a: names of a tenant's own choice, in a directory of its own. */
static uint64_t hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3;
	return h;
}

/*
 * The part of an upload that is here already. Its name says what it will be, so that every request finds
 * it; a tenant who puts something else there is refused or harms its own file.
 */
static int open_part(
	struct files_job *j, const struct place *p, struct aside *a, int64_t *size, struct err *e)
{
	bool probe = j->o->flags & FILES_PROBE;
	struct stat st;

	snprintf(a->name, sizeof a->name, ".cgibox-part-%016llx-%lld",
		(unsigned long long)hash(p->name), (long long)j->o->total);
	a->fd = openat(p->dir, a->name,
		O_RDWR | (probe ? 0 : O_CREAT) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	*size = 0;
	if (a->fd < 0 && probe && errno == ENOENT)
		return 1;
	if (a->fd < 0)
		return files_errno(j, errno, "open a part of a file", e);
	if (fstat(a->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
		return files_code(j, FILES_NOT_FILE);
	*size = st.st_size;
	return 1;
}

static int append(struct files_job *j, const struct place *p, struct aside *a, struct err *e)
{
	int64_t size = 0;
	struct stat st;
	int got = open_part(j, p, a, &size, e);

	if (got <= 0)
		return got;
	j->r->n[0] = size;
	if (j->o->flags & FILES_PROBE)
		return files_code(j, FILES_OK);
	if (j->o->offset == 0 && ftruncate(a->fd, 0) < 0)
		return files_errno(j, errno, "begin a file again", e);
	if (j->o->offset != 0 && j->o->offset != size)
		return files_code(j, FILES_BAD_OFFSET);
	got = copy_in(j, a->fd, j->o->offset, j->o->limit, e);
	if (fstat(a->fd, &st) == 0)
		j->r->n[0] = st.st_size;
	if (got <= 0)
		return got;
	if (j->r->n[0] != j->o->total)
		return files_code(j, FILES_OK);
	got = files_replace(j, p, a, false, e);
	if (got == 0 && j->r->code == FILES_OK)
		j->r->flags |= FILES_COMPLETE;
	return got;
}

int files_append(struct files_job *j, struct err *e)
{
	bool probe = j->o->flags & FILES_PROBE;
	struct aside a = {.fd = -1};
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, !probe, &p, e);

	if (got == 0 && probe && j->r->code == FILES_NOT_FOUND)
		return files_code(j, FILES_OK); /* nothing has come yet */
	if (got > 0)
		got = check_target(j, &p);
	if (got > 0 && (j->o->limit > j->o->total || j->o->offset > j->o->total - j->o->limit))
		got = files_code(j, FILES_BAD_OFFSET);
	if (got > 0)
		got = append(j, &p, &a, e);
	own_close(&a.fd);
	return got;
}

/* Directories met while a tree is removed; those below come later. */
struct removal {
	struct ws_paths dirs;
	bool met; /* something was there */
};

static int remove_visit(void *arg, const struct ws_visit *v, struct err *e)
{
	struct removal *r = arg;

	r->met = true;
	if (v->type != S_IFDIR)
		return unlinkat(v->dirfd, v->name, 0) < 0 && errno != ENOENT && errno != EISDIR
			       ? err_set(e, ERR_SETUP, errno, "remove a file of the session")
			       : 0;
	return ws_paths_push(&r->dirs, v->path, e) < 0 ? -1 : 1;
}

/* path below root, without links on the way. What cannot be removed is seen by the last rmdir. */
static void remove_dir(int root, const char *path)
{
	const char *slash = strrchr(path, '/');
	char above[PATH_MAX];
	OWN_FD dir = -1;

	snprintf(above, sizeof above, "%.*s", slash ? (int)(slash - path) : 0, path);
	dir = ws_open(root, above, O_PATH | O_DIRECTORY);
	if (dir >= 0)
		unlinkat(dir, slash ? slash + 1 : path, AT_REMOVEDIR);
}

/* Empties the directory fd. Others may be at work in it, so no step goes by "..". */
static int empty(int fd, struct err *e)
{
	for (int i = 0; i < ROUNDS_MAX; i++) {
		struct removal r = {.met = false};
		int ret = files_walk(fd, remove_visit, &r, e);

		while (r.dirs.n) {
			OWN_MEM char *dir = ws_paths_pop(&r.dirs);

			remove_dir(fd, dir);
		}
		ws_paths_clear(&r.dirs);
		if (ret < 0 || !r.met)
			return ret;
		if (lseek(fd, 0, SEEK_SET) < 0)
			return err_set(e, ERR_SETUP, errno, "read a directory again");
	}
	return 0;
}

/* A mount, as the workspace is, would be emptied before its removal fails. */
static bool is_mount(int fd)
{
	struct statx sx;

	return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &sx) < 0 ||
	       (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int remove_tree(struct files_job *j, const struct place *p, struct err *e)
{
	int got = files_open_dir(j, p, e);
	OWN_FD fd = got;

	if (got < 0)
		return got == -2 ? 0 : -1;
	if (is_mount(fd))
		return files_code(j, FILES_BUSY);
	if (empty(fd, e) < 0)
		return e->errnum == EBUSY ? files_code(j, FILES_BUSY)
		       : e->errnum == EROFS || e->errnum == EACCES || e->errnum == EPERM
			       ? files_code(j, FILES_DENIED)
			       : -1;
	if (unlinkat(p->dir, p->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return files_errno(j, errno, "remove a directory", e);
	j->r->flags |= FILES_MADE;
	return files_code(j, FILES_OK);
}

int files_delete(struct files_job *j, struct err *e)
{
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, PLACE_ITSELF, false, &p, e);

	if (got < 0)
		return -1;
	if (got == 0 && j->r->code == FILES_NOT_FOUND)
		return files_code(j, FILES_OK);
	if (got == 0)
		return 0;
	if (!p.there)
		return files_code(j, FILES_OK);
	if (!strcmp(p.name, "."))
		return files_code(j, FILES_BUSY);
	if (S_ISDIR(p.st.st_mode))
		return j->o->flags & FILES_RECURSIVE ? remove_tree(j, &p, e)
						     : files_code(j, FILES_IS_DIR);
	if (unlinkat(p.dir, p.name, 0) < 0 && errno != ENOENT)
		return files_errno(j, errno, "remove a file", e);
	j->r->flags |= FILES_MADE;
	return files_code(j, FILES_OK);
}

int files_mkdir(struct files_job *j, struct err *e)
{
	mode_t mode = j->o->mode ? j->o->mode & PERMISSIONS : MODE_DIR;
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, true, &p, e);

	if (got <= 0)
		return got;
	if (p.there)
		return files_code(j, S_ISDIR(p.st.st_mode) ? FILES_OK : FILES_EXISTS);
	if (mkdirat(p.dir, p.name, mode) < 0)
		return files_errno(j, errno, "make a directory", e);
	j->r->flags |= FILES_MADE;
	return files_code(j, FILES_OK);
}

/*
 * Back to the baseline, where it is an archive that was unpacked plainly: the tree is made again from
 * the index and the raw file beside it, aside, and takes its place as an unpacked archive does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/ws_file.h"
#include "fcgi/ws_index.h"
#include "fcgi/ws_intake.h"
#include "fcgi/ws_plain.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/beneath.h"
#include "isolate/own.h"

enum { COPY_STEP = 1 << 20, LINK_MAX_BYTES = 4096 };

struct remaking {
	struct ws_index index, rest;
	struct ws_intake in;
	int raw, to;
};

static int failed(const char *path, struct err *e)
{
	char shown[80];

	return err_set(e, ERR_SETUP, errno, "make %s again",
		quote(path, strlen(path), shown, sizeof shown));
}

static int copy_range(int from, int64_t at, int to, uint64_t n)
{
	off_t in = at;

	while (n) {
		size_t step = n < COPY_STEP ? (size_t)n : COPY_STEP;
		ssize_t k = copy_file_range(from, &in, to, NULL, step, 0);

		if (k == 0)
			errno = EIO;
		if (k <= 0)
			return -1;
		n -= (uint64_t)k;
	}
	return 0;
}

static int make_link(const struct remaking *r, const struct ws_entry *en, int dir, const char *name)
{
	char to[LINK_MAX_BYTES + 1];

	if (en->size > LINK_MAX_BYTES || pread(r->raw, to, en->size, en->at) != (ssize_t)en->size)
		return -1;
	to[en->size] = '\0';
	return symlinkat(to, dir, name);
}

static struct timespec time_of(int64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};

	if (t.tv_nsec < 0) {
		t.tv_sec--;
		t.tv_nsec += 1000000000;
	}
	return t;
}

static int make_file(const struct remaking *r, const struct ws_entry *en, int dir, const char *name)
{
	OWN_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || copy_range(r->raw, en->at, fd, en->size) < 0)
		return -1;
	return fchmod(fd, en->mode & 07777);
}

static int remake_entry(struct remaking *r, const struct ws_entry *en, struct err *e)
{
	const char *slash = strrchr(en->path, '/'), *name = slash ? slash + 1 : en->path;
	OWN_MEM char *parent = strndup(en->path, slash ? (size_t)(slash - en->path) : 0);
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(en->mtime_ns)};
	OWN_FD dir = -1;

	if (!parent)
		return failed(en->path, e);
	dir = *parent ? beneath_make_dir(r->to, parent, BENEATH_NO_LINKS)
		      : fcntl(r->to, F_DUPFD_CLOEXEC, 3);
	if (dir < 0)
		return failed(en->path, e);
	if ((S_ISLNK(en->mode) ? make_link(r, en, dir, name) : make_file(r, en, dir, name)) < 0 ||
		utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(en->path, e);
	return ws_intake_note(&r->in, en->path, S_ISREG(en->mode) ? en->at : -1, e);
}

static int remake_dir(const struct remaking *r, const struct ws_entry *en, struct err *e)
{
	OWN_FD dir = en->len ? beneath_make_dir(r->to, en->path, BENEATH_NO_LINKS)
			     : fcntl(r->to, F_DUPFD_CLOEXEC, 3);
	OWN_FD fd = dir < 0 ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fchmod(fd, en->mode & 07777) < 0 ? failed(en->path, e) : 0;
}

static int remake_files(struct remaking *r, const struct ws_index *x, struct err *e)
{
	for (size_t i = 0; i < x->n; i++)
		if (!S_ISDIR(x->v[i].mode) && remake_entry(r, &x->v[i], e) < 0)
			return -1;
	return 0;
}

static int remake_dirs(const struct remaking *r, const struct ws_index *x, struct err *e)
{
	for (size_t i = 0; i < x->n; i++)
		if (S_ISDIR(x->v[i].mode) && remake_dir(r, &x->v[i], e) < 0)
			return -1;
	return 0;
}

/* Directories last: their modes may forbid what makes their contents. */
static int remake_all(struct remaking *r, struct err *e)
{
	if (remake_files(r, &r->rest, e) < 0 || remake_files(r, &r->index, e) < 0)
		return -1;
	return remake_dirs(r, &r->rest, e) < 0 ? -1 : remake_dirs(r, &r->index, e);
}

/* The lists of what the archive held. */
static int read_lists(struct remaking *r, int dir, struct err *e)
{
	char *bytes = NULL;
	size_t n = 0;

	if (ws_file_read_at(dir, "base.idx", &bytes, &n, e) < 0 ||
		ws_index_parse(&r->index, bytes, n, e) < 0)
		return -1;
	bytes = NULL;
	if (ws_file_read_at(dir, "rest.idx", &bytes, &n, e) < 0)
		return -1;
	return ws_index_parse_rest(&r->rest, bytes, n, e);
}

/* The raw file of the new tree: the old one itself when it is ours, for it only grows. */
static int share_raw(struct remaking *r, int dir, struct err *e)
{
	struct stat st;

	if (unlink("new.raw") < 0 && errno != ENOENT)
		return failed("new.raw", e);
	if (dir == AT_FDCWD && link("base.raw", "new.raw") == 0) {
		r->in.raw_fd = open("new.raw", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
		return r->in.raw_fd < 0 ? failed("new.raw", e) : 0;
	}
	r->in.raw_fd = open("new.raw", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (r->in.raw_fd < 0 || fstat(r->raw, &st) < 0 ||
		copy_range(r->raw, 0, r->in.raw_fd, (uint64_t)st.st_size) < 0)
		return failed("new.raw", e);
	return 0;
}

static int open_new(struct err *e)
{
	int fd;

	if (rmtree_at(AT_FDCWD, "new", e) < 0 || rmtree_at(AT_FDCWD, "old", e) < 0)
		return -1;
	if (mkdir("new", 0755) < 0)
		return failed("new", e);
	fd = ws_open(AT_FDCWD, "new", O_RDONLY | O_DIRECTORY);
	return fd < 0 ? failed("new", e) : fd;
}

/* dir: where the baseline's files are, the current directory or that of a shared layer. */
static int remake_tree(int dir, struct err *e)
{
	struct remaking r = {.raw = -1, .to = -1, .in = {.raw_fd = -1, .plain = true}};
	int ret;

	r.in.names = BUF_INIT(WS_INDEX_MAX_BYTES);
	r.raw = ws_open(dir, "base.raw", O_RDONLY);
	ret = r.raw < 0 ? failed("base.raw", e) : read_lists(&r, dir, e);
	r.to = ret < 0 ? -1 : open_new(e);
	ret = r.to < 0 ? -1 : remake_all(&r, e);
	if (ret == 0)
		ret = share_raw(&r, dir, e);
	if (ret == 0)
		ret = ws_plain_take(&r.in, true, e);
	ws_index_clear(&r.index);
	ws_index_clear(&r.rest);
	own_close(&r.to);
	own_close(&r.raw);
	ws_intake_clear(&r.in);
	return ret;
}

static int empty_tree(struct err *e)
{
	OWN_FD fd = open_new(e);

	if (fd < 0)
		return -1;
	if (renameat2(AT_FDCWD, "new", AT_FDCWD, "tree", RENAME_EXCHANGE) < 0 &&
		(errno != ENOENT || rename("new", "tree") < 0))
		return failed("tree", e);
	return rename("new", "old") < 0 && errno != ENOENT ? failed("old", e) : 0;
}

int ws_discard(struct ws_layout *lay, const int *shared, struct err *e)
{
	struct ws_layout next = ws_layout_fresh(lay);
	int ret;

	if (!ws_layout_valid(lay))
		return err_set(e, ERR_BUG, 0, "the workspace's layout is out of range");
	if (lay->form == WS_PLAIN) {
		ret = remake_tree(AT_FDCWD, e);
	} else if (lay->form == WS_OVERLAY && lay->base_kind == WS_BASE_INDEX && !lay->nlowers) {
		ret = remake_tree(shared[lay->shared.n - lay->base_at], e);
	} else if (lay->form == WS_EMPTY || (!lay->nlowers && lay->base_kind == WS_BASE_NONE)) {
		ret = empty_tree(e);
	} else {
		return err_set(e, ERR_BUG, 0, "this baseline needs no helper");
	}
	if (ret < 0)
		return -1;
	next.form = lay->form == WS_PLAIN || lay->base_kind == WS_BASE_INDEX ? WS_PLAIN : WS_EMPTY;
	next.entries = lay->entries;
	next.bytes = lay->bytes;
	*lay = next;
	return rmtree_at(AT_FDCWD, "old", e);
}

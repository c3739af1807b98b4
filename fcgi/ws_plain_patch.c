#include "fcgi/ws_compare.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/patch_name.h"
#include "fcgi/ws_file.h"
#include "fcgi/ws_plain.h"
#include "fcgi/ws_side.h"
#include "fcgi/ws_walk.h"
#include "isolate/own.h"

enum { SCAN_THREAD_FROM = 2000 /* files: a thread costs as much as 50 looks */ };

static int read_ignore(void *arg, const char *dir, struct buf *out, struct err *e)
{
	const struct ws_compare *c = arg;
	OWN_MEM char *path = NULL;

	if (asprintf(&path, "%s%s.gitignore", dir, *dir ? "/" : "") < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "read a .gitignore");
	return ws_side_ignore(c->tree, path, out, e);
}

/* The baseline's side of a change. */
int ws_compare_old(
	const struct ws_compare *c, const struct ws_entry *en, struct patch_side *s, struct err *e)
{
	*s = (struct patch_side){.mode = en->mode, .size = en->size, .at = en->at};
	if (!S_ISLNK(en->mode))
		return 0;
	if (en->size > WS_PATH_MAX)
		return err_set(e, ERR_SETUP, 0, "the index of the archive is damaged");
	s->link = calloc(1, en->size + 1);
	if (!s->link || pread(c->raw, s->link, en->size, en->at) != (ssize_t)en->size) {
		free(s->link);
		s->link = NULL;
		return err_set(e, ERR_SETUP, errno, "read a link of the archive");
	}
	return 0;
}

/* A file that the baseline has too, against it. */
static int compare_known(
	struct ws_compare *c, struct ws_entry *en, int dirfd, const char *name, struct err *e)
{
	struct patch_side old, new;
	struct stat st;

	en->seen = true;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "look at a file of the workspace");
	if (ws_entry_unchanged(&c->index, en, &st))
		return 0;
	if (ws_side_fill(&new, dirfd, name, &st, e) < 0)
		return -1;
	if (ws_compare_old(c, en, &old, e) < 0) {
		free(new.link);
		return -1;
	}
	return patch_add(&c->list, en->path, &old, &new, e);
}

static int compare_file(struct ws_compare *c, const struct ws_visit *v, struct err *e)
{
	struct ws_entry *en = ws_index_find(&c->index, v->path, v->len);
	struct patch_side old = {0}, new;
	struct stat st;
	int ignored;

	if (en && !S_ISDIR(en->mode))
		return compare_known(c, en, v->dirfd, v->name, e);
	ignored = ignore_check(c->ignore, v->path, false, e);
	if (ignored)
		return ignored < 0 ? -1 : 0;
	if (fstatat(v->dirfd, v->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "look at a file of the workspace");
	if (ws_side_fill(&new, v->dirfd, v->name, &st, e) < 0)
		return -1;
	return patch_add(&c->list, v->path, &old, &new, e);
}

static int compare_entry(void *arg, const struct ws_visit *v, struct err *e)
{
	struct ws_compare *c = arg;
	const struct ws_entry *en;
	int ignored;

	if (patch_name_refused(v->name, strlen(v->name)))
		return 0;
	if (v->type == S_IFREG || v->type == S_IFLNK)
		return compare_file(c, v, e);
	if (v->type != S_IFDIR)
		return 0;
	en = ws_index_find(&c->index, v->path, v->len);
	if (en && S_ISDIR(en->mode))
		return 0; /* has a turn of its own */
	if (ws_index_has_dir(&c->index, v->path, v->len))
		return 1; /* what the baseline has is never ignored */
	ignored = ignore_check(c->ignore, v->path, true, e);
	return ignored < 0 ? -1 : !ignored;
}

/* Length of the directory part of an entry's path. */
static size_t dir_length(const struct ws_entry *en)
{
	const char *slash = memrchr(en->path, '/', en->len);

	return slash ? (size_t)(slash - en->path) : 0;
}

static bool same_dir(const struct ws_entry *a, const struct ws_entry *b)
{
	size_t n = dir_length(a);

	return n == dir_length(b) && !memcmp(a->path, b->path, n);
}

/* A part of the baseline for one thread: whole directories, so that no entry is shared. */
struct scan {
	struct ws_compare *c;
	size_t from, to;
	int result;
	struct err err;
};

/* Opens the directory of a file and notes in its entry whether it holds the names of then. */
static int scan_enter(struct scan *s, const struct ws_entry *en, struct ws_entry **dir, int *fd)
{
	size_t n = dir_length(en);
	OWN_MEM char *path = strndup(en->path, n);
	struct stat st;

	own_close(fd);
	*dir = ws_index_find(&s->c->index, en->path, n);
	if (!*dir || !path)
		return err_set(&s->err, ERR_SETUP, 0, "the index of the archive is damaged");
	*fd = ws_open(s->c->tree, path, O_PATH | O_DIRECTORY);
	(*dir)->seen = *fd >= 0 && fstat(*fd, &st) == 0 &&
		       ws_entry_unchanged(&s->c->index, *dir, &st);
	return 0;
}

/* Looks at each file below directories that hold the same names as then; marks those unchanged. */
static void *scan_run(void *arg)
{
	struct scan *s = arg;
	struct ws_entry *v = s->c->index.v, *dir = NULL;
	const struct ws_entry *before = NULL;
	OWN_FD fd = -1;
	struct stat st;

	for (size_t i = s->from; i < s->to; i++) {
		const char *name = v[i].path + dir_length(&v[i]);

		if (S_ISDIR(v[i].mode))
			continue;
		if (!before || !same_dir(before, &v[i]))
			if ((s->result = scan_enter(s, &v[i], &dir, &fd)) < 0)
				return NULL;
		before = &v[i];
		if (dir->seen && fstatat(fd, name + (*name == '/'), &st, AT_SYMLINK_NOFOLLOW) == 0)
			v[i].seen = ws_entry_unchanged(&s->c->index, &v[i], &st);
	}
	return NULL;
}

/* Where a second thread takes over: about the middle, at the border of a directory. */
static size_t scan_middle(const struct ws_index *x)
{
	size_t at = x->n < SCAN_THREAD_FROM ? x->n : x->n / 2;

	while (at < x->n && at > 0 && same_dir(&x->v[at - 1], &x->v[at]))
		at++;
	return at;
}

/* One look at each file is what a patch of a large tree costs, so two processors share it. */
static int scan_all(struct ws_compare *c, struct err *e)
{
	size_t middle = scan_middle(&c->index);
	struct scan first = {.c = c, .from = 0, .to = middle};
	struct scan second = {.c = c, .from = middle, .to = c->index.n};
	pthread_t t;
	bool split = middle < c->index.n && pthread_create(&t, NULL, scan_run, &second) == 0;

	scan_run(&first);
	if (split)
		pthread_join(t, NULL);
	else
		scan_run(&second);
	if (first.result == 0 && second.result == 0)
		return 0;
	*e = first.result < 0 ? first.err : second.err;
	return -1;
}

/*
 * The baseline's files in directories that hold the same names as then: those need no reading,
 * only a look at each file. What the scan found changed is compared here.
 */
static int compare_quiet_dirs(struct ws_compare *c, struct err *e)
{
	if (scan_all(c, e) < 0)
		return -1;
	for (size_t i = 0; i < c->index.n; i++) {
		struct ws_entry *en = &c->index.v[i];
		const struct ws_entry *dir;
		size_t n = dir_length(en);
		OWN_MEM char *path = NULL;
		OWN_FD fd = -1;

		if (S_ISDIR(en->mode) || en->seen)
			continue;
		dir = ws_index_find(&c->index, en->path, n);
		if (!dir->seen)
			continue;
		path = strndup(en->path, n);
		fd = path ? ws_open(c->tree, path, O_PATH | O_DIRECTORY) : -1;
		if (fd < 0)
			return err_set(e, ERR_SETUP, errno, "open a directory of the workspace");
		if (compare_known(c, en, fd, en->path + n + (n > 0), e) < 0)
			return -1;
	}
	return 0;
}

/* All other directories of the baseline are read, and what is new in them. */
static int compare_other_dirs(struct ws_compare *c, struct err *e)
{
	for (size_t i = 0; i < c->index.n; i++) {
		const struct ws_entry *en = &c->index.v[i];
		struct stat st;

		if (!S_ISDIR(en->mode) || en->seen || ws_stat(c->tree, en->path, &st) < 0 ||
			!S_ISDIR(st.st_mode) || ws_entry_unchanged(&c->index, en, &st))
			continue;
		if (ws_walk(c->tree, en->path, compare_entry, c, e) < 0)
			return -1;
	}
	return 0;
}

static int note_deleted(struct ws_compare *c, struct err *e)
{
	for (size_t i = 0; i < c->index.n; i++) {
		const struct ws_entry *en = &c->index.v[i];
		struct patch_side old, new = {0};

		if (en->seen || S_ISDIR(en->mode))
			continue;
		if (ws_compare_old(c, en, &old, e) < 0 ||
			patch_add(&c->list, en->path, &old, &new, e) < 0)
			return -1;
	}
	return 0;
}

int ws_compare_run(struct ws_compare *c, struct err *e)
{
	const struct ws_entry *root = ws_index_find(&c->index, "", 0);
	int ret;

	if (!root) /* files of before the archive lie in the tree: its directories say nothing */
		ret = ws_walk(c->tree, "", compare_entry, c, e);
	else if (compare_quiet_dirs(c, e) < 0)
		ret = -1;
	else
		ret = compare_other_dirs(c, e);
	return ret < 0 ? -1 : note_deleted(c, e);
}

static int open_side(
	void *arg, const struct patch_change *ch, bool newer, off_t *offset, struct err *e)
{
	const struct ws_compare *c = arg;
	int fd;

	if (newer)
		return ws_side_open(c->tree, ch->path, e);
	*offset = (off_t)ch->old.at;
	fd = fcntl(c->raw, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "read the raw file") : fd;
}

int ws_compare_open(struct ws_compare *c, int dir, const char *tree, struct err *e)
{
	char *bytes = NULL;
	size_t n = 0;

	*c = (struct ws_compare){.tree = -1, .raw = -1};
	c->tree = ws_open(dir, tree, O_RDONLY | O_DIRECTORY);
	c->raw = ws_open(dir, "base.raw", O_RDONLY);
	if (c->tree < 0 || c->raw < 0)
		return err_set(e, ERR_SETUP, errno, "open the workspace");
	if (ws_file_read_at(dir, "base.idx", &bytes, &n, e) < 0)
		return -1;
	return ws_index_parse(&c->index, bytes, n, e);
}

void ws_compare_clear(struct ws_compare *c)
{
	patch_list_clear(&c->list);
	ws_index_clear(&c->index);
	own_close(&c->raw);
	own_close(&c->tree);
}

int ws_plain_patch(int out_fd, const struct ws_limits *lim, uint64_t *bytes, struct err *e)
{
	struct ws_compare c;
	const struct patch_source src = {open_side, &c};
	int ret = ws_compare_open(&c, AT_FDCWD, "tree", e);

	c.ignore = ret < 0 ? NULL : ignore_new(read_ignore, &c);
	if (ret == 0 && !c.ignore)
		ret = err_set(e, ERR_SETUP, ENOMEM, "make the patch");
	if (ret == 0)
		ret = ws_compare_run(&c, e);
	if (ret == 0)
		ret = patch_write(&c.list, &src, out_fd, lim->patch_max_bytes, bytes, e);
	ignore_free(c.ignore);
	ws_compare_clear(&c);
	return ret;
}

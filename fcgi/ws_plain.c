#include "fcgi/ws_plain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fcgi/patch_name.h"
#include "fcgi/ws_file.h"
#include "fcgi/ws_index.h"
#include "fcgi/ws_merge.h"
#include "fcgi/ws_walk.h"
#include "isolate/own.h"

/* The baseline in the making. */
struct record {
	struct ws_intake *in;
	struct buf out, rest; /* rest: what is never part of a patch, .git above all */
	int tree, dir;        /* dir: where the current entry lies */
	const char *dir_path;
	size_t dir_len;
	off_t raw_end;
	bool fresh;
};

/* Opens the directory of path, unless it is that of the entry before. Returns the base name. */
static const char *enter_dir(struct record *r, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (r->dir < 0 || n != r->dir_len || memcmp(path, r->dir_path, n) != 0) {
		OWN_MEM char *dir = strndup(path, n);

		own_close(&r->dir);
		if (!dir)
			return NULL;
		r->dir = ws_open(r->tree, dir, O_PATH | O_DIRECTORY);
		r->dir_path = path;
		r->dir_len = n;
	}
	return r->dir < 0 ? NULL : slash ? slash + 1 : path;
}

/* A link has no contents in the raw file: its target goes behind them. */
static int record_link(struct record *r, const char *name, struct ws_entry *en, struct err *e)
{
	OWN_MEM char *to = ws_readlink(r->dir, name, en->size);

	if (!to)
		return err_set(e, ERR_SETUP, errno, "read a link of the archive");
	en->size = strlen(to);
	en->at = r->raw_end;
	if (pwrite(r->in->raw_fd, to, en->size, r->raw_end) != (ssize_t)en->size)
		return err_set(e, ERR_SETUP, errno, "write the raw file");
	r->raw_end += (off_t)en->size;
	return 0;
}

static int record_entry(struct record *r, const struct ws_arrival *a, struct err *e)
{
	const char *path = r->in->names.p + a->name, *name;
	struct ws_entry en = {.path = path, .len = (uint32_t)strlen(path), .at = a->at};
	struct stat st;

	name = enter_dir(r, path);
	if (!name || fstatat(r->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		/* A later entry of the same archive can have put a file where its directory was. */
		if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
			return 0;
		return err_set(e, ERR_SETUP, errno, "record a file of the archive");
	}
	ws_entry_set(&en, &st);
	if (S_ISLNK(st.st_mode) && record_link(r, name, &en, e) < 0)
		return -1;
	if (!S_ISLNK(st.st_mode) && !S_ISREG(st.st_mode))
		return 0;
	if (en.at < 0 && en.size)
		return err_set(e, ERR_BUG, 0, "a file of the archive has no recorded contents");
	en.at = en.size ? en.at : 0;
	return ws_index_add(patch_path_refused(path) ? &r->rest : &r->out, &en, e);
}

/* A tree that holds the archive alone: its directories can vouch for the names in them. */
static int record_dir(void *arg, const struct ws_visit *v, struct err *e)
{
	struct record *r = arg;
	struct ws_entry en = {.path = v->path, .len = (uint32_t)v->len};
	struct stat st;

	if (v->type != S_IFDIR)
		return 0;
	if (fstatat(v->dirfd, v->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "record a directory of the archive");
	ws_entry_set(&en, &st);
	return ws_index_add(patch_path_refused(v->path) ? &r->rest : &r->out, &en, e) < 0 ? -1 : 1;
}

static int record_dirs(struct record *r, struct err *e)
{
	struct ws_entry root = {.path = "", .len = 0};
	struct stat st;

	if (fstat(r->tree, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "record a directory of the archive");
	ws_entry_set(&root, &st);
	return ws_index_add(&r->out, &root, e) < 0 ? -1 : ws_walk(r->tree, "", record_dir, r, e);
}

static int64_t coarse_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* So no file has to be read only because it was unpacked last: waiting saves that in every patch. */
int64_t ws_plain_tick(void)
{
	const struct timespec pause = {0, 500000};
	int64_t begin = coarse_now(), now = begin;

	for (int i = 0; i < 40 && now <= begin; i++) {
		nanosleep(&pause, NULL);
		now = coarse_now();
	}
	return now;
}

static int record_all(struct record *r, struct err *e)
{
	int64_t now;

	r->raw_end = lseek(r->in->raw_fd, 0, SEEK_END);
	if (r->raw_end < 0)
		return err_set(e, ERR_SETUP, errno, "measure the raw file");
	if (ws_index_begin(&r->out, e) < 0 || ws_index_begin(&r->rest, e) < 0)
		return -1;
	for (size_t i = 0; i < r->in->n; i++)
		if (record_entry(r, &r->in->v[i], e) < 0)
			return -1;
	if (r->fresh && record_dirs(r, e) < 0)
		return -1;
	now = ws_plain_tick();
	return ws_index_end(&r->out, now, e) < 0 ? -1 : ws_index_end(&r->rest, now, e);
}

static int record_baseline(struct ws_intake *in, bool fresh, struct err *e)
{
	struct record r = {.in = in, .dir = -1, .fresh = fresh};
	int ret;

	ws_intake_sort(in);
	r.tree = ws_open(AT_FDCWD, "tree", O_RDONLY | O_DIRECTORY);
	if (r.tree < 0)
		return err_set(e, ERR_SETUP, errno, "open the workspace");
	ret = record_all(&r, e);
	if (ret == 0)
		ret = ws_file_replace("rest.idx", r.rest.p, r.rest.len, e);
	if (ret == 0)
		ret = ws_file_replace("base.idx", r.out.p, r.out.len, e);
	if (ret == 0 && rename("new.raw", "base.raw") < 0)
		ret = err_set(e, ERR_SETUP, errno, "keep the raw file");
	buf_clear(&r.out);
	buf_clear(&r.rest);
	own_close(&r.dir);
	own_close(&r.tree);
	return ret;
}

/*
 * Swaps "new" and "tree", so that at no instant there is none. Swapped again on error, the
 * workspace is as before; what was there ends up in "old".
 */
static int take_fresh(struct ws_intake *in, struct err *e)
{
	if (renameat2(AT_FDCWD, "new", AT_FDCWD, "tree", RENAME_EXCHANGE) < 0) {
		if (errno != ENOENT || rename("new", "tree") < 0)
			return err_set(e, ERR_SETUP, errno, "put the archive in place");
		return record_baseline(in, true, e);
	}
	if (record_baseline(in, true, e) < 0) {
		(void)renameat2(AT_FDCWD, "new", AT_FDCWD, "tree", RENAME_EXCHANGE);
		return -1;
	}
	return rename("new", "old") < 0 ? err_set(e, ERR_SETUP, errno, "put the old tree aside")
					: 0;
}

int ws_plain_take(struct ws_intake *in, bool fresh, struct err *e)
{
	if (fresh)
		return take_fresh(in, e);
	return ws_merge("new", "tree", e) < 0 ? -1 : record_baseline(in, false, e);
}

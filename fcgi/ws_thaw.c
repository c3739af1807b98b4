/*
 * A session that stands on shared layers gets directories of its own again: where an Engine makes the sandboxes, which
 * binds directories and mounts no overlay of ours. What is shared there is always one whole tree (docs/design.md).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/workspace.h"
#include "fcgi/ws_copy.h"
#include "fcgi/ws_file.h"
#include "fcgi/ws_index.h"
#include "fcgi/ws_intake.h"
#include "fcgi/ws_plain.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/own.h"

enum { NAMES_MAX = 1 << 30 };

static int failed(const char *what, struct err *e)
{
	return err_set(e, ERR_SETUP, errno, "copy %s of the session", what);
}

/* An empty directory in the place of whatever a crash left. */
static int open_new(const char *name, struct err *e)
{
	int fd;

	if (rmtree_at(AT_FDCWD, name, e) < 0)
		return -1;
	if (mkdir(name, 0700) < 0)
		return failed(name, e);
	fd = ws_open(AT_FDCWD, name, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? failed(name, e) : fd;
}

static int copy_layer(int layer, const char *name, ws_copied_fn *fn, void *arg, struct err *e)
{
	OWN_FD from = ws_open(layer, "fs", O_RDONLY | O_DIRECTORY);
	OWN_FD to = from < 0 ? failed("a layer", e) : open_new(name, e);

	return to < 0 ? -1 : ws_copy_tree(from, to, fn, arg, e);
}

static int thaw_root(struct ws_layout *lay, int layer, struct err *e)
{
	char name[32];

	snprintf(name, sizeof name, "root/upper-%u", lay->root_top + 1);
	if (copy_layer(layer, name, NULL, NULL, e) < 0)
		return -1;
	lay->root_top++;
	lay->root = (struct ws_layers){.n = 0};
	return 0;
}

/* --- the workspace; the current directory is ws/ */

/* What came of "new" takes the place of what a crash may have left. */
static int place_tree(struct err *e)
{
	if (rmtree_at(AT_FDCWD, "tree", e) < 0)
		return -1;
	return rename("new", "tree") < 0 ? failed("the workspace", e) : 0;
}

static int copy_file(int layer, const char *name, struct err *e)
{
	OWN_FD in = ws_open(layer, name, O_RDONLY), out = -1;
	struct stat st;

	if (in < 0 || fstat(in, &st) < 0 || (unlink("new.file") < 0 && errno != ENOENT))
		return failed(name, e);
	out = open("new.file", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0 || ws_copy_data(in, out, 0, st.st_size) < 0 || rename("new.file", name) < 0)
		return failed(name, e);
	return 0;
}

/* What was as in the archive is so as a copy; of all else the index knows no file, so that a patch reads it. */
static int renew_entry(const struct ws_index *x, struct ws_entry *en, int fs, int tree)
{
	struct stat st;

	if (ws_stat(fs, en->path, &st) < 0 || !ws_entry_unchanged(x, en, &st)) {
		en->inode = 0;
		return 0;
	}
	if (ws_stat(tree, en->path, &st) < 0)
		return -1;
	ws_entry_set(en, &st);
	return 0;
}

static int renew_index(int layer, struct err *e)
{
	OWN_FD fs = ws_open(layer, "fs", O_RDONLY | O_DIRECTORY);
	OWN_FD tree = ws_open(AT_FDCWD, "tree", O_RDONLY | O_DIRECTORY);
	OWN_BUF out = BUF_INIT(WS_INDEX_MAX_BYTES);
	struct ws_index x = {.n = 0};
	char *bytes = NULL;
	size_t n = 0;
	int ret = fs < 0 || tree < 0 ? failed("the index", e)
				     : ws_file_read_at(layer, "base.idx", &bytes, &n, e);

	if (ret == 0 && ws_index_parse(&x, bytes, n, e) < 0)
		return -1;
	if (ret == 0)
		ret = ws_index_begin(&out, e);
	for (size_t i = 0; i < x.n && ret == 0; i++) {
		ret = renew_entry(&x, &x.v[i], fs, tree) < 0 ? failed("the index", e)
							     : ws_index_add(&out, &x.v[i], e);
	}
	if (ret == 0)
		ret = ws_index_end(&out, ws_plain_tick(), e);
	if (ret == 0)
		ret = ws_file_replace("base.idx", out.p, out.len, e);
	ws_index_clear(&x);
	return ret;
}

/* The baseline is an archive, whose index and contents lie beside the layer. */
static int thaw_archive(int layer, struct err *e)
{
	if (copy_layer(layer, "new", NULL, NULL, e) < 0 || place_tree(e) < 0 ||
		copy_file(layer, "rest.idx", e) < 0 || copy_file(layer, "base.raw", e) < 0)
		return -1;
	return renew_index(layer, e);
}

/* The committed tree is taken as an archive is. */
static int arrived(void *arg, const char *path, const struct stat *st, int fd, struct err *e)
{
	struct ws_intake *in = arg;
	off_t at = lseek(in->raw_fd, 0, SEEK_END);

	if (at < 0 || (fd >= 0 && ws_copy_data(fd, in->raw_fd, at, st->st_size) < 0))
		return failed("the contents", e);
	return ws_intake_note(in, path, fd >= 0 ? at : -1, e);
}

static int thaw_commit(int layer, struct err *e)
{
	struct ws_intake in = {.plain = true, .raw_fd = -1, .names = BUF_INIT(NAMES_MAX)};
	int ret = rmtree_at(AT_FDCWD, "new.raw", e);

	if (ret == 0)
		ret = rmtree_at(AT_FDCWD, "tree", e); /* what a crash left */
	if (ret == 0) {
		in.raw_fd = open("new.raw", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		ret = in.raw_fd < 0 ? failed("the contents", e)
				    : copy_layer(layer, "new", arrived, &in, e);
	}
	if (ret == 0)
		ret = ws_plain_take(&in, true, e);
	ws_intake_clear(&in);
	return ret;
}

static int thaw_workspace(struct ws_layout *lay, int layer, struct err *e)
{
	struct ws_layout next = ws_layout_fresh(lay);
	int ret;

	if (chdir("ws") < 0)
		return failed("the workspace", e);
	if (lay->base_kind == WS_BASE_STATE)
		ret = thaw_commit(layer, e);
	else if (lay->base_kind == WS_BASE_INDEX)
		ret = thaw_archive(layer, e);
	else
		ret = copy_layer(layer, "new", NULL, NULL, e) < 0 ? -1 : place_tree(e);
	if (ret < 0)
		return -1;
	next.form = lay->base_kind == WS_BASE_NONE ? WS_EMPTY : WS_PLAIN;
	next.entries = lay->entries;
	next.bytes = lay->bytes;
	*lay = next;
	return 0;
}

int ws_thaw(struct ws_layout *lay, const int *shared, const int *root, struct err *e)
{
	if (!ws_layout_valid(lay))
		return err_set(e, ERR_BUG, 0, "the workspace's layout is out of range");
	if (lay->nlowers || lay->shared.n > 1 || lay->root.n > 1 ||
		lay->base_kind == WS_BASE_ARCHIVE)
		return err_set(e, ERR_REQUEST, 0,
			"the session has layers, as backend = isolate makes them");
	if (lay->root.n && thaw_root(lay, root[0], e) < 0)
		return -1;
	return lay->form == WS_OVERLAY ? thaw_workspace(lay, shared[0], e) : 0;
}

#include "fcgi/ws_export.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/utf8.h"
#include "fcgi/ws_stack.h"
#include "fcgi/ws_walk.h"
#include "isolate/own.h"

enum { READ_STEP = 1 << 16 };

struct export
{
	const struct ws_export *x;
	const struct ws_stack *stack;
	struct archive *a;
	struct archive_entry_linkresolver *links; /* NULL: the format has no hard links */
	locale_t bytes;                           /* zip: for names that are no UTF-8 */
	size_t path_len;
	bool found;
	char step[READ_STEP];
};

static int archive_failed(struct export *ex, struct err *e)
{
	const char *why = archive_error_string(ex->a);

	return err_set(e, ERR_SETUP, archive_errno(ex->a), "write the archive: %.150s",
		why ? why : "no reason given");
}

/* The bytes that were announced, whatever the file does meanwhile. */
static int put_contents(struct export *ex, int fd, int64_t size, struct err *e)
{
	while (size > 0) {
		size_t want = size < READ_STEP ? (size_t)size : READ_STEP;
		ssize_t n = read(fd, ex->step, want);

		if (n <= 0)
			return err_set(e, ERR_SETUP, n < 0 ? errno : EIO, "read a file");
		if (archive_write_data(ex->a, ex->step, (size_t)n) != n)
			return archive_failed(ex, e);
		size -= n;
	}
	return 0;
}

static int fill_link(
	struct archive_entry *en, int root, const char *path, const struct stat *st, struct err *e)
{
	const char *slash = strrchr(path, '/');
	OWN_MEM char *dir = strndup(path, slash ? (size_t)(slash - path) : 0), *to = NULL;
	OWN_FD fd = dir ? ws_open(root, dir, O_RDONLY | O_DIRECTORY) : -1;

	to = fd < 0 ? NULL : ws_readlink(fd, slash ? slash + 1 : path, (size_t)st->st_size);
	if (!to)
		return err_set(e, ERR_SETUP, errno, "read a link");
	archive_entry_copy_symlink(en, to);
	return 0;
}

static void fill(
	struct export *ex, struct archive_entry *en, const char *path, const struct stat *st)
{
	archive_entry_copy_stat(en, st);
	archive_entry_copy_pathname(en, path);
	archive_entry_set_uid(en, ex->x->uid);
	archive_entry_set_gid(en, ex->x->gid);
	archive_entry_unset_atime(en);
	archive_entry_unset_ctime(en);
	archive_entry_unset_birthtime(en);
	if (!S_ISREG(st->st_mode))
		archive_entry_set_size(en, 0);
	if (S_ISDIR(st->st_mode)) /* of directories the count tells nothing */
		archive_entry_set_nlink(en, 1);
}

/*
 * libarchive marks every name of a zip as UTF-8 when the locale is: those that are not have to be
 * written in another.
 */
static int put_header(struct export *ex, struct archive_entry *en, const char *path, struct err *e)
{
	bool foreign = ex->bytes && !utf8_valid(path, strlen(path));
	locale_t old = foreign ? uselocale(ex->bytes) : (locale_t)0;
	int ret = archive_write_header(ex->a, en);

	if (foreign)
		uselocale(old);
	return ret < ARCHIVE_WARN ? archive_failed(ex, e) : 0;
}

static int put_entry(struct export *ex, const char *path, int root, struct err *e)
{
	struct archive_entry *en = archive_entry_new(), *at = en, *spare = NULL;
	struct stat st;
	OWN_FD fd = -1;
	int ret = 0;

	if (!en)
		return err_set(e, ERR_SETUP, ENOMEM, "write the archive");
	if (ws_stat(root, path, &st) < 0)
		ret = err_set(e, ERR_SETUP, errno, "look at a file");
	else
		fill(ex, en, path, &st);
	if (ret == 0 && S_ISLNK(st.st_mode))
		ret = fill_link(en, root, path, &st, e);
	if (ret == 0 && S_ISREG(st.st_mode)) {
		fd = ws_open(root, path, O_RDONLY | O_NONBLOCK);
		if (fd < 0)
			ret = err_set(e, ERR_SETUP, errno, "open a file");
		if (ret == 0 && ex->links)
			archive_entry_linkify(ex->links, &at, &spare);
	}
	if (ret == 0)
		ret = put_header(ex, at, path, e);
	if (ret == 0 && fd >= 0 && !archive_entry_hardlink(at))
		ret = put_contents(ex, fd, st.st_size, e);
	archive_entry_free(en);
	return ret;
}

/* Where path lies: 1 wanted, 0 not, 2 on the way to what is wanted. */
static int wanted(const struct export *ex, const char *path)
{
	size_t n = strlen(path);

	if (ex->path_len == 0)
		return 1;
	if (n < ex->path_len)
		return !memcmp(path, ex->x->path, n) && ex->x->path[n] == '/' ? 2 : 0;
	return !memcmp(path, ex->x->path, ex->path_len) &&
	       (n == ex->path_len || path[ex->path_len] == '/');
}

static int take(void *arg, const struct ws_seen *v, struct err *e)
{
	struct export *ex = arg;
	int want = wanted(ex, v->path);

	if (want != 1)
		return want == 2 && v->type == S_IFDIR;
	if (v->type != S_IFREG && v->type != S_IFLNK && v->type != S_IFDIR)
		return 0;
	ex->found = true;
	if (put_entry(ex, v->path, ex->stack->fd[v->layer], e) < 0)
		return -1;
	return v->type == S_IFDIR;
}

static int set_format(struct export *ex)
{
	struct archive *a = ex->a;

	if (ex->x->format == WS_ZIP) {
		ex->bytes = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
		return ex->bytes ? archive_write_set_format_zip(a) : ARCHIVE_FATAL;
	}
	if (ex->x->format == WS_TAR_GZ && archive_write_add_filter_gzip(a) != ARCHIVE_OK)
		return ARCHIVE_FATAL;
	if (archive_write_set_format_pax_restricted(a) != ARCHIVE_OK)
		return ARCHIVE_FATAL;
	ex->links = archive_entry_linkresolver_new();
	if (!ex->links)
		return ARCHIVE_FATAL;
	archive_entry_linkresolver_set_strategy(ex->links, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
	/* names are bytes, not always UTF-8 */
	return archive_write_set_options(a, "hdrcharset=BINARY");
}

/* Only components that are names; "" is the root. */
static bool path_good(const char *path)
{
	if (!*path)
		return true;
	for (;;) {
		size_t n = strcspn(path, "/");

		if (n == 0 || (n == 1 && *path == '.') || (n == 2 && !memcmp(path, "..", 2)))
			return false;
		if (!path[n])
			return true;
		path += n + 1;
	}
}

static int write_all(struct export *ex, int out_fd, struct err *e)
{
	/* The end is padded to a whole tar block, not to a tape's record. */
	if (set_format(ex) != ARCHIVE_OK || archive_write_set_bytes_per_block(ex->a, READ_STEP) ||
		archive_write_set_bytes_in_last_block(ex->a, 1) ||
		archive_write_open_fd(ex->a, out_fd) != ARCHIVE_OK)
		return archive_failed(ex, e);
	if (ws_stack_walk(ex->stack, take, ex, e) < 0)
		return -1;
	return archive_write_close(ex->a) == ARCHIVE_OK ? 0 : archive_failed(ex, e);
}

int ws_export(const struct ws_layout *lay, const int *shared, const struct ws_export *x, int out_fd,
	struct err *e)
{
	OWN_MEM struct export *ex = calloc(1, sizeof *ex);
	struct ws_stack stack;
	int ret;

	if (!ws_layout_valid(lay))
		return err_set(e, ERR_BUG, 0, "the workspace's layout is out of range");
	if (!path_good(x->path) || x->format >= WS_FORMAT_MAX)
		return err_set(e, ERR_REQUEST, 0, "path: not a path below the workspace");
	if (!ex)
		return err_set(e, ERR_SETUP, ENOMEM, "write the archive");
	if (ws_stack_open(&stack, lay, shared, true, e) < 0)
		return -1;
	ex->x = x;
	ex->path_len = strlen(x->path);
	ex->stack = &stack;
	if (ex->path_len && ws_stack_find(&stack, x->path) < 0) {
		ws_stack_close(&stack);
		return err_set(e, ERR_NOTFOUND, 0, "nothing is at this path");
	}
	ex->a = archive_write_new();
	ret = ex->a ? write_all(ex, out_fd, e) : err_set(e, ERR_SETUP, ENOMEM, "write the archive");
	if (ret < 0 && ex->a)
		archive_write_fail(ex->a);
	archive_write_free(ex->a);
	archive_entry_linkresolver_free(ex->links);
	if (ex->bytes)
		freelocale(ex->bytes);
	ws_stack_close(&stack);
	return ret;
}

#include "fcgi/ws_merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/buf.h"
#include "isolate/own.h"

struct merge {
	int to;           /* the directory that is being filled */
	struct buf *todo; /* directories that both have: paths, each with its NUL */
	const char *path; /* of this one, "" is the root */
};

static int failed(const char *name, struct err *e)
{
	char shown[80];

	return err_set(e, ERR_SETUP, errno, "put %s into the workspace",
		quote(name, strlen(name), shown, sizeof shown));
}

static int join_dirs(
	struct merge *m, int from, const char *name, const struct stat *there, struct err *e)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(name, e);
	/* As tar does; only what the archive itself names, so not a tenant's own choice. */
	if ((st.st_mode & 07777) != (there->st_mode & 07777) &&
		fchmodat(m->to, name, st.st_mode & 0777, 0) < 0)
		return failed(name, e);
	if (buf_addf(m->todo, "%s%s%s", m->path, *m->path ? "/" : "", name) < 0 ||
		buf_addc(m->todo, '\0') < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "merge the archive");
	return 0;
}

static int move_name(void *arg, int from, const char *name, uint32_t type, struct err *e)
{
	struct merge *m = arg;
	struct stat there;

	if (fstatat(m->to, name, &there, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return failed(name, e);
	} else if (S_ISDIR(there.st_mode)) {
		if (type == S_IFDIR)
			return join_dirs(m, from, name, &there, e);
		if (rmtree_at(m->to, name, e) < 0)
			return -1;
	} else if (type == S_IFDIR && unlinkat(m->to, name, 0) < 0) {
		return failed(name, e);
	}
	return renameat(from, name, m->to, name) < 0 ? failed(name, e) : 0;
}

static int merge_dir(int from, int to, const char *path, struct buf *todo, struct err *e)
{
	OWN_FD src = ws_open(from, path, O_RDONLY | O_DIRECTORY);
	OWN_FD dst = ws_open(to, path, O_RDONLY | O_DIRECTORY);
	struct merge m = {.to = dst, .todo = todo, .path = path};

	if (src < 0 || dst < 0)
		return failed(path, e);
	return ws_names(src, move_name, &m, e);
}

int ws_merge(const char *from, const char *to, struct err *e)
{
	OWN_FD src = ws_open(AT_FDCWD, from, O_RDONLY | O_DIRECTORY);
	OWN_FD dst = ws_open(AT_FDCWD, to, O_RDONLY | O_DIRECTORY);
	OWN_BUF todo = BUF_INIT((size_t)1 << 30);
	int ret = 0;

	if (src < 0 || dst < 0)
		return failed(to, e);
	if (buf_addc(&todo, '\0') < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "merge the archive");
	for (size_t at = 0; ret == 0 && at < todo.len;) {
		OWN_MEM char *path = strdup(todo.p + at); /* the buffer moves as it grows */

		if (!path)
			return err_set(e, ERR_SETUP, ENOMEM, "merge the archive");
		at += strlen(path) + 1;
		ret = merge_dir(src, dst, path, &todo, e);
	}
	return ret;
}

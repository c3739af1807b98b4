#include "fcgi/keeper_marks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/layout_file.h"
#include "isolate/own.h"

int marks_open(struct keeper *k, struct call *c, bool make, struct err *e)
{
	OWN_FD dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	int fd;

	if (dir >= 0 && make && mkdirat(dir, "snapshots", 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make the session's snapshots");
	fd = dir < 0 ? -1
		     : openat(dir, "snapshots", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, 0,
			"no snapshot or commit has this name");
	return fd;
}

int marks_load(struct keeper *k, struct call *c, struct ws_layout *lay, struct err *e)
{
	OWN_FD marks = marks_open(k, c, false, e);

	if (marks < 0)
		return -1;
	if (layout_load(marks, c->rq.name, lay, e) == 0)
		return 0;
	return e->kind == ERR_NOTFOUND
		       ? err_set(e, ERR_NOTFOUND, 0, "no snapshot or commit has this name")
		       : -1;
}

/* Whether a new mark may be made. */
int marks_check(struct keeper *k, struct call *c, struct err *e)
{
	OWN_FD marks = marks_open(k, c, true, e);
	OWN_DIR d = marks < 0 ? NULL : fdopendir(marks);
	struct dirent *de;
	int64_t n = 0;

	if (!d)
		return marks < 0 ? -1 : err_set(e, ERR_SETUP, errno, "list the snapshots");
	take_fd(&marks);
	while ((de = readdir(d))) {
		n += de->d_name[0] != '.';
		if (!strcmp(de->d_name, c->rq.name))
			return err_set(e, ERR_BUSY, EEXIST,
				"a snapshot or commit of this name exists already");
	}
	return n < k->conf->snapshots_max ? 0
					  : err_set(e, ERR_LIMIT, 0,
						    "the session has %lld snapshots already "
						    "(snapshots_max)",
						    (long long)n);
}

/* With what the session's files beside the layout say. */
static int save(struct keeper *k, struct call *c, int marks, struct err *e)
{
	OWN_FD dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	int ret;

	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open the session");
	c->layout.place = session_place_get(dir);
	ret = layout_save(marks, c->rq.name, &c->layout, NULL, 0, e);
	c->layout.place = 0;
	return ret;
}

int marks_save(struct keeper *k, struct call *c, struct err *e)
{
	OWN_FD marks = marks_open(k, c, true, e);

	if (marks < 0 || layers_hold(k, &c->layout.shared, e) < 0)
		return -1;
	if (layers_hold(k, &c->layout.root, e) == 0) {
		if (save(k, c, marks, e) == 0)
			return 0;
		layers_drop(k, &c->layout.root);
	}
	layers_drop(k, &c->layout.shared);
	return -1;
}

int marks_forget(struct keeper *k, struct call *c, struct err *e)
{
	OWN_MEM struct ws_layout *mark = malloc(sizeof *mark);
	OWN_FD marks = -1;

	if (!mark)
		return err_set(e, ERR_SETUP, ENOMEM, "read the snapshot");
	if (marks_load(k, c, mark, e) < 0)
		return -1;
	marks = marks_open(k, c, false, e);
	if (marks < 0)
		return -1;
	if (unlinkat(marks, c->rq.name, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "remove the snapshot");
	layers_drop(k, &mark->shared);
	layers_drop(k, &mark->root);
	return 0;
}

int marks_list(int out, int marks, struct err *e)
{
	OWN_DIR d = fdopendir(marks);
	struct dirent *de;
	struct stat st;

	if (!d) {
		close(marks);
		return err_set(e, ERR_SETUP, errno, "list the snapshots");
	}
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.' ||
			fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (dprintf(out, "%lld %s\n", (long long)st.st_mtime, de->d_name) < 0)
			return err_set(e, ERR_SETUP, errno, "list the snapshots");
	}
	return 0;
}

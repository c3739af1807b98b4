#include "isolate/jail_view.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/beneath.h"
#include "isolate/idmap.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { OPTIONS_MAX = 4000 }; /* mount(2) takes a page */

/* Descriptors of an overlay's directories, in the order of their numbers in its options. */
struct dirs {
	int fd[PLAN_LOWERS_MAX + 2];
	unsigned n;
};

static void close_dirs(struct dirs *d)
{
	while (d->n > 0)
		own_close(&d->fd[--d->n]);
}
#define OWN_DIRS __attribute__((cleanup(close_dirs))) struct dirs

/* Appends one directory, by the number of its descriptor: no quoting, no limit of length. */
static int add_dir(
	char *opt, size_t *n, const char *key, const char *path, struct dirs *d, struct err *e)
{
	int fd, w;

	if (d->n == NELEM(d->fd))
		return err_set(e, ERR_LIMIT, 0, "too many layers for one mount");
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open the layer %s", path);
	d->fd[d->n++] = fd;
	w = snprintf(opt + *n, OPTIONS_MAX - *n, "%s%d", key, fd);
	if (w < 0 || (size_t)w >= OPTIONS_MAX - *n)
		return err_set(e, ERR_LIMIT, 0, "too many layers for one mount");
	*n += (size_t)w;
	return 0;
}

/* Mounts m over the directory `at`. */
static int mount_overlay(const struct launch_mount *m, int at, struct err *e)
{
	OWN_DIRS d = {.n = 0};
	char opt[OPTIONS_MAX] = "userxattr", target[16];
	size_t n = strlen(opt);

	for (size_t i = 0; i < m->nlowers; i++)
		if (add_dir(opt, &n, i ? ":" : ",lowerdir=", m->lowers[i], &d, e) < 0)
			return -1;
	if (add_dir(opt, &n, ",upperdir=", m->upper, &d, e) < 0 ||
		add_dir(opt, &n, ",workdir=", m->work, &d, e) < 0)
		return -1;
	snprintf(target, sizeof target, "%d", at);
	if (chdir("/proc/self/fd") < 0)
		return err_set(e, ERR_SETUP, errno, "enter /proc/self/fd");
	if (mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, opt) < 0)
		return err_set(e, ERR_SETUP, errno, "mount an overlay of %zu layers", m->nlowers);
	return 0;
}

static int mount_bind(const struct launch_mount *m, int at, struct err *e)
{
	unsigned rec = m->flags & PLAN_RECURSIVE ? AT_RECURSIVE : 0;
	struct mount_attr a = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					   (m->flags & PLAN_WRITABLE ? 0 : MOUNT_ATTR_RDONLY),
		.propagation = MS_PRIVATE};
	OWN_FD mnt = sys_open_tree(AT_FDCWD, m->src, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | rec);

	if (mnt < 0)
		return err_set(e, ERR_SETUP, errno, "open the tree %s", m->src);
	if (sys_mount_setattr(mnt, "", AT_EMPTY_PATH | rec, &a) < 0)
		return err_set(e, ERR_SETUP, errno, "restrict the mount of %s", m->src);
	if (sys_move_mount(mnt, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_set(e, ERR_SETUP, errno, "attach %s", m->dst);
	return 0;
}

static int mount_over(const struct launch_mount *m, int at, struct err *e)
{
	return m->kind == PLAN_OVERLAY ? mount_overlay(m, at, e) : mount_bind(m, at, e);
}

/* Everything below root may be a tenant's work. */
static int mount_one(int root, const struct launch_mount *m, struct err *e)
{
	OWN_FD at = beneath_make_dir(
		root, m->dst, m->flags & PLAN_ONE_MOUNT ? BENEATH_ONE_MOUNT : BENEATH_IN_ROOT);

	if (at < 0)
		return err_set(e, ERR_SETUP, errno, "open %s in the root", m->dst);
	return mount_over(m, at, e);
}

static int enter_live(const struct jail_view *v, struct err *e)
{
	/* root and working directory become those of the mount namespace */
	if (setns(v->live, CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return err_set(e, ERR_SETUP, errno, "enter the sandbox's namespaces");
	return 0;
}

int jail_view_mount(const struct jail_view *v, struct err *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	OWN_FD at = -1, root = -1;

	if (v->live >= 0)
		return enter_live(v, e);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return err_set(e, ERR_SETUP, errno, "unshare the user and mount namespaces");
	if (idmap_write(0, 0, uid, gid, e) < 0)
		return -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_set(e, ERR_SETUP, errno, "part from other mounts");
	at = open(v->staging, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0 || mount_over(&v->root, at, e) < 0)
		return at < 0 ? err_set(e, ERR_SETUP, errno, "open the staging directory") : -1;
	root = open(v->staging, O_PATH | O_DIRECTORY | O_CLOEXEC); /* now the overlay */
	if (root < 0)
		return err_set(e, ERR_SETUP, errno, "open the session's root");
	for (size_t i = 0; i < v->nmounts; i++)
		if (mount_one(root, &v->mounts[i], e) < 0)
			return -1;
	if (fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return err_set(e, ERR_SETUP, errno, "enter the session's root");
	return 0;
}

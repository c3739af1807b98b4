/* The mounts of a sandbox. Everything below the new root may be hostile (an image, what a tenant
 * left in an upper directory), so each target is opened inside that root (beneath.h) and
 * each mount is attached by descriptor. */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "isolate/beneath.h"
#include "isolate/init.h"
#include "isolate/init_parts.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/* A link may lead to a place in /proc, where nothing is covered but by us. */
static int check_target(int at, const char *path, struct err *e)
{
	OWN_FD own = at;
	struct statfs fs;

	if (own < 0 || fstatfs(own, &fs) < 0)
		return err_set(e, ERR_SETUP, errno, "open %s in the root", path);
	if (fs.f_type == PROC_SUPER_MAGIC)
		return err_set(e, ERR_SETUP, 0, "%s in the root is a place in /proc", path);
	return take_fd(&own);
}

/* Opens the directory path below root as a mount target, making what is missing. */
static int make_dir(int root, const char *path, struct err *e)
{
	return check_target(beneath_make_dir(root, path, BENEATH_IN_ROOT), path, e);
}

/* For a mount that links of another mount must not lead elsewhere. */
static int make_dir_here(int root, const char *path, struct err *e)
{
	return check_target(beneath_make_dir(root, path, BENEATH_ONE_MOUNT), path, e);
}

/* The same for something that is no directory. */
static int make_file(int root, const char *path, struct err *e)
{
	return check_target(beneath_make_file(root, path, BENEATH_IN_ROOT), path, e);
}

/*
 * The host's directories that one overlay is made of. They must not outlive its mount: through a
 * descriptor of pid 1, a command's working directory or program could be a path of the host.
 */
struct layers {
	int fd[PLAN_LOWERS_MAX + 2]; /* the last two: upper and work */
	unsigned n;
};

static void close_layers(struct layers *l)
{
	while (l->n > 0)
		own_close(&l->fd[--l->n]);
}
#define OWN_LAYERS __attribute__((cleanup(close_layers))) struct layers

/* Keeps fd, which is open_layer()'s or the like, until the overlay is mounted. */
static int hold_layer(struct layers *l, int fd, struct err *e)
{
	OWN_FD own = fd;

	if (own < 0)
		return -1;
	if (l->n == NELEM(l->fd))
		return err_set(e, ERR_LIMIT, 0, "too many layers for one mount");
	return l->fd[l->n++] = take_fd(&own);
}

/* Opens a directory of the host for the overlay's options, where it appears as its number. */
static int open_layer(const char *path, struct err *e)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 ? fd : err_set(e, ERR_SETUP, errno, "open the layer %s", path);
}

static int add_option(char *opt, size_t size, size_t *n, const char *key, int fd, struct err *e)
{
	int w = snprintf(opt + *n, size - *n, "%s%d", key, fd);

	if (w < 0 || (size_t)w >= size - *n)
		return err_set(e, ERR_LIMIT, 0, "too many layers for one mount");
	*n += (size_t)w;
	return 0;
}

/*
 * Overlay options name descriptors, relative to /proc/self/fd: no length limit in practice, no
 * quoting of ':' and ',', and no path is looked up twice. (fsconfig takes 256 bytes a value,
 * and one descriptor a layer only from Linux 6.13 on.)
 */
static int mount_overlay(const struct plan *p, const struct plan_mount *m, int at, int upper,
	int work, struct layers *l, struct err *e)
{
	char opt[4000], target[16];
	size_t n = (size_t)snprintf(opt, sizeof opt, "userxattr");
	const char *lower = plan_str(p, m->src);

	for (uint32_t i = 0; i < m->nlowers; i++, lower += strlen(lower) + 1) {
		int fd = hold_layer(l, open_layer(lower, e), e);

		if (fd < 0 || add_option(opt, sizeof opt, &n, i ? ":" : ",lowerdir=", fd, e) < 0)
			return -1;
	}
	if (upper >= 0 && (add_option(opt, sizeof opt, &n, ",upperdir=", upper, e) < 0 ||
				  add_option(opt, sizeof opt, &n, ",workdir=", work, e) < 0))
		return -1;
	snprintf(target, sizeof target, "%d", at);
	if (chdir("/proc/self/fd") < 0)
		return err_set(e, ERR_SETUP, errno, "enter /proc/self/fd");
	if (mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, opt) < 0)
		return err_set(e, ERR_SETUP, errno, "mount an overlay of %u layers", m->nlowers);
	return 0;
}

/* The upper and work directories of an overlay on a tmpfs of its own, mounted at `at`. */
static int tmpfs_upper(
	const struct plan_mount *m, int at, int *upper, int *work, struct layers *l, struct err *e)
{
	OWN_FD mnt = init_tmpfs(m->bytes, m->inodes, 0755, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, e);

	if (mnt < 0 || init_attach(mnt, at, "the upper tmpfs", e) < 0)
		return -1;
	if (mkdirat(mnt, "upper", 0755) < 0 || mkdirat(mnt, "work", 0755) < 0)
		return err_set(e, ERR_SETUP, errno, "prepare the upper tmpfs");
	*upper = hold_layer(l, openat(mnt, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC), e);
	*work = hold_layer(l, openat(mnt, "work", O_PATH | O_DIRECTORY | O_CLOEXEC), e);
	if (*upper < 0 || *work < 0)
		return err_set(e, ERR_SETUP, errno, "open the upper tmpfs");
	return 0;
}

static int do_overlay(const struct plan *p, const struct plan_mount *m, int at, struct err *e)
{
	OWN_LAYERS l = {.n = 0};
	int upper = -1, work = -1;

	if (m->flags & PLAN_TMPFS_UPPER) {
		if (tmpfs_upper(m, at, &upper, &work, &l, e) < 0)
			return -1;
	} else if (m->upper) {
		upper = hold_layer(&l, open_layer(plan_str(p, m->upper), e), e);
		work = upper < 0 ? -1 : hold_layer(&l, open_layer(plan_str(p, m->work), e), e);
		if (work < 0)
			return -1;
	}
	return mount_overlay(p, m, at, upper, work, &l, e);
}

static int do_bind(const struct plan *p, const struct plan_mount *m, int root, struct err *e)
{
	const char *src = plan_str(p, m->src), *dst = plan_str(p, m->dst);
	uint64_t attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			(m->flags & PLAN_WRITABLE ? 0 : MOUNT_ATTR_RDONLY);
	OWN_FD mnt = init_bind(src, m->flags & PLAN_RECURSIVE, attr, e), at = -1;
	struct stat st;

	if (mnt < 0)
		return -1;
	if (fstat(mnt, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "look at %s", src);
	if (m->flags & PLAN_ONE_MOUNT)
		at = make_dir_here(root, dst, e);
	else
		at = S_ISDIR(st.st_mode) ? make_dir(root, dst, e) : make_file(root, dst, e);
	return at < 0 ? -1 : init_attach(mnt, at, dst, e);
}

static int do_mount(const struct plan *p, const struct plan_mount *m, int root, struct err *e)
{
	const char *dst = plan_str(p, m->dst);
	OWN_FD at = -1, mnt = -1;

	switch (m->kind) {
	case PLAN_BIND:
		return do_bind(p, m, root, e);
	case PLAN_TMPFS:
		at = make_dir(root, dst, e);
		mnt = at < 0 ? -1
			     : init_tmpfs(m->bytes, m->inodes, m->mode,
				       MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, e);
		return mnt < 0 ? -1 : init_attach(mnt, at, dst, e);
	case PLAN_OVERLAY:
		at = make_dir(root, dst, e);
		return at < 0 ? -1 : do_overlay(p, m, at, e);
	}
	return err_set(e, ERR_BUG, 0, "mount of kind %u", m->kind);
}

static int enter_root(int root, struct err *e)
{
	/* "." twice: the old root ends up stacked over the new one and is taken off; pivot_root(2) */
	if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0 ||
		(!MUTATED("root-detach") && umount2(".", MNT_DETACH) < 0) || chdir("/") < 0)
		return err_set(e, ERR_SETUP, errno, "pivot into the root");
	return 0;
}

/* The mounts of the plan but the root itself. */
static int add_mounts(const struct plan *p, int root, struct err *e)
{
	const struct plan_mount *m =
		(const struct plan_mount *)(const void *)((const char *)p + p->mounts);
	OWN_FD home = -1;

	for (uint32_t i = 0; i < p->nmounts; i++)
		if (do_mount(p, &m[i], root, e) < 0)
			return -1;
	if (p->home && (home = make_dir(root, plan_str(p, p->home), e)) < 0)
		return -1;
	return 0;
}

int init_root_wait_place(const struct plan *p, struct err *e)
{
	OWN_FD at = open_layer(plan_str(p, p->staging), e);
	OWN_FD mnt = at < 0 ? -1 : init_tmpfs(4096, 4, 0755, MOUNT_ATTR_NOSUID, e);

	if (mnt < 0 || init_attach(mnt, at, "a place to wait", e) < 0)
		return -1;
	return take_fd(&mnt);
}

int init_root_build(const struct plan *p, struct init_parts *parts, int *null, struct err *e)
{
	const char *staging = plan_str(p, p->staging);
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	OWN_FD at = -1, root = -1;

	/* Nothing that the host mounts later may appear inside, nor the other way. */
	if (!MUTATED("mounts-private") && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_set(e, ERR_SETUP, errno, "make the mounts private");
	at = open_layer(staging, e);
	if (at < 0 || do_overlay(p, &p->root, at, e) < 0)
		return -1;
	root = open(staging, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_set(e, ERR_SETUP, errno, "open the new root");
	if ((parts->dev < 0 ? init_parts_build(p, root, parts, e)
			    : init_parts_move(parts, root, e)) < 0)
		return -1;
	if ((!MUTATED("private-dev") && init_etc_build(p, root, parts->dev, e) < 0) ||
		init_parts_finish(parts, e) < 0)
		return -1;
	if (add_mounts(p, root, e) < 0 || init_parts_check(parts, root, e) < 0)
		return -1;
	*null = openat(parts->dev, "null", O_RDONLY | O_CLOEXEC);
	if (*null < 0)
		return err_set(e, ERR_SETUP, errno, "open /dev/null");
	if (p->root.flags & PLAN_READ_ONLY && sys_mount_setattr(root, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "make the root read-only");
	return enter_root(root, e);
}

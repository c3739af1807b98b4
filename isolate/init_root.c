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
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

#define PTYS_MAX "64" /* pseudo terminals of one sandbox */

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

/* The same for something that is no directory. */
static int make_file(int root, const char *path, struct err *e)
{
	return check_target(beneath_make_file(root, path, BENEATH_IN_ROOT), path, e);
}

/* /dev and /proc themselves: a link in their place is refused, as other mounts hang on them. */
static int make_own_dir(int root, const char *name, struct err *e)
{
	int dir = beneath_make_dir(root, name, BENEATH_NO_LINKS);

	return dir >= 0 ? dir : err_set(e, ERR_SETUP, errno, "open /%s in the root", name);
}

/* Whether /name in the finished root is the mount mnt, and nothing that a link laid over it. */
static int check_own_dir(int root, const char *name, int mnt, struct err *e)
{
	OWN_FD fd = beneath_open(root, name, O_PATH | O_DIRECTORY, BENEATH_NO_LINKS);
	struct stat have, want;

	if (fd < 0 || fstat(fd, &have) < 0 || fstat(mnt, &want) < 0)
		return err_set(e, ERR_SETUP, errno, "open /%s in the root", name);
	if (have.st_dev != want.st_dev || have.st_ino != want.st_ino)
		return err_set(e, ERR_SETUP, 0, "a mount of the root covers /%s", name);
	return 0;
}

int init_attach(int mnt, int at, const char *what, struct err *e)
{
	if (sys_move_mount(mnt, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_set(e, ERR_SETUP, errno, "attach %s", what);
	return 0;
}

int init_tmpfs(uint64_t bytes, uint64_t inodes, uint32_t mode, unsigned attr, struct err *e)
{
	char size[32], nr[32], oct[16];
	OWN_FD fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
	int mnt = -1;

	snprintf(size, sizeof size, "%llu", (unsigned long long)MUTATE("tmpfs-bytes", bytes, 0));
	snprintf(nr, sizeof nr, "%llu", (unsigned long long)MUTATE("tmpfs-inodes", inodes, 0));
	snprintf(oct, sizeof oct, "%o", mode);
	if (fs >= 0 && !sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) &&
		!sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", nr, 0) &&
		!sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", oct, 0) &&
		!sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mnt = sys_fsmount(fs, FSMOUNT_CLOEXEC, attr);
	return mnt >= 0 ? mnt : err_set(e, ERR_SETUP, errno, "make a tmpfs of %s bytes", size);
}

static int new_fs(const char *type, const char *const *options, unsigned attr, struct err *e)
{
	OWN_FD fs = sys_fsopen(type, FSOPEN_CLOEXEC);
	int mnt;

	for (; fs >= 0 && options && *options; options += 2)
		if (sys_fsconfig(fs, options[1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG,
			    options[0], options[1], 0) < 0)
			return err_set(e, ERR_SETUP, errno, "%s option %s", type, options[0]);
	if (fs < 0 || sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ||
		(mnt = sys_fsmount(fs, FSMOUNT_CLOEXEC, attr)) < 0)
		return err_set(e, ERR_SETUP, errno, "make a %s", type);
	return mnt;
}

/* A detached copy of the mount at path, with more restrictive attributes. */
static int new_bind(const char *path, bool recursive, uint64_t attr, struct err *e)
{
	unsigned rec = recursive ? AT_RECURSIVE : 0;
	struct mount_attr a = {.attr_set = MUTATE_ATTR(attr),
		.propagation = MUTATE("bind-private", MS_PRIVATE, 0)};
	int mnt = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | rec);

	if (mnt < 0)
		return err_set(e, ERR_SETUP, errno, "open the tree %s", path);
	if (sys_mount_setattr(mnt, "", AT_EMPTY_PATH | rec, &a) < 0) {
		close(mnt);
		return err_set(e, ERR_SETUP, errno, "restrict the mount of %s", path);
	}
	return mnt;
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
	OWN_FD mnt = new_bind(src, m->flags & PLAN_RECURSIVE, attr, e), at = -1;
	struct stat st;

	if (mnt < 0)
		return -1;
	if (fstat(mnt, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "look at %s", src);
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

static int add_device(int dev, const char *name, struct err *e)
{
	char path[32];
	OWN_FD mnt = -1, at = -1;

	snprintf(path, sizeof path, "/dev/%s", name);
	/* Read-only does not keep anybody from writing to a device, but from changing its mode: where
	 * root starts a sandbox, the nodes are its own. */
	mnt = new_bind(path, false, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY, e);
	if (mnt < 0)
		return -1;
	at = openat(dev, name, O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0644);
	if (at < 0)
		return err_set(e, ERR_SETUP, errno, "make /dev/%s", name);
	return init_attach(mnt, at, path, e);
}

static int add_dir_fs(int dev, const char *name, int mnt, struct err *e)
{
	OWN_FD own = mnt, at = -1;

	if (own < 0)
		return -1;
	if (mkdirat(dev, name, 0755) < 0 ||
		(at = openat(dev, name, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_set(e, ERR_SETUP, errno, "make /dev/%s", name);
	return init_attach(own, at, name, e);
}

/* A /dev of our own: the harmless devices, a private devpts, shared memory with limits. */
static int build_dev(const struct plan *p, int root, int *out, struct err *e)
{
	static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
	static const char *const links[][2] = {{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}};
	/* Without a maximum of its own one sandbox takes all that kernel.pty.max leaves to all. */
	static const char *const pts[] = {
		"newinstance", NULL, "ptmxmode", "0666", "mode", "0600", "max", PTYS_MAX, NULL};
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	OWN_FD at = make_own_dir(root, "dev", e);
	OWN_FD dev = at < 0                   ? -1
		     : MUTATED("private-dev") ? new_bind("/dev", true, 0, e)
					      : init_tmpfs(65536, 64, 0755, MOUNT_ATTR_NOSUID, e);

	if (dev < 0 || init_attach(dev, at, "/dev", e) < 0)
		return -1;
	if (MUTATED("private-dev"))
		return (*out = take_fd(&dev)) < 0;
	for (size_t i = 0; i < NELEM(devices); i++)
		if (add_device(dev, devices[i], e) < 0)
			return -1;
	for (size_t i = 0; i < NELEM(links); i++)
		if (symlinkat(links[i][0], dev, links[i][1]) < 0)
			return err_set(e, ERR_SETUP, errno, "link /dev/%s", links[i][1]);
	if (add_dir_fs(dev, "pts",
		    MUTATED("own-devpts")
			    ? new_bind("/dev/pts", false, 0, e)
			    : new_fs("devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e),
		    e) < 0 ||
		add_dir_fs(dev, "shm",
			init_tmpfs(p->shm_bytes, p->shm_inodes, 01777,
				MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, e),
			e) < 0)
		return -1;
	if (init_etc_build(p, root, dev, e) < 0)
		return -1;
	if (!MUTATED("dev-read-only") && sys_mount_setattr(dev, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "make /dev read-only");
	*out = take_fd(&dev);
	return 0;
}

/* Covers path of the new /proc with /dev/null or an empty read-only directory; absent is fine. */
static int mask_path(int proc, const char *path, struct err *e)
{
	OWN_FD at = beneath_open(proc, path, O_PATH | O_NOFOLLOW, BENEATH_NO_LINKS), mnt = -1;
	struct stat st;

	if (at < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "open /proc/%s", path);
	if (fstat(at, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "look at /proc/%s", path);
	mnt = S_ISDIR(st.st_mode)
		      ? init_tmpfs(4096, 2, 0555,
				MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, e)
		      : new_bind("/dev/null", false,
				MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY, e);
	return mnt < 0 ? -1 : init_attach(mnt, at, path, e);
}

static int readonly_path(int proc, const char *path, struct err *e)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					    MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
	OWN_FD at = beneath_open(proc, path, O_PATH | O_NOFOLLOW, BENEATH_NO_LINKS);
	OWN_FD mnt = at < 0 ? -1
			    : sys_open_tree(
				      at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (at < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "open /proc/%s", path);
	if (mnt < 0 || sys_mount_setattr(mnt, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "make /proc/%s read-only", path);
	return init_attach(mnt, at, path, e);
}

/* A quota that this kernel lacks needs no value. */
static int write_quota(int dir, const char *name, const char *value, struct err *e)
{
	OWN_FD fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return err_set(e, ERR_SETUP, errno, "write %s", name);
	return 0;
}

/*
 * Quotas of this user namespace (namespaces(7)): no namespace can be made inside, so there is
 * no second way to a capability should a filter fail. user: /proc/sys/user, opened before it was
 * covered read-only. Last of all, because every detached mount counts as a mount namespace.
 */
int init_root_quotas(int user, struct err *e)
{
	static const char *const kinds[] = {
		"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"};

	for (size_t i = 0; !MUTATED("quota-namespaces") && i < NELEM(kinds); i++) {
		char name[32];

		snprintf(name, sizeof name, "max_%s_namespaces", kinds[i]);
		if (write_quota(user, name, "0", e) < 0)
			return -1;
	}
	/* The uid's own 128 are shared by all sandboxes of this host. */
	if (!MUTATED("quota-inotify") &&
		(write_quota(user, "max_inotify_instances", "32", e) < 0 ||
			write_quota(user, "max_inotify_watches", "16384", e) < 0))
		return -1;
	return MUTATED("quota-fanotify") ? 0 : write_quota(user, "max_fanotify_groups", "0", e);
}

/*
 * Since Linux 6.14 each pid namespace has a pid_max of its own, at least 301: a limit on
 * processes that does not hang on the uid as RLIMIT_NPROC does. Older kernels refuse the open.
 */
static int limit_pids(int proc, uint32_t processes_max, struct err *e)
{
	OWN_FD fd = openat(proc, "sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);
	char value[16];
	int n = snprintf(value, sizeof value, "%u", processes_max + 301);

	if (fd < 0)
		return errno == EACCES ? 0 : err_set(e, ERR_SETUP, errno, "open pid_max");
	if (write(fd, value, (size_t)n) < 0 && errno != EINVAL) /* over what the kernel can count */
		return err_set(e, ERR_SETUP, errno, "write pid_max");
	return 0;
}

/*
 * One TCP connection of the sandbox's own network may hold 512 KiB each way and not the 32 and 4 MiB
 * that hosts allow by default; tcp(7). What SO_RCVBUF sets has a limit of the host's.
 */
static int limit_tcp(int proc, struct err *e)
{
	static const char *const values[][2] = {{"sys/net/ipv4/tcp_rmem", "4096 131072 524288"},
		{"sys/net/ipv4/tcp_wmem", "4096 16384 524288"}};

	for (size_t i = 0; i < NELEM(values); i++)
		if (write_quota(proc, values[i][0], values[i][1], e) < 0)
			return -1;
	return 0;
}

/* The lists of the OCI runtime spec's default configuration, and what else the host shows. */
static int build_proc(const struct plan *p, int root, int *proc, int *user, struct err *e)
{
	static const char *const masked[] = {"acpi", "asound", "config.gz", "interrupts",
		"kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount",
		"kpageflags", "latency_stats", "pagetypeinfo", "sched_debug", "scsi", "slabinfo",
		"sysrq-trigger", "timer_list", "timer_stats", "vmallocinfo", "vmcore"};
	static const char *const readonly[] = {"bus", "fs", "irq", "sys"};
	OWN_FD at = make_own_dir(root, "proc", e);
	OWN_FD mnt = at < 0 ? -1
			    : new_fs("proc", NULL,
				      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, e);

	if (mnt < 0 || init_attach(mnt, at, "/proc", e) < 0)
		return -1;
	*user = openat(mnt, "sys/user", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*user < 0)
		return err_set(e, ERR_SETUP, errno, "open /proc/sys/user");
	if (!MUTATED("pid-max") && limit_pids(mnt, p->processes_max, e) < 0)
		return -1;
	if (p->network != PLAN_NET_HOST && limit_tcp(mnt, e) < 0)
		return -1;
	for (size_t i = 0; !MUTATED("proc-masks") && i < NELEM(masked); i++)
		if (mask_path(mnt, masked[i], e) < 0)
			return -1;
	for (size_t i = 0; !MUTATED("proc-read-only") && i < NELEM(readonly); i++)
		if (readonly_path(mnt, readonly[i], e) < 0)
			return -1;
	*proc = take_fd(&mnt);
	return 0;
}

static int enter_root(int root, struct err *e)
{
	/* "." twice: the old root ends up stacked over the new one and is taken off; pivot_root(2) */
	if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0 ||
		(!MUTATED("root-detach") && umount2(".", MNT_DETACH) < 0) || chdir("/") < 0)
		return err_set(e, ERR_SETUP, errno, "pivot into the root");
	return 0;
}

int init_root_build(const struct plan *p, int *null, int *user, struct err *e)
{
	const struct plan_mount *m =
		(const struct plan_mount *)(const void *)((const char *)p + p->mounts);
	const char *staging = plan_str(p, p->staging);
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	OWN_FD at = -1, root = -1, dev = -1, proc = -1, home = -1;

	/* Nothing that the host mounts later may appear inside, nor the other way. */
	if (!MUTATED("mounts-private") && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_set(e, ERR_SETUP, errno, "make the mounts private");
	at = open_layer(staging, e);
	if (at < 0 || do_overlay(p, &p->root, at, e) < 0)
		return -1;
	root = open(staging, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_set(e, ERR_SETUP, errno, "open the new root");
	/* Devices before /proc, whose masks need nothing of the host after this point. */
	if (build_dev(p, root, &dev, e) < 0 || build_proc(p, root, &proc, user, e) < 0)
		return -1;
	for (uint32_t i = 0; i < p->nmounts; i++)
		if (do_mount(p, &m[i], root, e) < 0)
			return -1;
	if (p->home && (home = make_dir(root, plan_str(p, p->home), e)) < 0)
		return -1;
	if (check_own_dir(root, "dev", dev, e) < 0 || check_own_dir(root, "proc", proc, e) < 0)
		return -1;
	*null = openat(dev, "null", O_RDONLY | O_CLOEXEC);
	if (*null < 0)
		return err_set(e, ERR_SETUP, errno, "open /dev/null");
	if (p->root.flags & PLAN_READ_ONLY && sys_mount_setattr(root, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "make the root read-only");
	return enter_root(root, e);
}

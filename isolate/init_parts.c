/*
 * The parts of a root that are the same whatever it is made of: /dev and /proc. A waiting pid 1
 * (init_park.c) makes them before it knows of a root.
 */
#include "isolate/init_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "isolate/beneath.h"
#include "isolate/init.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

#define PTYS_MAX "64" /* pseudo terminals of one sandbox */

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

int init_bind(const char *path, bool recursive, uint64_t attr, struct err *e)
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

/* Attaches a detached mount over a name of a file system of ours that nobody else has seen. */
static int attach_over(int mnt, int dir, const char *name, struct err *e)
{
	if (sys_move_mount(mnt, "", dir, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_set(e, ERR_SETUP, errno, "attach %s", name);
	return 0;
}

static int add_device(int dev, const char *name, struct err *e)
{
	char path[32];
	OWN_FD mnt = -1;

	snprintf(path, sizeof path, "/dev/%s", name);
	mnt = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (mnt < 0)
		return err_set(e, ERR_SETUP, errno, "open the tree %s", path);
	if (mknodat(dev, name, S_IFREG | 0644, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "make /dev/%s", name);
	return attach_over(mnt, dev, name, e);
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

/*
 * All of them at once; /dev itself, which is the mount above them, is made writable again.
 * Read-only does not keep anybody from writing to a device, but from changing its mode: where root
 * starts a sandbox, the nodes are its own.
 */
static int restrict_devices(int dev, struct err *e)
{
	struct mount_attr all = {
		.attr_set = MUTATE_ATTR(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY),
		.propagation = MUTATE("bind-private", MS_PRIVATE, 0)};
	struct mount_attr own = {.attr_clr = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY};

	if (sys_mount_setattr(dev, "", AT_EMPTY_PATH | AT_RECURSIVE, &all) < 0 ||
		sys_mount_setattr(dev, "", AT_EMPTY_PATH, &own) < 0)
		return err_set(e, ERR_SETUP, errno, "restrict the devices");
	return 0;
}

/* A /dev of our own: the harmless devices, a private devpts, shared memory with limits. Still
 * writable: init_etc_build() needs that. */
static int build_dev(const struct plan *p, int root, int *out, struct err *e)
{
	static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
	static const char *const links[][2] = {{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}};
	/* Without a maximum of its own one sandbox takes all that kernel.pty.max leaves to all. */
	static const char *const pts[] = {
		"newinstance", NULL, "ptmxmode", "0666", "mode", "0600", "max", PTYS_MAX, NULL};
	OWN_FD at = make_own_dir(root, "dev", e);
	OWN_FD dev = at < 0                   ? -1
		     : MUTATED("private-dev") ? init_bind("/dev", true, 0, e)
					      : init_tmpfs(65536, 64, 0755, MOUNT_ATTR_NOSUID, e);

	if (dev < 0 || init_attach(dev, at, "/dev", e) < 0)
		return -1;
	if (MUTATED("private-dev"))
		return (*out = take_fd(&dev)) < 0;
	for (size_t i = 0; i < NELEM(devices); i++)
		if (add_device(dev, devices[i], e) < 0)
			return -1;
	if (restrict_devices(dev, e) < 0)
		return -1;
	for (size_t i = 0; i < NELEM(links); i++)
		if (symlinkat(links[i][0], dev, links[i][1]) < 0)
			return err_set(e, ERR_SETUP, errno, "link /dev/%s", links[i][1]);
	if (add_dir_fs(dev, "pts",
		    MUTATED("own-devpts")
			    ? init_bind("/dev/pts", false, 0, e)
			    : new_fs("devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e),
		    e) < 0 ||
		add_dir_fs(dev, "shm",
			init_tmpfs(p->shm_bytes, p->shm_inodes, 01777,
				MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, e),
			e) < 0)
		return -1;
	*out = take_fd(&dev);
	return 0;
}

/* Covers a name of the new /proc with null, a descriptor of the new /dev/null, or an empty read-only
 * directory; absent is fine. */
static int mask(int proc, const char *name, int null, struct err *e)
{
	OWN_FD mnt = -1;
	struct stat st;

	if (fstatat(proc, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "look at /proc/%s", name);
	/* The copy is restricted as its original is. */
	mnt = S_ISDIR(st.st_mode)
		      ? init_tmpfs(4096, 2, 0555,
				MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, e)
		      : sys_open_tree(
				null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (mnt < 0)
		return err_set(e, ERR_SETUP, errno, "cover /proc/%s", name);
	return attach_over(mnt, proc, name, e);
}

static int readonly_path(int proc, const char *name, struct err *e)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					    MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
	OWN_FD mnt = sys_open_tree(
		proc, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);

	if (mnt < 0 && errno == ENOENT)
		return 0;
	if (mnt < 0 || sys_mount_setattr(mnt, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "make /proc/%s read-only", name);
	return attach_over(mnt, proc, name, e);
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
 * Quotas of this user namespace (namespaces(7)): none can be made inside, so there is no second way
 * to a capability should a filter fail. The other kinds need none of their own: to make one takes
 * CAP_SYS_ADMIN, which is gone and which only a new user namespace would give. Each costs 7 us.
 */
static int limit_namespaces(int sys, struct err *e)
{
	if (!MUTATED("quota-namespaces") &&
		write_quota(sys, "user/max_user_namespaces", "0", e) < 0)
		return -1;
	/* The uid's own 128 are shared by all sandboxes of this host. */
	if (!MUTATED("quota-inotify") &&
		(write_quota(sys, "user/max_inotify_instances", "32", e) < 0 ||
			write_quota(sys, "user/max_inotify_watches", "16384", e) < 0))
		return -1;
	return MUTATED("quota-fanotify") ? 0 : write_quota(sys, "user/max_fanotify_groups", "0", e);
}

/*
 * Since Linux 6.14 each pid namespace has a pid_max of its own, at least 301: a limit on
 * processes that does not hang on the uid as RLIMIT_NPROC does. Older kernels refuse the open.
 */
static int limit_pids(int sys, uint32_t processes_max, struct err *e)
{
	OWN_FD fd = openat(sys, "kernel/pid_max", O_WRONLY | O_CLOEXEC);
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
static int limit_tcp(int sys, struct err *e)
{
	static const char *const values[][2] = {{"net/ipv4/tcp_rmem", "4096 131072 524288"},
		{"net/ipv4/tcp_wmem", "4096 16384 524288"}};

	for (size_t i = 0; i < NELEM(values); i++)
		if (write_quota(sys, values[i][0], values[i][1], e) < 0)
			return -1;
	return 0;
}

/* The lists of the OCI runtime spec's default configuration, and what else the host shows. */
static int cover_proc(int proc, int dev, struct err *e)
{
	static const char *const masked[] = {"acpi", "asound", "config.gz", "interrupts",
		"kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount",
		"kpageflags", "latency_stats", "pagetypeinfo", "sched_debug", "scsi", "slabinfo",
		"sysrq-trigger", "timer_list", "timer_stats", "vmallocinfo", "vmcore"};
	static const char *const readonly[] = {"bus", "fs", "irq", "sys"};
	OWN_FD null = openat(dev, "null", O_PATH | O_CLOEXEC);

	if (null < 0)
		return err_set(e, ERR_SETUP, errno, "open /dev/null");
	for (size_t i = 0; !MUTATED("proc-masks") && i < NELEM(masked); i++)
		if (mask(proc, masked[i], null, e) < 0)
			return -1;
	for (size_t i = 0; !MUTATED("proc-read-only") && i < NELEM(readonly); i++)
		if (readonly_path(proc, readonly[i], e) < 0)
			return -1;
	return 0;
}

static int build_proc(const struct plan *p, int root, struct init_parts *parts, struct err *e)
{
	OWN_FD at = make_own_dir(root, "proc", e);
	OWN_FD mnt = at < 0 ? -1
			    : new_fs("proc", NULL,
				      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, e);

	if (mnt < 0 || init_attach(mnt, at, "/proc", e) < 0)
		return -1;
	parts->sys = openat(mnt, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (parts->sys < 0)
		return err_set(e, ERR_SETUP, errno, "open /proc/sys");
	if (!MUTATED("pid-max") && limit_pids(parts->sys, p->processes_max, e) < 0)
		return -1;
	if (cover_proc(mnt, parts->dev, e) < 0)
		return -1;
	parts->proc = take_fd(&mnt);
	return 0;
}

static int open_watch(const struct plan *p, int proc, int watch[INIT_WATCH_FDS], struct err *e)
{
	static const char *const tables[INIT_WATCH_FDS - 1] = {
		"sysvipc/shm", "sysvipc/sem", "sysvipc/msg"};
	size_t n = 0;

	for (; n < NELEM(tables); n++) {
		watch[n] = openat(proc, tables[n], O_RDONLY | O_CLOEXEC);
		if (watch[n] < 0)
			return err_set(e, ERR_SETUP, errno, "open /proc/%s", tables[n]);
	}
	if (p->network == PLAN_NET_HOST)
		return 0;
	watch[n] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	return watch[n] < 0 ? err_set(e, ERR_SETUP, errno, "make a socket that lists sockets") : 0;
}

int init_parts_limit(const struct plan *p, const struct init_parts *parts,
	int watch[INIT_WATCH_FDS], struct err *e)
{
	if (p->network != PLAN_NET_HOST && limit_tcp(parts->sys, e) < 0)
		return -1;
	return limit_namespaces(parts->sys, e) < 0 ? -1 : open_watch(p, parts->proc, watch, e);
}

int init_parts_build(const struct plan *p, int root, struct init_parts *parts, struct err *e)
{
	return build_dev(p, root, &parts->dev, e) < 0 ? -1 : build_proc(p, root, parts, e);
}

int init_parts_move(const struct init_parts *parts, int root, struct err *e)
{
	OWN_FD dev = make_own_dir(root, "dev", e);
	OWN_FD proc = dev < 0 ? -1 : make_own_dir(root, "proc", e);

	if (proc < 0 || init_attach(parts->dev, dev, "/dev", e) < 0)
		return -1;
	return init_attach(parts->proc, proc, "/proc", e);
}

int init_parts_check(const struct init_parts *parts, int root, struct err *e)
{
	return check_own_dir(root, "dev", parts->dev, e) < 0
		       ? -1
		       : check_own_dir(root, "proc", parts->proc, e);
}

int init_parts_finish(const struct init_parts *parts, struct err *e)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

	if (!MUTATED("dev-read-only") && !MUTATED("private-dev") &&
		sys_mount_setattr(parts->dev, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "make /dev read-only");
	return 0;
}

void init_parts_close(struct init_parts *parts)
{
	own_close(&parts->dev);
	own_close(&parts->proc);
	own_close(&parts->sys);
}

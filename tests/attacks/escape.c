/* Class A: out of the sandbox by files, descriptors, mounts and /proc. */
#include "atk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool same(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void fds(int argc, char **argv)
{
	(void)argc, (void)argv;
	works(fcntl(1, F_GETFD), "fcntl of standard output");
	for (int fd = 3; fd < 1 << 20; fd++) {
		char link[64], to[PATH_MAX] = "";

		if (fcntl(fd, F_GETFD) < 0)
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		readlink(link, to, sizeof to - 1);
		breach("descriptor %d is open: %s", fd, to);
	}
	held();
}

static void cwd(int argc, char **argv)
{
	char path[PATH_MAX];

	(void)argc, (void)argv;
	works(syscall(SYS_getcwd, path, sizeof path), "getcwd");
	if (*path != '/')
		breach("the working directory is outside: %s", path);
	for (int i = 0; i < 64; i++)
		works(chdir(".."), "go up");
	if (!same(".", "/"))
		breach("going up ends in another root");
	held();
}

/* CANARY: an absolute path of the host that is not shown inside. */
static void chroot_break(int argc, char **argv)
{
	char path[PATH_MAX];
	int old = open("/", O_PATH | O_DIRECTORY);

	works(old, "open /");
	if (!same("/..", "/"))
		breach("/.. is not /: the old root lies over the new one");
	if (mkdir("/tmp/jail", 0700) == 0 && chroot("/tmp/jail") == 0) {
		works(fchdir(old), "fchdir");
		for (int i = 0; i < 64; i++)
			works(chdir(".."), "go up");
		works(chroot("."), "chroot back");
	}
	for (int i = 0; i < argc; i++) {
		snprintf(path, sizeof path, "/../../..%s", argv[i]);
		denied(access(path, F_OK), path, ENOENT, EACCES, 0);
	}
	held();
}

static void self_exe(int argc, char **argv)
{
	(void)argc, (void)argv;
	works(open("/proc/self/exe", O_RDONLY), "open our own program");
	/* ETXTBSY would be a breach: only that it runs just now stands in the way. */
	denied(open("/proc/1/exe", O_WRONLY), "open pid 1's program for writing", EACCES, EPERM, 0);
	denied(open("/proc/1/exe", O_RDONLY), "open pid 1's program", EACCES, EPERM, 0);
	denied(open("/proc/1/exe", O_PATH), "hold pid 1's program", EACCES, EPERM, 0);
	held();
}

/* Whatever of this works has changed what we see. */
static void mounts(int argc, char **argv)
{
	int fd;

	(void)argc, (void)argv;
	works(access("/tmp", W_OK), "write to /tmp");
	denied(mount("t", "/tmp", "tmpfs", 0, ""), "mount a tmpfs", EPERM, 0);
	denied(mount("p", "/tmp", "proc", 0, ""), "mount another /proc", EPERM, 0);
	denied(mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL), "bind /", EPERM, 0);
	denied(mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL), "remount /usr", EPERM, 0);
	denied(mount(NULL, "/", NULL, MS_SHARED, NULL), "share /", EPERM, 0);
	denied(umount2("/proc/sys", MNT_DETACH), "unmount /proc/sys", EPERM, 0);
	denied(umount2("/proc/keys", MNT_DETACH), "unmount a mask", EPERM, 0);
	denied(syscall(SYS_pivot_root, "/tmp", "/tmp"), "pivot_root", EPERM, 0);
	fd = (int)syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */);
	if (fd >= 0)
		denied(syscall(SYS_move_mount, fd, "", AT_FDCWD, "/tmp", 4), "attach a copied tree",
			EPERM, 0);
	held();
}

static int try_write(const char *path, const struct stat *st, int type, struct FTW *w)
{
	int fd;

	(void)w;
	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	fd = open(path, O_WRONLY | O_NONBLOCK);
	if (fd >= 0)
		breach("%s opens for writing", path);
	if (errno != EROFS && errno != EACCES && errno != EPERM)
		breach("%s: %s", path, strerrorname_np(errno));
	return 0;
}

static void proc_sys(int argc, char **argv)
{
	static const char *const trees[] = {
		"/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"};
	char core[256];

	(void)argc, (void)argv;
	works(open("/proc/self/oom_score_adj", O_WRONLY), "open a file of /proc for writing");
	works(slurp("/proc/sys/kernel/core_pattern", core, sizeof core), "read below /proc/sys");
	for (size_t i = 0; i < sizeof trees / sizeof *trees; i++)
		nftw(trees[i], try_write, 32, FTW_PHYS);
	held();
}

static bool is_null(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

static int entries(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n < 2 ? 0 : n - 2;
}

static void masked(int argc, char **argv)
{
	static const char *const files[] = {"config.gz", "interrupts", "kallsyms", "kcore",
		"key-users", "keys", "kmsg", "kpagecount", "kpageflags", "latency_stats",
		"pagetypeinfo", "sched_debug", "slabinfo", "sysrq-trigger", "timer_list",
		"timer_stats", "vmallocinfo", "vmcore", "kpagecgroup"};
	static const char *const dirs[] = {"/proc/acpi", "/proc/asound", "/proc/scsi",
		"/sys/firmware", "/sys/kernel/security", "/sys/fs/cgroup", "/sys/kernel"};
	char path[64], buf[4096];

	(void)argc, (void)argv;
	works(slurp("/proc/meminfo", buf, sizeof buf), "read /proc/meminfo");
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "/proc/%s", files[i]);
		if (access(path, F_OK) < 0 || is_null(path))
			continue;
		denied(open(path, O_RDONLY | O_NONBLOCK), path, ENOENT, 0);
	}
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
		if (entries(dirs[i]) > 0)
			breach("%s has %d entries", dirs[i], entries(dirs[i]));
	denied(open("/sys/kernel/uevent_helper", O_WRONLY), "uevent_helper", ENOENT, EROFS, 0);
	denied(open("/sys/fs/cgroup/release_agent", O_WRONLY), "release_agent", ENOENT, EROFS, 0);
	held();
}

static int look_at_device(const char *path, const struct stat *st, int type, struct FTW *w)
{
	static const unsigned fine[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}};
	unsigned ma = major(st->st_rdev), mi = minor(st->st_rdev);

	(void)type, (void)w;
	if (S_ISBLK(st->st_mode))
		breach("%s is a block device", path);
	if (!S_ISCHR(st->st_mode) || ma == 136)
		return 0;
	for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
		if (fine[i][0] == ma && fine[i][1] == mi)
			return 0;
	breach("%s is device %u:%u", path, ma, mi);
}

/* Root emulation says that it made a device; there must be none then. */
static void no_device(const char *path, mode_t mode, dev_t dev, const char *what)
{
	long ret = mknod(path, mode, dev);
	struct stat st;

	if (ret == 0 && lstat(path, &st) < 0)
		denied(-1, "a device that was said to be made", ENOENT, 0);
	else
		denied(ret, what, EPERM, EACCES, 0);
}

static void devices(int argc, char **argv)
{
	(void)argc, (void)argv;
	works(open("/dev/zero", O_RDONLY), "open /dev/zero");
	nftw("/dev", look_at_device, 32, FTW_PHYS);
	no_device("/tmp/null", S_IFCHR | 0666, makedev(1, 3), "mknod of a device");
	no_device("/tmp/loop", S_IFBLK | 0666, makedev(7, 0), "mknod of a disk");
	denied(open("/dev/added", O_CREAT | O_WRONLY, 0644), "make a file in /dev", EROFS, 0);
	held();
}

/* [PATH]: where. 0:0, which overlayfs reads as "deleted", is the one device that everybody may make. */
static void whiteout(int argc, char **argv)
{
	works(mknod("/tmp/fifo", S_IFIFO | 0600, 0), "make a FIFO");
	unlink(argc > 0 ? argv[0] : "/tmp/whiteout");
	no_device(argc > 0 ? argv[0] : "/tmp/whiteout", S_IFCHR, 0, "plant a whiteout");
	held();
}

/* PATH: a device node in a directory of the host that is shown inside. */
static void nodev(int argc, char **argv)
{
	struct stat st;

	if (argc < 1 || stat(argv[0], &st) < 0 || !S_ISCHR(st.st_mode))
		unproven("no device is shown");
	denied(open(argv[0], O_RDONLY | O_NONBLOCK), argv[0], EACCES, 0);
	held();
}

/* FILE...: files of the host, owned by us there, shown read-only; and what every sandbox shows so. */
static void writes(int argc, char **argv)
{
	works(open("/tmp/w", O_CREAT | O_WRONLY, 0600), "write to /tmp");
	denied(open("/usr/added", O_CREAT | O_WRONLY, 0600), "make a file in /usr", EROFS, EACCES,
		0);
	for (int i = 0; i < argc; i++) {
		works(open(argv[i], O_RDONLY), argv[i]);
		denied(open(argv[i], O_WRONLY), argv[i], EROFS, 0);
		denied(chmod(argv[i], 0666), "chmod", EROFS, 0);
		denied(unlink(argv[i]), "unlink", EROFS, EBUSY, 0);
	}
	held();
}

/* PATH...: of the host, not shown inside. */
static void host_paths(int argc, char **argv)
{
	static const char *const common[] = {"/run/user", "/run/docker.sock", "/run/systemd",
		"/run/dbus", "/var/run/docker.sock", "/root/.ssh", "/etc/shadow", "/boot/grub",
		"/var/log/dpkg.log", "/var/lib/dpkg/status"};

	works(access("/etc/passwd", R_OK), "read /etc/passwd");
	for (size_t i = 0; i < sizeof common / sizeof *common; i++)
		denied(access(common[i], F_OK), common[i], ENOENT, EACCES, 0);
	for (int i = 0; i < argc; i++)
		denied(access(argv[i], F_OK), argv[i], ENOENT, EACCES, 0);
	held();
}

static void handles(int argc, char **argv)
{
	struct {
		struct file_handle h;
		unsigned raw[8];
	} root = {.h = {.handle_bytes = 8, .handle_type = 1}, .raw = {2, 0}};
	int mount_id, dir = open("/", O_RDONLY | O_DIRECTORY);

	(void)argc, (void)argv;
	works(dir, "open /");
	denied(name_to_handle_at(dir, "", &root.h, &mount_id, AT_EMPTY_PATH), "name_to_handle_at",
		EPERM, 0);
	denied(open_by_handle_at(dir, &root.h, O_RDONLY), "open_by_handle_at of inode 2", EPERM, 0);
	held();
}

static void pid1_paths(int argc, char **argv)
{
	static const char *const names[] = {"root", "cwd", "exe", "ns/mnt", "ns/user", "ns/net",
		"ns/pid", "fd/0", "fd/3", "fdinfo/3", "environ", "mem", "maps", "auxv", "stack",
		"syscall", "personality", "mountinfo", "io"};
	char path[64], byte;
	int fd;

	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "/proc/1/%s", names[i]);
		if (!strcmp(names[i], "mountinfo") && access(path, F_OK) == 0)
			continue; /* what we see in our own */
		/* some of them open, for they belong to uid 0, and are then not read */
		fd = open(path, O_RDONLY | O_NONBLOCK);
		denied(fd < 0 ? fd : read(fd, &byte, 1), path, EACCES, EPERM, ENOENT, 0);
	}
	if (entries("/proc/self/map_files") == 0)
		unproven("our own mappings are not listed");
	if (entries("/proc/1/map_files") > 0)
		breach("pid 1's mappings are listed");
	held();
}

static void set_ns(int argc, char **argv)
{
	int fd = open("/proc/self/ns/user", O_RDONLY);

	(void)argc, (void)argv;
	works(fd, "open our own namespace");
	denied(setns(fd, 0), "setns", EPERM, 0);
	denied(open("/proc/1/ns/mnt", O_RDONLY), "open pid 1's namespace", EACCES, EPERM, 0);
	held();
}

static void propagation(int argc, char **argv)
{
	static char buf[1 << 16];
	char *at = buf;

	(void)argc, (void)argv;
	works(slurp("/proc/self/mountinfo", buf, sizeof buf), "read the mounts");
	if (!strstr(buf, " / "))
		unproven("no root among the mounts");
	for (char *line; (line = strsep(&at, "\n"));)
		if (strstr(line, " shared:") || strstr(line, " master:"))
			breach("%s", line);
	held();
}

static void proc_roots(int argc, char **argv)
{
	DIR *d = opendir("/proc");
	char path[300];
	int seen = 0;

	(void)argc, (void)argv;
	for (struct dirent *de; d && (de = readdir(d));) {
		if (*de->d_name < '1' || *de->d_name > '9')
			continue;
		snprintf(path, sizeof path, "/proc/%s/root", de->d_name);
		if (access(path, F_OK) < 0)
			continue;
		seen++;
		if (!same(path, "/"))
			breach("%s is another root", path);
		snprintf(path, sizeof path, "/proc/%s/root/..", de->d_name);
		if (!same(path, "/"))
			breach("%s is another root", path);
	}
	if (!seen)
		unproven("no root is seen, not even our own");
	held();
}

/* FILE: this program, set-uid and set-gid to ids of the host, or with file capabilities. */
static void privileged_file(int argc, char **argv)
{
	if (argc < 1 || access(argv[0], X_OK) < 0)
		unproven("no such file is shown");
	switch (again(argv[0], "ids")) {
	case 0:
		held();
	case 1:
		breach("executing %s changes ids or capabilities", argv[0]);
	case 125: /* the kernel does not execute what it may not give the capabilities to */
		note("%s is not executed", argv[0]);
		held();
	default:
		unproven("%s does not run", argv[0]);
	}
}

static void ids(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (getuid() != geteuid() || getgid() != getegid())
		breach("ids %d/%d %d/%d", getuid(), geteuid(), getgid(), getegid());
	if (strspn(status_of("CapPrm"), "0") != 16)
		breach("capabilities %s", status_of("CapPrm"));
	held();
}

const struct attack attacks_escape[] = {
	{"fds", fds, "descriptors that nobody gave us"},
	{"cwd", cwd, "a working directory outside the root"},
	{"chroot", chroot_break, "breaking out of the root by .. and chroot"},
	{"exe", self_exe, "overwriting the program of pid 1"},
	{"mounts", mounts, "mounting, remounting, unmounting, binding, pivoting"},
	{"proc-sys", proc_sys, "writing anywhere below /proc/sys, /proc/irq, /sys"},
	{"masked", masked, "reading what the host shows in /proc and /sys"},
	{"devices", devices, "devices beyond the harmless ones, making more"},
	{"whiteout", whiteout, "making an overlay whiteout"},
	{"nodev", nodev, "opening a device of a shown directory"},
	{"writes", writes, "writing to what is shown read-only"},
	{"host-paths", host_paths, "files of the host"},
	{"handles", handles, "opening files by handle"},
	{"pid1-paths", pid1_paths, "the files of /proc/1"},
	{"setns", set_ns, "joining namespaces"},
	{"propagation", propagation, "mounts that are shared with the host"},
	{"proc-roots", proc_roots, "another root through /proc/N/root"},
	{"privileged", privileged_file, "executing a set-uid, set-gid or capable file"},
	{"ids", ids, "(for privileged)"},
	{NULL, NULL, NULL},
};

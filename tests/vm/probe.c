/*
 * What this kernel lets an ordinary user do, of the things the design leans on or falls back
 * from. usage: probe DIRECTORY (empty, on a disk). Prints one "name value" line a fact, where
 * value is "ok", an errno name, or a number. It judges nothing: tests/vm/vm.t does.
 *
 * Each fact is found in a process of its own, in a directory of its own, inside the namespaces
 * that its row names, so that no probe changes what the next one sees.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* The functions of the table share one type; most need no argument. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
enum { USER = CLONE_NEWUSER | CLONE_NEWNS, PID = USER | CLONE_NEWPID };

/* An answer: 0 is "ok", a negative number an errno, a positive one itself. */
static long answer(long r)
{
	return r < 0 ? -errno : 0;
}

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(99);
	close(fd);
}

static void enter(int flags)
{
	unsigned uid = geteuid(), gid = getegid();
	char map[64];

	if (!flags)
		return;
	if (unshare(flags) < 0)
		_exit(98);
	if (flags & CLONE_NEWUSER) {
		put("/proc/self/setgroups", "deny");
		snprintf(map, sizeof map, "0 %u 1", uid);
		put("/proc/self/uid_map", map);
		snprintf(map, sizeof map, "0 %u 1", gid);
		put("/proc/self/gid_map", map);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(97);
}

/* -- system calls -- */

static long landlock_abi(const char *arg)
{
	long v = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return v < 0 ? -errno : v;
}

static long openat2_beneath(const char *arg)
{
	struct open_how how = {.flags = O_PATH, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};

	return answer(syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how));
}

static long openat2_escape(const char *arg)
{
	struct open_how how = {.flags = O_PATH, .resolve = RESOLVE_BENEATH};

	return answer(syscall(SYS_openat2, AT_FDCWD, "..", &how, sizeof how));
}

static long close_range_cloexec(const char *arg)
{
	return answer(syscall(SYS_close_range, 200, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */));
}

static long memfd_exec_flag(const char *arg)
{
	return answer(syscall(SYS_memfd_create, "x", 0x10U | MFD_CLOEXEC /* MFD_EXEC */));
}

static long memfd_exec_sealed(const char *arg)
{
	static char *const argv[] = {(char *)(uintptr_t) "true", NULL}, *const env[] = {NULL};
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), status;
	int fd = (int)syscall(SYS_memfd_create, "x", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	char buf[65536];
	pid_t pid;

	for (ssize_t n; (n = read(from, buf, sizeof buf)) > 0;)
		if (write(fd, buf, (size_t)n) != n)
			return -EIO;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		syscall(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
		_exit(errno);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static long fchmodat2_nofollow(const char *arg)
{
	return answer(syscall(SYS_fchmodat2, AT_FDCWD, ".", 0755, AT_SYMLINK_NOFOLLOW));
}

static long faccessat2_empty(const char *arg)
{
	return answer(syscall(439, AT_FDCWD, "", R_OK, AT_EMPTY_PATH));
}

static long statmount_call(const char *arg)
{
	return answer(syscall(SYS_statmount, NULL, NULL, 0, 0)) == -ENOSYS ? -ENOSYS : 0;
}

static long mdwe(const char *arg)
{
	return answer(prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0));
}

static long peer_pidfd(const char *arg)
{
	int s[2], fd;
	socklen_t n = sizeof fd;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0)
		return -errno;
	return answer(getsockopt(s[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &n));
}

/* EFAULT: the flag is known and the filter pointer was looked at; EINVAL: unknown flag. */
static long seccomp_wait_killable(const char *arg)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (1UL << 3) | (1UL << 5), NULL);
	return errno == EFAULT ? 0 : -errno;
}

static long clone3_pidfd_clear(const char *arg)
{
	int pidfd = -1;
	struct clone_args a = {.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD};
	siginfo_t si;
	long pid = syscall(SYS_clone3, &a, sizeof a);

	if (pid == 0)
		_exit(0);
	return pid < 0 ? -errno : answer(waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED));
}

/* -- cgroups: the service's own group, delegated to it -- */

static long cgroup_path(char *out, size_t size)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[512] = "";

	while (f && fgets(line, sizeof line, f) && strncmp(line, "0::", 3))
		;
	if (f)
		fclose(f);
	if (strncmp(line, "0::", 3))
		return -ENOENT;
	line[strcspn(line, "\n")] = '\0';
	snprintf(out, size, "/sys/fs/cgroup%.400s", line + 3);
	return access(out, F_OK) == 0 ? 0 : -errno;
}

static long cgroup_delegated(const char *arg)
{
	char dir[512], sub[600];
	long r = cgroup_path(dir, sizeof dir);

	if (r < 0)
		return r;
	snprintf(sub, sizeof sub, "%s/probe", dir);
	r = answer(mkdir(sub, 0700));
	rmdir(sub);
	return r;
}

static long clone_into_cgroup(const char *arg)
{
	char dir[512], sub[600];
	struct clone_args a = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
	long r = cgroup_path(dir, sizeof dir), pid;

	snprintf(sub, sizeof sub, "%s/probe2", dir);
	if (r < 0 || mkdir(sub, 0700) < 0)
		return r < 0 ? r : -errno;
	a.cgroup = (unsigned)open(sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid == 0)
		_exit(0);
	r = answer(pid);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	rmdir(sub);
	return r;
}

/* -- mounts -- */

static long mount_tmpfs_at(const char *at)
{
	mkdir(at, 0755);
	return answer(mount("tmpfs", at, "tmpfs", 0, "size=1m,nr_inodes=64"));
}

static long tmpfs_user_xattr(const char *arg)
{
	long r = mount_tmpfs_at("t");

	return r < 0 ? r : answer(setxattr("t", "user.overlay.opaque", "y", 1, 0));
}

static long disk_user_xattr(const char *arg)
{
	return answer(setxattr(".", "user.overlay.opaque", "y", 1, 0));
}

static void make_layers(void)
{
	static const char *const dirs[] = {"l", "l/d", "l/e", "l2", "u", "w", "m"};

	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
		mkdir(dirs[i], 0755);
	close(open("l/d/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
}

static long overlay(const char *arg)
{
	char data[256];

	make_layers();
	snprintf(data, sizeof data, "lowerdir=l,upperdir=u,workdir=w%s", arg);
	return answer(mount("overlay", "m", "overlay", 0, data));
}

/* rm -r d; mkdir d: needs an opaque directory, hence a user xattr on the upper. */
static long overlay_opaque(const char *arg)
{
	long r = overlay(",userxattr");

	if (r < 0 || unlink("m/d/f") < 0 || rmdir("m/d") < 0)
		return r < 0 ? r : -errno;
	return mkdir("m/d", 0755) < 0 ? -errno : access("m/d/f", F_OK) == 0 ? -EEXIST : 0;
}

static long overlay_opaque_tmpfs(const char *arg)
{
	long r = mount_tmpfs_at("t");

	return r < 0 || chdir("t") < 0 ? r : overlay_opaque(arg);
}

static long overlay_tmpfs_upper(const char *arg)
{
	long r = mount_tmpfs_at("t");

	return r < 0 || chdir("t") < 0 ? r : overlay(",userxattr");
}

static long overlay_rename_dir(const char *arg)
{
	long r = overlay(",userxattr");

	return r < 0 ? r : answer(rename("m/d", "m/d2"));
}

static long overlay_whiteout_is_chardev(const char *arg)
{
	long r = overlay(",userxattr");
	struct stat st;

	if (r < 0 || unlink("m/d/f") < 0 || lstat("u/d/f", &st) < 0)
		return r < 0 ? r : -errno;
	return S_ISCHR(st.st_mode) && st.st_rdev == 0 ? 0 : -EBADMSG;
}

static long whiteout_mknod(const char *arg)
{
	return answer(mknod("w", S_IFCHR | 0600, makedev(0, 0)));
}

static long device_mknod(const char *arg)
{
	return answer(mknod("n", S_IFCHR | 0600, makedev(1, 3)));
}

static int fs_open_overlay(void)
{
	make_layers();
	return (int)syscall(SYS_fsopen, "overlay", 1 /* FSOPEN_CLOEXEC */);
}

static long fs_set(int fs, const char *key, const char *value)
{
	return answer(syscall(SYS_fsconfig, fs, 1 /* FSCONFIG_SET_STRING */, key, value, 0));
}

static long fs_mount(int fs)
{
	int m;

	if (syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) < 0)
		return -errno;
	m = (int)syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0);
	if (m < 0)
		return -errno;
	return answer(syscall(SYS_move_mount, m, "", AT_FDCWD, "m", 4 /* F_EMPTY_PATH */));
}

static long fsopen_overlay(const char *arg)
{
	int fs = fs_open_overlay();

	if (fs < 0 || fs_set(fs, "lowerdir", "l") || fs_set(fs, "upperdir", "u") ||
		fs_set(fs, "workdir", "w") ||
		syscall(SYS_fsconfig, fs, 0 /* SET_FLAG */, "userxattr", NULL, 0) < 0)
		return -errno;
	return fs_mount(fs);
}

static long fsopen_lowerdir_plus(const char *arg)
{
	int fs = fs_open_overlay();

	if (fs < 0 || fs_set(fs, "lowerdir+", "l") || fs_set(fs, "lowerdir+", "l2"))
		return -errno;
	return fs_mount(fs);
}

/* One value of fsconfig(2) ends at 256 bytes; mount(2) takes a page of options. */
static char *long_lowers(size_t n)
{
	char *s = calloc(n, 4);

	make_layers();
	for (size_t i = 0; i < n; i++) {
		char name[8];

		snprintf(name, sizeof name, "%c%c", (int)('A' + i / 26), (int)('a' + i % 26));
		mkdir(name, 0755);
		sprintf(s + strlen(s), "%s%s", i ? ":" : "", name);
	}
	return s;
}

static long fsconfig_300_bytes(const char *arg)
{
	int fs = fs_open_overlay();

	if (fs < 0 || fs_set(fs, "lowerdir", long_lowers(100)))
		return -errno;
	return fs_mount(fs);
}

static long mount_lowers(const char *arg)
{
	size_t n = strtoul(arg, NULL, 10);
	char *s = long_lowers(n), *data = malloc(3 * n + 32);

	sprintf(data, "lowerdir=%s", s);
	return answer(mount("overlay", "m", "overlay", 0, data));
}
static long lower_by_proc_fd(const char *arg)
{
	char data[64];

	make_layers();
	snprintf(data, sizeof data, "lowerdir=/proc/self/fd/%d:l2", open("l", O_PATH | O_CLOEXEC));
	return answer(mount("overlay", "m", "overlay", 0, data));
}

static long mount_setattr_recursive(const char *arg)
{
	struct mount_attr a = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};

	return answer(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &a, sizeof a));
}

static int tree_of(const char *path)
{
	return (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

static long open_tree_move_mount(const char *arg)
{
	int t;

	make_layers();
	t = tree_of("l");
	return t < 0 ? -errno : answer(syscall(SYS_move_mount, t, "", AT_FDCWD, "m", 4));
}

static long move_mount_beneath(const char *arg)
{
	int t;

	make_layers();
	if (mount("l2", "m", NULL, MS_BIND, NULL) < 0 || (t = tree_of("l")) < 0)
		return -errno;
	return answer(syscall(SYS_move_mount, t, "", AT_FDCWD, "m", 4 | 0x200));
}

/* What the keeper does: a detached mount of ours, moved into the namespaces of a nested one. */
static long move_into_nested(const char *arg)
{
	char byte = 0;
	int go[2], end[2], t, pidfd, status;
	pid_t child;
	long r;

	make_layers();
	if ((t = tree_of("l")) < 0 || pipe(go) < 0 || pipe(end) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		close(end[1]);
		enter(USER);
		if (write(go[1], &byte, 1) != 1 || read(end[0], &byte, 1) < 0)
			_exit(1);
		_exit(access("m/d/f", F_OK) == 0 ? 0 : 2);
	}
	if (read(go[0], &byte, 1) != 1)
		return -EPIPE;
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	if (pidfd < 0 || setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -errno;
	put("/proc/self/comm", "mover");
	r = chdir("/") < 0 ? -errno : 0;
	if (r == 0) {
		char at[64];

		/* setns() moved us to the root; the child's own directory names the place. */
		snprintf(at, sizeof at, "/proc/%d/cwd/m", (int)child);
		r = answer(syscall(SYS_move_mount, t, "", AT_FDCWD, at, 4));
	}
	close(end[1]);
	waitpid(child, &status, 0);
	return r < 0 ? r : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOENT;
}

/* A sandbox below the keeper: overlay in a nested user namespace over layers of the outer. */
static long overlay_nested_userns(const char *arg)
{
	mount_tmpfs_at("t");
	enter(USER);
	return overlay(",userxattr");
}

static long idmapped(const char *arg)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP};
	int t = tree_of(arg);

	a.userns_fd = (unsigned)open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	return t < 0 ? -errno
		     : answer(syscall(SYS_mount_setattr, t, "", AT_EMPTY_PATH, &a, sizeof a));
}
/* arg: a file system type, or two words, the type and its options. */
static long mount_type(const char *arg)
{
	char type[16], options[64] = "";

	sscanf(arg, "%15s %63s", type, options);
	mkdir("p", 0755);
	return answer(mount(type, "p", type, 0, options));
}

static long sysctl_write(const char *arg)
{
	long r = mount_type("proc");
	int fd;

	if (r < 0 || chdir("p/sys") < 0)
		return r < 0 ? r : -errno;
	fd = open(arg, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : answer(write(fd, "400", 3));
}

/* -- the table -- */

static long userns(const char *arg)
{
	return 0; /* the row's namespaces are the fact */
}

static const struct fact {
	const char *name;
	int flags;
	long (*find)(const char *arg);
	const char *arg;
} facts[] = {
	{"unprivileged-userns", USER, userns, NULL},
	{"all-namespaces", PID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
		userns, NULL},
	{"landlock-abi", 0, landlock_abi, NULL},
	{"openat2-beneath", 0, openat2_beneath, NULL},
	{"openat2-escape", 0, openat2_escape, NULL},
	{"close-range-cloexec", 0, close_range_cloexec, NULL},
	{"memfd-exec-flag", 0, memfd_exec_flag, NULL},
	{"memfd-exec-sealed", 0, memfd_exec_sealed, NULL},
	{"fchmodat2", 0, fchmodat2_nofollow, NULL},
	{"faccessat2", 0, faccessat2_empty, NULL},
	{"statmount", 0, statmount_call, NULL},
	{"prctl-mdwe", 0, mdwe, NULL},
	{"so-peerpidfd", 0, peer_pidfd, NULL},
	{"seccomp-wait-killable", 0, seccomp_wait_killable, NULL},
	{"clone3-pidfd-clear-sighand", 0, clone3_pidfd_clear, NULL},
	{"cgroup-delegated", 0, cgroup_delegated, NULL},
	{"clone-into-cgroup", 0, clone_into_cgroup, NULL},
	{"tmpfs-user-xattr", USER, tmpfs_user_xattr, NULL},
	{"disk-user-xattr", USER, disk_user_xattr, NULL},
	{"overlay-without-userxattr", USER, overlay, ""},
	{"overlay-userxattr", USER, overlay, ",userxattr"},
	{"overlay-volatile", USER, overlay, ",userxattr,volatile"},
	{"overlay-metacopy", USER, overlay, ",userxattr,metacopy=on"},
	{"overlay-redirect-dir", USER, overlay, ",userxattr,redirect_dir=on"},
	{"overlay-xino", USER, overlay, ",userxattr,xino=on"},
	{"overlay-opaque-on-disk", USER, overlay_opaque, NULL},
	{"overlay-upper-on-tmpfs", USER, overlay_tmpfs_upper, NULL},
	{"overlay-opaque-on-tmpfs", USER, overlay_opaque_tmpfs, NULL},
	{"overlay-rename-lower-directory", USER, overlay_rename_dir, NULL},
	{"overlay-whiteout-is-chardev", USER, overlay_whiteout_is_chardev, NULL},
	{"overlay-nested-userns", USER, overlay_nested_userns, NULL},
	{"whiteout-mknod", USER, whiteout_mknod, NULL},
	{"device-mknod", USER, device_mknod, NULL},
	{"fsopen-overlay", USER, fsopen_overlay, NULL},
	{"fsconfig-lowerdir-plus", USER, fsopen_lowerdir_plus, NULL},
	{"fsconfig-value-300-bytes", USER, fsconfig_300_bytes, NULL},
	{"mount-128-lowers", USER, mount_lowers, "128"},
	{"mount-500-lowers", USER, mount_lowers, "500"},
	{"mount-501-lowers", USER, mount_lowers, "501"},
	{"overlay-lower-by-proc-fd", USER, lower_by_proc_fd, NULL},
	{"mount-setattr-recursive", USER, mount_setattr_recursive, NULL},
	{"open-tree-move-mount", USER, open_tree_move_mount, NULL},
	{"move-mount-beneath", USER, move_mount_beneath, NULL},
	{"move-mount-into-nested", USER, move_into_nested, NULL},
	{"idmapped-disk", USER, idmapped, "."},
	{"proc-subset-pid", PID, mount_type, "proc hidepid=2,subset=pid"},
	{"proc-full", PID, mount_type, "proc"},
	{"sysfs", PID | CLONE_NEWNET, mount_type, "sysfs"},
	{"cgroup2-in-cgroup-namespace", PID | CLONE_NEWCGROUP, mount_type, "cgroup2"},
	{"devpts-newinstance", USER, mount_type, "devpts newinstance,ptmxmode=0666"},
	{"pid-max-of-namespace", PID, sysctl_write, "kernel/pid_max"},
	{"user-sysctls-of-namespace", PID, sysctl_write, "user/max_user_namespaces"},
};

/* Forks into the row's namespaces (once more for a pid namespace) and sends the answer back. */
static void child(const struct fact *f, int out)
{
	int status;
	long r;

	if (mkdir(f->name, 0755) < 0 || chdir(f->name) < 0)
		_exit(96);
	enter(f->flags);
	if (f->flags & CLONE_NEWPID) {
		pid_t pid = fork();

		if (pid != 0) {
			waitpid(pid, &status, 0);
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 95);
		}
	}
	errno = 0;
	r = f->find(f->arg);
	_exit(write(out, &r, sizeof r) == sizeof r ? 0 : 94);
}

static void show(const struct fact *f)
{
	int p[2], status;
	long r;
	pid_t pid;

	if (pipe(p) < 0 || (pid = fork()) < 0)
		exit(2);
	if (pid == 0)
		child(f, p[1]);
	close(p[1]);
	if (read(p[0], &r, sizeof r) != sizeof r) {
		waitpid(pid, &status, 0);
		printf("%s failed-%d\n", f->name, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	} else if (r < 0) {
		printf("%s %s\n", f->name, strerrorname_np((int)-r));
	} else if (r > 0) {
		printf("%s %ld\n", f->name, r);
	} else {
		printf("%s ok\n", f->name);
	}
	close(p[0]);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	struct utsname u;

	if (argc && !strcmp(argv[0], "true"))
		return 0; /* the copy of ourselves that memfd-exec-sealed starts */
	if (argc != 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: probe DIRECTORY\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	uname(&u);
	printf("kernel %s\n", u.release);
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		show(&facts[i]);
	return 0;
}

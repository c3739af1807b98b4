/*
 * What a root of tests/unit/roots.h runs inside: whether /dev and /proc are the sandbox's own, and
 * whatever a payload can write by names that may lead out. Static; its argument is the canary's path.
 * Prints "private" or what is wrong. With "swap" before that it swaps directories and links out. "chmod":
 * takes every right from each program of a memfd that another process executes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static bool is_device(const char *path, unsigned major, unsigned minor)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(major, minor);
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_fs(const char *path, unsigned long magic)
{
	struct statfs s;

	return statfs(path, &s) == 0 && (unsigned long)s.f_type == magic;
}

static bool reads(const char *path, const char *text)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK);
	char buf[64] = "";
	ssize_t n = read(fd, buf, sizeof buf - 1);

	close(fd);
	return n >= 0 && !strcmp(buf, text);
}

static bool refuses(const char *path, int flags, int errnum)
{
	int fd = open(path, flags | O_NONBLOCK, 0600);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == errnum;
}

static bool is_read_only(const char *path)
{
	struct statvfs s;

	return statvfs(path, &s) == 0 && s.f_flag & ST_RDONLY;
}

/* A mask of a file is /dev/null; what this kernel does not have needs none. */
static bool masked(const char *path)
{
	return (is_device(path, 1, 3) && reads(path, "")) || access(path, F_OK) < 0;
}

static bool self_is_me(void)
{
	char to[32] = "", me[32];

	snprintf(me, sizeof me, "%d", (int)getpid());
	return readlink("/proc/self", to, sizeof to - 1) > 0 && !strcmp(to, me);
}

static const char *fault(const char *canary)
{
	int fd = open("/dev/null", O_WRONLY | O_NONBLOCK);

	if (!is_device("/dev/null", 1, 3) || write(fd, "x", 1) != 1 || !reads("/dev/null", ""))
		return "/dev/null";
	if (!is_device("/dev/zero", 1, 5) || !is_fs("/dev", 0x01021994 /* tmpfs */) ||
		!refuses("/dev/new", O_CREAT | O_WRONLY, EROFS))
		return "/dev";
	/* /dev/shm is not said to be a tmpfs: /repo may be a link to it, which harms nobody else */
	if (!is_fs("/dev/pts", 0x1cd1) || !is_directory("/dev/shm"))
		return "/dev/pts or /dev/shm";
	if (!is_fs("/proc", 0x9fa0) || !self_is_me() || !reads("/proc/1/comm", "init\n"))
		return "/proc";
	if (!is_read_only("/proc/sys") || !is_read_only("/proc/irq") ||
		!masked("/proc/sysrq-trigger") || !masked("/proc/kcore") ||
		!masked("/proc/kallsyms") || !masked("/proc/keys"))
		return "a mask of /proc";
	if (access(canary, F_OK) == 0)
		return "the host's directory is seen";
	return NULL;
}

/* Whatever lies there: a name that leads out would leave its mark on the host. */
static void mark(void)
{
	static const char *const dirs[] = {"", "/tmp", "/etc", "/home", "/home/daiv-sandbox",
		"/repo", "/run", "/usr", "/bin", "/root", "/workdir", "/sys", "/mnt", "/var/run"};
	char path[64];

	for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
		int fd;

		snprintf(path, sizeof path, "%s/mark", dirs[i]);
		fd = open(path, O_CREAT | O_WRONLY | O_NONBLOCK, 0666);
		if (fd >= 0)
			close(fd);
		if (is_directory(dirs[i])) /* not a hard link, which the test itself made */
			chmod(dirs[i], 0777);
	}
	fsync(0);
}

static int exchange(const char *a, const char *b)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
}

/* Until it is killed: every directory that the host's side goes through is a link out, half the time. */
static _Noreturn void swap(const char *canary)
{
	static const char *const pairs[][2] = {{"/repo/d", "/repo/l"}, {"/repo/a", "/repo/b"},
		{"/tmp", "/tmp-link"}, {"/home/daiv-sandbox", "/home/link"}, {"/etc", "/etc-link"},
		{"/workdir", "/workdir-link"}, {"/run", "/run-link"}};
	const size_t n = sizeof pairs / sizeof pairs[0];
	char own[40],
		link[48]; /* of this call: an overlay cannot rename what an earlier one left */
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(own, sizeof own, "/repo/own-%lld", (long long)t.tv_sec * 1000000000 + t.tv_nsec);
	snprintf(link, sizeof link, "%s-link", own);
	mkdir(own, 0755);
	symlink(canary, link);
	for (size_t i = 0; i < n; i++) {
		mkdir(pairs[i][0], 0755);
		symlink(canary, pairs[i][1]);
	}
	printf("%d swapped\n", exchange(own, link) == 0);
	fflush(stdout);
	for (size_t i = 0;; i = (i + 1) % n) {
		exchange(own, link);
		exchange(pairs[i][0], pairs[i][1]);
	}
}

static void take_rights(int pid)
{
	char path[32], to[64] = "";
	int fd;

	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	if (readlink(path, to, sizeof to - 1) < 0 || strncmp(to, "/memfd:", 7) != 0)
		return;
	kill(pid, SIGSTOP);
	fd = open(path, O_RDONLY);
	if (fd >= 0 && fchmod(fd, 0) == 0)
		puts("taken");
	close(fd);
	kill(pid, SIGCONT);
}

static _Noreturn void chmod_programs(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("waiting");
	for (int pid = 2;; pid = pid < 400 ? pid + 1 : 2)
		take_rights(pid);
}

int main(int argc, char **argv)
{
	const char *why;

	if (argc == 2 && !strcmp(argv[1], "chmod"))
		chmod_programs();
	if (argc == 3 && !strcmp(argv[1], "swap"))
		swap(argv[2]);
	why = argc == 2 ? fault(argv[1]) : "usage";
	if (!why)
		mark();
	puts(why ? why : "private");
	return why ? 1 : 0;
}

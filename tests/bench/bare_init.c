/* pid 1 of bare.h. bare ROOT STAGING PROGRAM [ARGUMENT]..., with the filter as descriptor 3. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILTER_FD = 3, CAPS = 41, LANDLOCK_CREATE = 444, LANDLOCK_ADD, LANDLOCK_RESTRICT };

static void need(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	_exit(99);
}

static void put_mount(const char *type, const char *at, unsigned long flags, const char *options)
{
	need(mount(type, at, type, flags, options) == 0, at);
}

/* Below the new root, which is the working directory. */
static void make_dev(void)
{
	static const char *const names[] = {"null", "zero", "full", "random", "urandom", "tty"};
	char from[32], to[32];

	put_mount("tmpfs", "dev", MS_NOSUID, "size=64k,mode=755");
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(from, sizeof from, "/dev/%s", names[i]);
		snprintf(to, sizeof to, "dev/%s", names[i]);
		close(open(to, O_CREAT | O_WRONLY, 0644));
		need(mount(from, to, NULL, MS_BIND, NULL) == 0, to);
	}
	mkdir("dev/pts", 0755);
	mkdir("dev/shm", 0755);
	put_mount("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666");
	put_mount("tmpfs", "dev/shm", MS_NOSUID | MS_NODEV, "size=1m");
}

static void make_root(const char *root, const char *staging)
{
	char options[4096];

	need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts");
	put_mount("tmpfs", staging, MS_NOSUID | MS_NODEV, "size=64m");
	need(chdir(staging) == 0, staging);
	mkdir("upper", 0755);
	mkdir("work", 0755);
	snprintf(
		options, sizeof options, "userxattr,lowerdir=%s,upperdir=upper,workdir=work", root);
	put_mount("overlay", staging, MS_NOSUID | MS_NODEV, options);
	need(chdir(staging) == 0, staging);
	make_dev();
	put_mount("proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	need(syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 &&
			chdir("/") == 0,
		"pivot into the root");
}

static void enter_landlock(void)
{
	struct {
		unsigned long long fs, net, scoped;
	} rules = {1ULL << 6 | 1ULL << 11 | 1ULL << 13, 0,
		3}; /* devices; moves; sockets and signals */
	struct __attribute__((packed)) {
		unsigned long long access;
		int parent;
	} root = {1ULL << 13, open("/", O_PATH | O_CLOEXEC)};
	long abi = syscall(LANDLOCK_CREATE, NULL, 0, 1);
	int set = (int)syscall(
		LANDLOCK_CREATE, &rules, abi < 6 ? sizeof rules.fs : sizeof rules, 0);

	need(set >= 0 && syscall(LANDLOCK_ADD, set, 1, &root, 0) == 0 &&
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
			syscall(LANDLOCK_RESTRICT, set, 0) == 0,
		"Landlock");
	close(root.parent);
	close(set);
}

static void drop_rights(void)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};
	struct sock_fprog program;
	struct stat st;

	enter_landlock();
	for (int i = 0; i < CAPS; i++)
		prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
	need(syscall(SYS_capset, &head, none) == 0 && fstat(FILTER_FD, &st) == 0, "capabilities");
	program.len = (unsigned short)((unsigned long)st.st_size / sizeof(struct sock_filter));
	program.filter = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, FILTER_FD, 0);
	need(program.filter != MAP_FAILED &&
			prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
		"the filter");
	close(FILTER_FD);
}

static int payload(void *argv)
{
	char *none[] = {NULL};

	execve(((char **)argv)[0], argv, none);
	_exit(127);
}

int main(int argc, char **argv)
{
	static char stack[16384] __attribute__((aligned(16)));
	int status = 0, pid;

	need(argc > 3 && unshare(CLONE_NEWNET) == 0, "a network namespace");
	make_root(argv[1], argv[2]);
	drop_rights();
	pid = clone(payload, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, argv + 3);
	need(pid > 0 && waitpid(pid, &status, 0) == pid, "the program");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

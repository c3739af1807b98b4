/* Class D: kernel code that a sandbox has no use for. */
#include "atk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * System calls that must not reach the kernel. The arguments make the kernel itself answer something
 * but EPERM and ENOSYS wherever it looks at them before it asks for a privilege; where it asks
 * first, `asks`: then EPERM proves nothing about the filter and only success would be a breach.
 */
static const struct call {
	const char *name;
	long nr;
	long a[6];
	bool asks;
} calls[] = {
	{"unshare", SYS_unshare, {CLONE_FILES}, false},
	{"setns", SYS_setns, {-1, 0}, false},
	{"clone3", SYS_clone3, {0, 0}, false},
	{"mount", SYS_mount, {1, 1, 1, 0, 1}, false},
	{"umount2", SYS_umount2, {1, 0x7fffffff}, false},
	{"pivot_root", SYS_pivot_root, {1, 1}, true},
	{"chroot", SYS_chroot, {1}, false},
	{"open_tree", 428, {-1, 1, 0x7fffffff}, false},
	{"move_mount", 429, {-1, 1, -1, 1, 0x7fffffff}, true},
	{"fsopen", 430, {1, 0x7fffffff}, true},
	{"fsconfig", 431, {-1, 99, 0, 0, 0}, false},
	{"fsmount", 432, {-1, 0x7fffffff, 0}, true},
	{"fspick", 433, {-1, 1, 0x7fffffff}, true},
	{"mount_setattr", 442, {-1, 1, 0x7fffffff, 0, 0}, false},
	{"name_to_handle_at", SYS_name_to_handle_at, {-1, 1, 0, 0, 0x7fffffff}, false},
	{"open_by_handle_at", SYS_open_by_handle_at, {-1, 0, 0}, true},
	{"keyctl", SYS_keyctl, {0xffff, 0, 0, 0, 0}, false},
	{"add_key", SYS_add_key, {1, 1, 0, 0, 0}, false},
	{"request_key", SYS_request_key, {1, 1, 0, 0}, false},
	{"bpf", SYS_bpf, {0xffff, 1, 8}, true},
	{"perf_event_open", SYS_perf_event_open, {1, 0, -1, -1, 0xffff}, false},
	{"userfaultfd", 323, {0x7fffffff}, false},
	{"io_uring_setup", 425, {1, 1}, false},
	{"io_uring_enter", 426, {-1, 1, 0, 0, 0}, false},
	{"io_uring_register", 427, {-1, 0, 0, 0}, false},
	{"fanotify_init", SYS_fanotify_init, {0x7fffffff, 0}, true},
	{"quotactl", SYS_quotactl, {0x7fffffff, 0, 0, 0}, false},
	{"quotactl_fd", 443, {-1, 0x7fffffff, 0, 0}, false},
	{"acct", SYS_acct, {1}, true},
	{"swapon", SYS_swapon, {1, -1}, true},
	{"swapoff", SYS_swapoff, {1}, true},
	{"syslog", SYS_syslog, {3, 0, -1}, true},
	{"init_module", SYS_init_module, {0, 0, 0}, true},
	{"finit_module", SYS_finit_module, {-1, 0, 0x7fffffff}, true},
	{"delete_module", SYS_delete_module, {1, 0}, true},
	{"kexec_load", SYS_kexec_load, {0, 0, 0, -1}, true},
	{"reboot", SYS_reboot, {0, 0, 0, 0}, true},
	{"settimeofday", SYS_settimeofday, {1, 0}, false},
	{"clock_settime", SYS_clock_settime, {99, 1}, false},
	{"clock_adjtime", SYS_clock_adjtime, {99, 1}, false},
	{"adjtimex", SYS_adjtimex, {1}, false},
	{"sethostname", SYS_sethostname, {1, -1}, true},
	{"setdomainname", SYS_setdomainname, {1, -1}, true},
	{"vhangup", SYS_vhangup, {0}, true},
	{"kcmp", SYS_kcmp, {-1, -1, 99, 0, 0}, false},
	{"memfd_secret", 447, {0x7fffffff}, false},
	{"mbind", SYS_mbind, {1, 1, 99, 0, 0, 99}, false},
	{"set_mempolicy", SYS_set_mempolicy, {99, 0, 0}, false},
	{"get_mempolicy", SYS_get_mempolicy, {0, 0, 0, 1, 99}, false},
	{"migrate_pages", SYS_migrate_pages, {-1, 1, 1, 1}, false},
	{"move_pages", SYS_move_pages, {-1, 0, 0, 0, 0, 99}, false},
	{"process_madvise", 440, {-1, 0, 0, 0, 99}, false},
#ifdef __x86_64__
	{"iopl", SYS_iopl, {99}, false},
	{"ioperm", SYS_ioperm, {0x7fffffff, 1, 1}, false},
	{"modify_ldt", SYS_modify_ldt, {0, 0, 0}, false},
	{"kexec_file_load", SYS_kexec_file_load, {-1, -1, 0, 0, -1}, true},
	{"ustat", SYS_ustat, {0, 1}, false},
	{"sysfs", SYS_sysfs, {99, 0, 0}, false},
#endif
	{"setxattrat", 463, {-1, 1, 0, 0, 0, 0}, false},
	{"newer-than-the-table", 4000, {0}, true},
};

/* Whether the kernel saw the call. A call that this kernel lacks proves nothing. */
static bool reached(const struct call *c, int *err)
{
	long ret = syscall(c->nr, c->a[0], c->a[1], c->a[2], c->a[3], c->a[4], c->a[5]);

	*err = ret < 0 ? errno : 0;
	return ret >= 0 || (errno != EPERM && errno != ENOSYS);
}

/* [NAME...]: these, or all. Each in a child, for an unfiltered vhangup or unshare has effects. */
static void surface(int argc, char **argv)
{
	int tried = 0;

	works(syscall(SYS_getpid), "getpid by number");
	denied(syscall(SYS_openat, -1, 1, 0), "control: an allowed call with bad arguments", EFAULT,
		EBADF, 0);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		bool wanted = argc == 0;
		int err;

		for (int k = 0; k < argc; k++)
			wanted |= !strcmp(argv[k], calls[i].name);
		if (!wanted)
			continue;
		tried++;
		if (reached(&calls[i], &err))
			breach("%s reaches the kernel: %s", calls[i].name,
				err ? strerrorname_np(err) : "it works");
		note("%s: %s%s", calls[i].name, strerrorname_np(err),
			calls[i].asks ? " (also by privilege)" : "");
	}
	if (!tried)
		unproven("no such call");
	held();
}

static void list_calls(int argc, char **argv)
{
	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		printf("%s %d\n", calls[i].name, calls[i].asks);
	fflush(stdout);
	_exit(0);
}

static void filtered(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (*status_of("Seccomp") != '2')
		breach("no seccomp filter");
	held();
}

static void no_new_privs(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (*status_of("NoNewPrivs") != '1')
		breach("no_new_privs is not set");
	denied(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), "take no_new_privs back", EINVAL, 0);
	held();
}

static void caps(int argc, char **argv)
{
	static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapAmb"};

	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
		if (strspn(status_of(sets[i]), "0") != 16)
			breach("%s is %s", sets[i], status_of(sets[i]));
	held();
}

/* By executing a program as uid 0, which without securebits gets the whole bounding set. */
static void regain(int argc, char **argv)
{
	(void)argc, (void)argv;
	switch (again(NULL, "caps")) {
	case 0:
		held();
	case 1:
		breach("executing a program brings capabilities back");
	default:
		unproven("the program does not run");
	}
}

static int child_of_clone(void *arg)
{
	(void)arg;
	return 0;
}

static void nested_by_clone(int flag, const char *name)
{
	static char stack[65536] __attribute__((aligned(16)));
	char what[64];
	pid_t pid = clone(child_of_clone, stack + sizeof stack, flag | SIGCHLD, NULL);

	snprintf(what, sizeof what, "clone(%s)", name);
	denied(pid, what, EPERM, ENOSPC, EUSERS, 0);
}

static void nested_by_clone3(uint64_t flag, const char *name)
{
	uint64_t args[11] = {flag, [4] = SIGCHLD};
	char what[64];
	long pid = syscall(SYS_clone3, args, sizeof args);

	if (pid == 0)
		_exit(0);
	snprintf(what, sizeof what, "clone3(%s)", name);
	denied(pid, what, ENOSYS, EPERM, ENOSPC, EUSERS, 0);
}

static const struct {
	const char *name;
	int flag;
} kinds[] = {{"NEWUSER", CLONE_NEWUSER}, {"NEWNS", CLONE_NEWNS}, {"NEWPID", CLONE_NEWPID},
	{"NEWNET", CLONE_NEWNET}, {"NEWIPC", CLONE_NEWIPC}, {"NEWUTS", CLONE_NEWUTS},
	{"NEWCGROUP", CLONE_NEWCGROUP}, {"NEWTIME", 0x80}};

static void nested(int argc, char **argv)
{
	pid_t pid = fork();

	(void)argc, (void)argv;
	works(pid, "fork");
	if (pid == 0)
		_exit(0);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		int flag = kinds[i].flag;
		/* with a user namespace, which is how an unprivileged process gets the others */
		int with = i ? flag | CLONE_NEWUSER : flag;

		denied(unshare(flag), kinds[i].name, EPERM, ENOSPC, EUSERS, 0);
		denied(unshare(with), kinds[i].name, EPERM, ENOSPC, EUSERS, 0);
		if (flag != 0x80)
			nested_by_clone(with, kinds[i].name);
		nested_by_clone3((uint64_t)with, kinds[i].name);
	}
	held();
}

#ifdef __x86_64__
static long int80(long nr)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr) : "memory");
	return ret;
}

static void foreign_arch(int argc, char **argv)
{
	int status;
	pid_t pid = fork();

	(void)argc, (void)argv;
	works(pid, "fork");
	if (pid == 0)
		_exit(int80(20 /* getpid of i386 */) > 0 ? 1 : 2);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		breach("an i386 system call works: its numbers pass the filter");
	if (!WIFSIGNALED(status) || (WTERMSIG(status) != SIGSYS && WTERMSIG(status) != SIGSEGV))
		unproven("neither killed nor answered: %x", status);
	pid = fork(); /* killed or refused, as the filter's writer likes */
	works(pid, "fork");
	if (pid == 0)
		_exit(syscall(0x40000000 | SYS_getpid) > 0 ? 1 : 0);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		breach("an x32 system call works");
	held();
}
#else
static void foreign_arch(int argc, char **argv)
{
	(void)argc, (void)argv;
	unproven("this machine has no second system call table that we know");
}
#endif

static bool family_allowed(int f)
{
	return f == AF_UNIX || f == AF_INET || f == AF_INET6 || f == AF_NETLINK;
}

static void families(int argc, char **argv)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET};
	char what[64];
	int pair[2];

	(void)argc, (void)argv;
	works(socket(AF_INET, SOCK_STREAM, 0), "an internet socket");
	works(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "a pair of local sockets");
	for (int f = 0; f < 64; f++)
		for (int t = 0; t < 4 && !family_allowed(f); t++) {
			snprintf(what, sizeof what, "socket of family %d, type %d", f, types[t]);
			denied(socket(f, types[t], 0), what, EAFNOSUPPORT, 0);
			denied(syscall(SYS_socket, (long)f | 1L << 32, types[t], 0), what,
				EAFNOSUPPORT, 0);
		}
	held();
}

static void family_pairs(int argc, char **argv)
{
	char what[64];
	int pair[2];

	(void)argc, (void)argv;
	works(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "a pair of local sockets");
	for (int f = 0; f < 64; f++) {
		if (family_allowed(f))
			continue;
		snprintf(what, sizeof what, "pair of sockets of family %d", f);
		denied(socketpair(f, SOCK_STREAM, 0, pair), what, EAFNOSUPPORT, 0);
		denied(socketpair(f, SOCK_DGRAM, 0, pair), what, EAFNOSUPPORT, 0);
	}
	held();
}

static void address_randomisation(int argc, char **argv)
{
	(void)argc, (void)argv;
	works(personality(0), "the personality that we have");
	denied(personality(ADDR_NO_RANDOMIZE), "switch randomisation off", EPERM, 0);
	denied(personality(READ_IMPLIES_EXEC), "make memory executable", EPERM, 0);
	held();
}

const struct attack attacks_surface[] = {
	{"surface", surface, "each call that the filter denies"},
	{"calls", list_calls, "(lists them)"},
	{"filtered", filtered, "being without a filter"},
	{"no-new-privs", no_new_privs, "being without no_new_privs"},
	{"caps", caps, "capabilities"},
	{"regain", regain, "getting capabilities back by executing a program"},
	{"nested", nested, "namespaces of one's own by unshare, clone and clone3"},
	{"foreign-arch", foreign_arch, "system calls of another architecture"},
	{"families", families, "socket families, also with high bits set"},
	{"family-pairs", family_pairs, "socket families by socketpair"},
	{"personality", address_randomisation, "switching randomisation off"},
	{NULL, NULL, NULL},
};

/*
 * The seccomp programs as the kernel gets them, run by an interpreter: what each call and each
 * argument comes to, whatever this machine's kernel knows. Expectations are numbers, not the table.
 */
#include "isolate/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/own.h"
#include "tests/unit/bpf.h"
#include "tests/unit/tap.h"

#define HIGH      (0xdeadbeefULL << 32)
#define ALLOW     SECCOMP_RET_ALLOW
#define KILL      SECCOMP_RET_KILL_PROCESS
#define ERR(n)    (SECCOMP_RET_ERRNO | (n))
#define X32_BIT   0x40000000U
#define NEW_TIME  0x80
#define NEWEST_OK 462

static uint32_t call4(
	const struct filter *f, long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	struct seccomp_data d = {
		.nr = (int)nr, .arch = seccomp_arch_native(), .args = {a0, a1, a2, a3}};

	return bpf_run(f, &d);
}

static uint32_t call(const struct filter *f, long nr, uint64_t a0, uint64_t a1)
{
	return call4(f, nr, a0, a1, 0, 0);
}

static void want(uint32_t got, uint32_t wanted, const char *what, unsigned long long detail)
{
	if (!ok(got == wanted, "%s 0x%llx", what, detail))
		printf("#      got: 0x%x\n# expected: 0x%x\n", got, wanted);
}

static void test_foreign(const struct filter *f)
{
	static const uint32_t archs[] = {AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64,
		AUDIT_ARCH_ARM, AUDIT_ARCH_RISCV64, 0, ~0U};
	static const int numbers[] = {0, 1, 20, 56, 272, 435, NEWEST_OK, NEWEST_OK + 1, 1000, -1};

	for (size_t i = 0; i < NELEM(archs); i++)
		for (size_t n = 0; archs[i] != seccomp_arch_native() && n < NELEM(numbers); n++) {
			struct seccomp_data d = {.nr = numbers[n], .arch = archs[i]};

			want(bpf_run(f, &d), KILL, "a foreign architecture is killed", archs[i]);
		}
#ifdef __x86_64__
	want(call(f, X32_BIT | SYS_getpid, 0, 0), ERR(ENOSYS), "x32", SYS_getpid);
	want(call(f, X32_BIT | SYS_mount, 0, 0), ERR(ENOSYS), "x32", SYS_mount);
#endif
}

static void test_denied(const struct filter *f)
{
	static const struct {
		const char *name;
		int nr;
	} eperm[] = {
#ifdef __x86_64__
		{"unshare", 272},
		{"setns", 308},
		{"mount", 165},
		{"umount2", 166},
		{"pivot_root", 155},
		{"chroot", 161},
		{"name_to_handle_at", 303},
		{"open_by_handle_at", 304},
		{"keyctl", 250},
		{"add_key", 248},
		{"request_key", 249},
		{"bpf", 321},
		{"perf_event_open", 298},
		{"userfaultfd", 323},
		{"fanotify_init", 300},
		{"lookup_dcookie", 212},
		{"quotactl", 179},
		{"acct", 163},
		{"swapon", 167},
		{"swapoff", 168},
		{"syslog", 103},
		{"init_module", 175},
		{"finit_module", 313},
		{"delete_module", 176},
		{"create_module", 174},
		{"kexec_load", 246},
		{"kexec_file_load", 320},
		{"reboot", 169},
		{"settimeofday", 164},
		{"clock_settime", 227},
		{"clock_adjtime", 305},
		{"adjtimex", 159},
		{"sethostname", 170},
		{"setdomainname", 171},
		{"vhangup", 153},
		{"iopl", 172},
		{"ioperm", 173},
		{"modify_ldt", 154},
		{"kcmp", 312},
		{"mbind", 237},
		{"set_mempolicy", 238},
		{"get_mempolicy", 239},
		{"migrate_pages", 256},
		{"move_pages", 279},
		{"uselib", 134},
		{"ustat", 136},
		{"sysfs", 139},
		{"_sysctl", 156},
		{"nfsservctl", 180},
		{"query_module", 178},
		{"get_kernel_syms", 177},
		{"vserver", 236},
#endif
		{"io_uring_setup", 425},
		{"io_uring_enter", 426},
		{"io_uring_register", 427},
		{"open_tree", 428},
		{"move_mount", 429},
		{"fsopen", 430},
		{"fsconfig", 431},
		{"fsmount", 432},
		{"fspick", 433},
		{"process_madvise", 440},
		{"mount_setattr", 442},
		{"quotactl_fd", 443},
		{"memfd_secret", 447},
		{"set_mempolicy_home_node", 450},
	};
	static const struct {
		const char *name;
		long nr;
		int errnum;
	} others[] = {{"setxattr", SYS_setxattr, EOPNOTSUPP},
		{"lsetxattr", SYS_lsetxattr, EOPNOTSUPP}, {"fsetxattr", SYS_fsetxattr, EOPNOTSUPP},
		{"landlock_create_ruleset", 444, EOPNOTSUPP},
		{"landlock_add_rule", 445, EOPNOTSUPP}, {"landlock_restrict_self", 446, EOPNOTSUPP},
		{"io_setup", SYS_io_setup, ENOSYS}};
	static const uint64_t args[] = {0, 1, ~0ULL, HIGH};

	for (size_t i = 0; i < NELEM(others); i++)
		for (size_t a = 0; a < NELEM(args); a++)
			want(call4(f, others[i].nr, args[a], args[a], args[a], args[a]),
				ERR(others[i].errnum), others[i].name, args[a]);
	want(call(f, SYS_getxattr, 0, 0), ALLOW, "control: getxattr", 0);
	want(call(f, SYS_fremovexattr, 0, 0), ALLOW, "control: fremovexattr", 0);

	for (size_t i = 0; i < NELEM(eperm); i++) {
		int known = seccomp_syscall_resolve_name(eperm[i].name);

		ok(known < 0 || known == eperm[i].nr, "%s is %d", eperm[i].name, eperm[i].nr);
		for (size_t a = 0; a < NELEM(args); a++)
			want(call4(f, eperm[i].nr, args[a], args[a], args[a], args[a]), ERR(EPERM),
				eperm[i].name, args[a]);
	}
	want(call(f, 435, 0, 0), ERR(ENOSYS), "clone3", 0);
	for (int nr = NEWEST_OK + 1; nr < NEWEST_OK + 200; nr++)
		want(call(f, nr, 0, 0), ERR(ENOSYS), "a call of the future", (unsigned)nr);
	want(call(f, -1, 0, 0), ERR(ENOSYS), "call -1", 0);
	want(call(f, NEWEST_OK, 0, 0), ALLOW, "control: the newest known one", NEWEST_OK);
	want(call(f, SYS_getpid, 0, 0), ALLOW, "control: getpid", 0);
	want(call(f, SYS_execve, 0, 0), ALLOW, "control: execve", 0);
}

static void test_clone(const struct filter *f)
{
	static const uint64_t ns[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET,
		CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
	const uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

	for (size_t i = 0; i < NELEM(ns); i++) {
		want(call(f, SYS_clone, ns[i], 0), ERR(EPERM), "clone", ns[i]);
		want(call(f, SYS_clone, ns[i] | thread | 17, 0), ERR(EPERM), "clone",
			ns[i] | thread);
		want(call(f, SYS_clone, ns[i] | HIGH, 0), ERR(EPERM), "clone", ns[i] | HIGH);
	}
	want(call(f, SYS_clone, ~0ULL, 0), ERR(EPERM), "clone", ~0ULL);
	want(call(f, SYS_clone, 17, 0), ALLOW, "control: fork", 17);
	want(call(f, SYS_clone, thread, 0), ALLOW, "control: a thread", thread);
	/* of clone(2) these bits are the signal; only clone3 and unshare can make a time namespace */
	want(call(f, SYS_clone, NEW_TIME, 0), ALLOW, "clone", NEW_TIME);
}

static void test_sockets(const struct filter *f)
{
	for (uint64_t family = 0; family < 64; family++) {
		bool fine = family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
			    family == AF_NETLINK;
		uint32_t wanted = fine ? ALLOW : ERR(EAFNOSUPPORT);

		want(call(f, SYS_socket, family, SOCK_STREAM), wanted, "socket", family);
		if (!fine)
			want(call(f, SYS_socket, family | HIGH, SOCK_STREAM), wanted, "socket",
				family | HIGH);
	}
	want(call(f, SYS_socket, ~0ULL, 0), ERR(EAFNOSUPPORT), "socket", ~0ULL);
	want(call(f, SYS_socket, 0xffffffff, 0), ERR(EAFNOSUPPORT), "socket", 0xffffffff);
}

static void test_arguments(const struct filter *f)
{
	static const uint64_t bad_ioctl[] = {
		0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */, 0x5423 /* TIOCSETD */};

	for (size_t i = 0; i < NELEM(bad_ioctl); i++) {
		want(call(f, SYS_ioctl, 0, bad_ioctl[i]), ERR(EPERM), "ioctl", bad_ioctl[i]);
		want(call(f, SYS_ioctl, 0, bad_ioctl[i] | HIGH), ERR(EPERM), "ioctl",
			bad_ioctl[i] | HIGH);
		want(call(f, SYS_ioctl, 0, bad_ioctl[i] + 1), ALLOW, "control: ioctl",
			bad_ioctl[i] + 1);
	}
	want(call(f, SYS_ioctl, 0, TIOCGWINSZ), ALLOW, "control: TIOCGWINSZ", 0);
	want(call(f, SYS_fcntl, 3, 1031 /* F_SETPIPE_SZ */), ERR(EPERM), "fcntl", 1031);
	want(call(f, SYS_fcntl, 3, 1031 | HIGH), ERR(EPERM), "fcntl", 1031 | HIGH);
	want(call(f, SYS_fcntl, 3, 1032), ALLOW, "control: F_GETPIPE_SZ", 1032);
	want(call(f, SYS_semget, 0, 256), ALLOW, "control: semget", 256);
	want(call(f, SYS_semget, 0, 257), ERR(EINVAL), "semget", 257);
	want(call(f, SYS_vmsplice, 0, 0), ERR(EPERM), "vmsplice", 0);
	for (int mode = 0; mode < 128; mode++)
		want(call(f, SYS_fallocate, 7, (uint64_t)mode), mode & 2 ? ALLOW : ERR(EOPNOTSUPP),
			"fallocate, punching holes or not", mode);
	want(call4(f, SYS_close_range, 3, 9, 4, 0), ALLOW, "control: close_range CLOEXEC", 4);
	want(call4(f, SYS_close_range, 3, 9, 2, 0), ERR(EINVAL), "close_range UNSHARE", 2);
	want(call4(f, SYS_close_range, 3, 9, HIGH | 6, 0), ERR(EINVAL), "close_range UNSHARE", 6);
	want(call(f, SYS_clone, CLONE_THREAD | CLONE_FILES | CLONE_VM, 0), ALLOW,
		"control: a thread", 0);
	want(call(f, SYS_clone, CLONE_THREAD | CLONE_VM, 0), ERR(EPERM),
		"a thread with descriptors of its own", 0);
	want(call(f, SYS_clone, HIGH | CLONE_THREAD | CLONE_VM, 0), ERR(EPERM),
		"a thread with descriptors of its own", 1);
	want(call(f, SYS_clone, CLONE_FILES | 17, 0), ERR(EPERM), "descriptors shared with a child",
		0);
	want(call(f, SYS_fcntl, 3, 6), ALLOW, "control: F_SETLK", 6);
	want(call(f, SYS_fcntl, 3, 37), ERR(EINVAL), "F_OFD_SETLK", 37);
	want(call(f, SYS_fcntl, 3, 38 | HIGH), ERR(EINVAL), "F_OFD_SETLKW", 38 | HIGH);
	want(call(f, SYS_clone, CLONE_VFORK | CLONE_VM, 0), ALLOW, "control: vfork", 0);
	want(call(f, SYS_clone, CLONE_VFORK, 0), ERR(EPERM), "vfork with memory of its own", 0);
	for (int proto = 0; proto < 300; proto++)
		want(call4(f, SYS_socket, AF_INET, 1, (uint64_t)proto, 0),
			proto > 255 || proto == 132 || proto == 33 || proto == 136 || proto == 115
				? ERR(EPROTONOSUPPORT)
				: ALLOW,
			"socket protocol", proto);
	for (uint64_t proto = 0; proto < 40; proto++) {
		uint32_t wanted = proto == 0 || proto == 15 ? ALLOW : ERR(EPROTONOSUPPORT);

		want(call4(f, SYS_socket, AF_NETLINK, SOCK_RAW, proto, 0), wanted, "netlink",
			proto);
		want(call4(f, SYS_socket, AF_NETLINK | HIGH, SOCK_DGRAM, proto, 0),
			wanted == ALLOW ? ERR(EAFNOSUPPORT) : wanted, "netlink", proto);
		want(call4(f, SYS_socket, AF_NETLINK, SOCK_RAW, proto | HIGH, 0),
			ERR(EPROTONOSUPPORT), "netlink", proto | HIGH);
	}
	want(call4(f, SYS_socket, AF_INET, 1, 6 | HIGH, 0), ERR(EPROTONOSUPPORT), "socket protocol",
		6);
	want(call4(f, SYS_seccomp, 1, 0, 0, 0), ALLOW, "control: a filter", 0);
	want(call4(f, SYS_seccomp, 2, 8, 0, 0), ALLOW, "control: a question", 8);
	want(call4(f, SYS_seccomp, 1 | HIGH, 0x19 | HIGH, 0, 0), ERR(EINVAL), "a listener", 0x19);
	want(call4(f, SYS_setsockopt, 3, 6, 31, 0), ERR(ENOPROTOOPT), "TCP_ULP", 31);
	want(call4(f, SYS_setsockopt, 3, 6 | HIGH, 31 | HIGH, 0), ERR(ENOPROTOOPT), "TCP_ULP",
		31 | HIGH);
	want(call4(f, SYS_setsockopt, 3, 6, 1, 0), ALLOW, "control: TCP_NODELAY", 1);
	want(call4(f, SYS_setsockopt, 3, 1, 31, 0), ALLOW, "control: another level", 31);
	want(call4(f, SYS_mmap, 0, 4096, 3, 0x22), ALLOW, "control: mmap", 0x22);
	want(call4(f, SYS_mmap, 0, 4096, 3, 0x40022), ERR(ENOMEM), "MAP_HUGETLB", 0x40022);
	want(call4(f, SYS_mmap, 0, 4096, 3, 0x54040022 | HIGH), ERR(ENOMEM), "MAP_HUGETLB",
		0x54040022 | HIGH);
	want(call(f, SYS_memfd_create, 0, 3), ALLOW, "control: memfd_create", 3);
	want(call(f, SYS_memfd_create, 0, 7), ERR(ENOSYS), "MFD_HUGETLB", 7);
	want(call4(f, SYS_shmget, 0, 4096, 01600, 0), ALLOW, "control: shmget", 01600);
	want(call4(f, SYS_shmget, 0, 4096, 05600, 0), ERR(EINVAL), "SHM_HUGETLB", 05600);
	want(call(f, SYS_shmget, 0, 65536), ALLOW, "control: shmget", 65536);
	want(call(f, SYS_shmget, 0, 65537), ERR(EINVAL), "shmget", 65537);
	want(call(f, SYS_shmget, 0, HIGH), ERR(EINVAL), "shmget", HIGH);
	want(call(f, SYS_personality, 0, 0), ALLOW, "control: personality", 0);
	want(call(f, SYS_personality, 0x0040000, 0), ERR(EPERM), "personality", 0x0040000);
	want(call(f, SYS_personality, 0xffffffff, 0), ERR(EPERM), "personality", 0xffffffff);
	/* prctl gives nothing that a process without rights could use against others */
	for (uint64_t op = 0; op < 80; op++)
		if (call(f, SYS_prctl, op, 0) != ALLOW)
			ok(false, "prctl %llu is denied", (unsigned long long)op);
	want(call(f, SYS_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1), ALLOW, "prctl", 38);
}

static void test_pid1(const struct filter *f)
{
	static const struct {
		long nr;
		uint64_t a0, a1;
	} bad[] = {{SYS_prlimit64, 1, RLIMIT_NOFILE}, {SYS_prlimit64, 1 | HIGH, RLIMIT_NOFILE},
		{SYS_sched_setscheduler, 1, 0}, {SYS_sched_setparam, 1, 0},
		{SYS_sched_setattr, 1, 0}, {SYS_sched_setaffinity, 1, 8}, {SYS_setpriority, 0, 1},
		{SYS_setpriority, 1, 1}, {SYS_setpriority, 2, 0}, {SYS_ioprio_set, 1, 1},
		{SYS_ioprio_set, 2, 1}, {SYS_ioprio_set, 3, 7}};

	for (size_t i = 0; i < NELEM(bad); i++) {
		want(call(f, bad[i].nr, bad[i].a0, bad[i].a1), ERR(EPERM), "pid 1 as target of",
			(unsigned long long)bad[i].nr);
	}
	want(call(f, SYS_prlimit64, 0, RLIMIT_NOFILE), ALLOW, "control: prlimit64", 0);
	want(call(f, SYS_setpriority, 0, 0), ALLOW, "control: nice", 0);
	want(call(f, SYS_sched_setaffinity, 2, 8), ALLOW, "control: sched_setaffinity", 2);
}

static void test_core(const struct filter *f, bool handler)
{
	uint32_t set = handler ? ERR(EINVAL) : ALLOW;
	const char *what = handler ? "a handler: the core limit" : "no handler: the core limit";

	want(call(f, SYS_setrlimit, RLIMIT_CORE, 1), set, what, RLIMIT_CORE);
	want(call(f, SYS_setrlimit, RLIMIT_CORE | HIGH, 1), set, what, HIGH);
	want(call4(f, SYS_prlimit64, 0, RLIMIT_CORE, 4096, 0), set, what, 0);
	want(call4(f, SYS_prlimit64, 7, RLIMIT_CORE | HIGH, HIGH, 0), set, what, HIGH);
	want(call4(f, SYS_prlimit64, 0, RLIMIT_CORE, HIGH, HIGH), set, what, HIGH);
	want(call4(f, SYS_prlimit64, 0, RLIMIT_CORE, 0, 8192), ALLOW, "control: only asks", 0);
	want(call4(f, SYS_prlimit64, 0, RLIMIT_STACK, 4096, 0), ALLOW, "control: stack", 0);
	want(call(f, SYS_setrlimit, RLIMIT_NOFILE, 1), ALLOW, "control: setrlimit", RLIMIT_NOFILE);
	ok(call4(f, SYS_prlimit64, 1, RLIMIT_CORE, 4096, 0) != ALLOW, "of pid 1");
}

/* With a core_pattern of our own over the machine's. */
static int with_pattern(const char *pattern)
{
	static const char proc[] = "/proc/sys/kernel/core_pattern";
	char path[] = "/tmp/cgibox-test-XXXXXX";
	struct filter f;
	struct err e = {0};
	OWN_FD fd = mkstemp(path);
	bool good = fd >= 0 && write(fd, pattern, strlen(pattern)) > 0 &&
		    mount(path, proc, NULL, MS_BIND, NULL) == 0;

	unlink(path);
	if (!ok(good, "core_pattern is \"%s\": %s", pattern, strerror(errno)))
		return -1;
	ok(filter_build(FILTER_PAYLOAD, &f, &e) == 0, "the filter for it");
	test_core(&f, *pattern == '|');
	filter_free(&f);
	return umount2(proc, MNT_DETACH);
}

static void test_patterns(void)
{
	static const char *const patterns[] = {"|/usr/bin/handler %p", "core", "@/run/handler"};

	if (!ok(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, "a mount namespace"))
		return;
	for (size_t i = 0; i < NELEM(patterns); i++)
		ok(with_pattern(patterns[i]) == 0, "and away with it");
}

/* The kernel and the interpreter agree, as far as a harmless call shows. */
static void test_loaded(const struct filter *f, bool emulated)
{
	struct err e;
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int bad = filter_load(f, &e) < 0;

		bad |= syscall(SYS_unshare, 0) == 0 || errno != EPERM;
		bad |= syscall(NEWEST_OK + 1) == 0 || errno != ENOSYS;
		bad |= socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 || errno != EAFNOSUPPORT;
		/* fails for root as for others: there is no such place */
		bad |= (fchownat(AT_FDCWD, "/nowhere/at/all", 1, 1, 0) == 0) != emulated;
		bad |= (mknod("/nowhere/at/all", S_IFCHR, 0) == 0) != emulated;
		bad |= mknod("/nowhere/at/all", S_IFIFO, 0) == 0 || errno != ENOENT;
		_exit(bad);
	}
	waitpid(pid, &status, 0);
	ok(status == 0, "loaded, it says the same (0x%x)", (unsigned)status);
}

/* What the second program is for, by name; a number that this architecture lacks is negative. */
static const char *const faked[] = {"chown", "fchown", "lchown", "fchownat", "setuid", "setgid",
	"setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
	"capset"};

static bool is_mknod(long nr)
{
	return nr == seccomp_syscall_resolve_name("mknod") || nr == SYS_mknodat;
}

static bool is_faked(long nr, uint64_t mode1, uint64_t mode2)
{
	uint64_t mode;

	for (size_t i = 0; i < NELEM(faked); i++)
		if (seccomp_syscall_resolve_name(faked[i]) == nr)
			return true;
	if (!is_mknod(nr))
		return false;
	mode = (nr == SYS_mknodat ? mode2 : mode1) & 0170000;
	return mode == 0020000 || mode == 0060000;
}

/*
 * Every number and some more, with arguments of all kinds: same as the first program's answer, or one
 * of the few, which no longer reach the kernel. Those the first allows, but for devices.
 */
static void test_emulation_differs(const struct filter *normal, const struct filter *root)
{
	static const uint64_t args[] = {0, 1, 2, 16, 0x5412, 1031, S_IFCHR, S_IFBLK | 0600,
		S_IFIFO | 0666, S_IFREG, S_IFSOCK, S_IFDIR, S_IFCHR | 0x10000, 0x10000, HIGH,
		HIGH | S_IFCHR, HIGH | 1, ~0ULL, CLONE_NEWUSER, CLONE_NEWNS | 17, 0x0040000};
	unsigned faked_seen = 0, wrong = 0;

	for (long nr = -2; nr < 1200; nr++)
		for (size_t a = 0; a < NELEM(args); a++)
			for (size_t b = 0; b < NELEM(args); b++) {
				uint64_t v = args[a], w = args[b];
				uint32_t was = call4(normal, nr, v, w, v, w);
				uint32_t now = call4(root, nr, v, w, v, w);
				bool fake = is_faked(nr, w, v);
				bool known = was == ALLOW || (is_mknod(nr) && was == ERR(EPERM));

				faked_seen += fake;
				if (now == (fake ? ERR(0) : was) && (!fake || known))
					continue;
				if (wrong++ < 10)
					printf("# call %ld 0x%llx 0x%llx: 0x%x was 0x%x\n", nr,
						(unsigned long long)v, (unsigned long long)w, now,
						was);
			}
	ok(wrong == 0, "emulation changes nothing but %u calls, to success unseen by the kernel",
		faked_seen);
	ok(faked_seen >= 10 * NELEM(args) * NELEM(args), "control: it changes some");
}

static void test_emulation(const struct filter *normal)
{
	struct filter root, none = {0};
	struct err e = {0};

	if (!ok(filter_emulate_root(normal, &root, &e) == 0, "the filter with root emulated"))
		return;
	test_emulation_differs(normal, &root);
	want(call(&root, SYS_fchownat, ~0ULL, 0), ERR(0), "fchownat", 0);
	want(call(&root, SYS_setgroups, 1, 0), ERR(0), "setgroups", 1);
	want(call4(&root, SYS_mknodat, 3, 0, S_IFCHR | 0666, 0), ERR(0), "mknodat", S_IFCHR);
	want(call4(&root, SYS_mknodat, 3, 0, S_IFBLK | HIGH, 0), ERR(0), "mknodat", S_IFBLK);
	want(call4(&root, SYS_mknodat, 3, 0, S_IFIFO | 0666, 0), ALLOW, "control: a fifo", S_IFIFO);
	want(call4(&root, SYS_mknodat, 3, 0, 0644, 0), ALLOW, "control: a file", 0644);
	want(call(&root, SYS_fchmodat, 3, 0), ALLOW, "control: fchmodat", 0);
#ifdef __x86_64__
	want(call(&root, X32_BIT | SYS_chown, 0, 0), ERR(ENOSYS), "x32", SYS_chown);
#endif
	ok(root.clone3 == normal->clone3 && root.ins[root.clone3].k == 435,
		"clone3 is turned away by the same instruction");
	ok(root.len < 1024, "%u instructions", root.len);
	test_foreign(&root);
	test_denied(&root);
	test_clone(&root);
	test_sockets(&root);
	test_arguments(&root);
	test_pid1(&root);
	test_loaded(&root, true);
	filter_free(&root);
	ok(filter_emulate_root(&none, &root, &e) < 0 && e.kind == ERR_BUG, "of no program: %s",
		e.msg);
}

static void test_jail(void)
{
	static const long no[] = {SYS_execve, SYS_socket, SYS_connect, SYS_ptrace, SYS_unshare,
		SYS_mount, SYS_setrlimit, SYS_kill, SYS_keyctl, SYS_bpf, 463, 1000};
	static const long yes[] = {SYS_read, SYS_openat, SYS_openat2, SYS_close_range,
		SYS_faccessat2, SYS_exit_group, SYS_renameat2};
	struct filter f;
	struct err e;

	ok(filter_jail(&f, &e) == 0, "the helpers' filter");
	for (size_t i = 0; i < NELEM(no); i++)
		want(call(&f, no[i], 0, 0), ERR(EPERM), "a helper's call", (unsigned)no[i]);
	for (size_t i = 0; i < NELEM(yes); i++)
		want(call(&f, yes[i], 0, 0), ALLOW, "control: a helper's call", (unsigned)yes[i]);
	want(call(&f, SYS_clone3, 0, 0), ERR(ENOSYS), "clone3", 0);
	want(call(&f, SYS_clone, 17, 0), ERR(EPERM), "fork", 17);
	want(call(&f, SYS_clone, CLONE_VM | CLONE_THREAD, 0), ALLOW, "control: a thread", 0);
	filter_free(&f);
}

static bool same(const struct filter *a, const struct filter *b)
{
	return a->len == b->len && a->clone3 == b->clone3 && a->calls == b->calls &&
	       !memcmp(a->ins, b->ins, a->len * sizeof *a->ins);
}

/* What programs carry is what libseccomp makes here and now, which the tests above look at. */
static void test_made(const struct filter *f)
{
	struct filter plain, root, other, emulated;
	struct err e = {0};

	if (!ok(filter_payload(&plain, &root, &e) == 0, "the programs made before"))
		return;
	ok(same(&plain, f), "the one for commands is the same");
	ok(filter_emulate_root(f, &emulated, &e) == 0 && same(&root, &emulated),
		"so is the one that emulates root");
	ok(filter_build_payload(!filter_core_handler(), &other, &e) == 0 && !same(&plain, &other),
		"control: for the other kind of machine it differs");
	filter_free(&plain);
	filter_free(&root);
	filter_free(&other);
	filter_free(&emulated);
}

int main(void)
{
	struct filter f;
	struct err e = {0};

	if (!ok(filter_build(FILTER_PAYLOAD, &f, &e) == 0, "the payload's filter: %s", e.msg))
		return done();
	ok(f.len < 1024, "%u instructions", f.len);
	test_foreign(&f);
	test_denied(&f);
	test_clone(&f);
	test_sockets(&f);
	test_arguments(&f);
	test_pid1(&f);
	test_loaded(&f, false);
	test_emulation(&f);
	test_made(&f);
	filter_free(&f);
	test_jail();
	test_patterns(); /* last: it leaves our namespaces */
	return done();
}

#include "fcgi/self.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>
#include <seccomp.h>

#include "isolate/own.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Newer than the headers of Debian 12; the kernel is asked what it knows. */
#define FS_TRUNCATE    (1ULL << 14) /* ABI 3 */
#define FS_IOCTL_DEV   (1ULL << 15) /* ABI 5 */
#define NET_BIND_TCP   (1ULL << 0)  /* ABI 4 */
#define NET_CONNECT    (1ULL << 1)
#define RULE_NET_PORT  2
#define SCOPE_ABSTRACT (1ULL << 0) /* ABI 6 */
#define SCOPE_SIGNAL   (1ULL << 1)

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

/* Every right of ABI 1 and 2: what is not named in a rule is denied. */
#define FS_ALL_ABI2 ((LANDLOCK_ACCESS_FS_REFER << 1) - 1)

static struct ruleset_attr all_rights(int abi, size_t *size)
{
	struct ruleset_attr a = {.fs = FS_ALL_ABI2};

	*size = sizeof a.fs;
	if (abi < 2)
		a.fs &= ~LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		a.fs |= FS_TRUNCATE;
	if (abi >= 5)
		a.fs |= FS_IOCTL_DEV;
	if (abi >= 4) {
		a.net = NET_BIND_TCP | NET_CONNECT;
		*size = offsetof(struct ruleset_attr, scoped);
	}
	if (abi >= 6) {
		a.scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
		*size = sizeof a;
	}
	return a;
}

/* Files of the directory may be made, read, written and, if asked, removed: nothing elsewhere. */
static int allow(int ruleset, const char *path, uint64_t rights, struct err *e)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = rights};
	OWN_FD dir = -1;

	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open %s", path);
	rule.parent_fd = dir;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "landlock rule for %s", path);
	return 0;
}

enum {
	FS_FILES = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
		   LANDLOCK_ACCESS_FS_MAKE_REG | FS_TRUNCATE
};

/* port: TCP that may be connected to, 0 = none; from Landlock's ABI 4 on. */
static int allow_port(int ruleset, uint64_t net, int port, struct err *e)
{
	const struct {
		uint64_t allowed, port;
	} rule = {NET_CONNECT, (uint64_t)port};

	if (!net || !port)
		return 0;
	if (syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "landlock rule for port %d", port);
	return 0;
}

static int lock_net_into(const char *path, uint64_t rights, int port, struct err *e)
{
	int abi = (int)syscall(
		SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset_attr attr;
	OWN_FD ruleset = -1;
	size_t size;

	if (abi < 1)
		return err_set(e, ERR_SETUP, errno, "this kernel has no Landlock");
	attr = all_rights(abi, &size);
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return err_set(e, ERR_SETUP, errno, "landlock ruleset (ABI %d)", abi);
	if (allow_port(ruleset, attr.net, port, e) < 0 ||
		(path && allow(ruleset, path, rights & attr.fs, e) < 0))
		return -1;
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "enter landlock");
	return 0;
}

static int lock_into(const char *path, uint64_t rights, struct err *e)
{
	return lock_net_into(path, rights, 0, e);
}

/* Unnamed files of request bodies and outputs are made in tmp, and nowhere else. */
static int lock_files(const struct conf *c, struct err *e)
{
	char path[4096];

	if (snprintf(path, sizeof path, "%s/tmp", c->state_dir) >= (int)sizeof path)
		return err_set(e, ERR_CONF, ENAMETOOLONG, "state_dir");
	return lock_into(path, FS_FILES, e);
}

#define CALL(name) SCMP_SYS(name), #name

enum rule_test { T_ANY, T_EQUAL, T_WITHOUT, T_OURS };

struct rule {
	int call;
	const char *name;
	enum rule_test test; /* on argument arg */
	unsigned arg;
	uint64_t value; /* T_EQUAL: the argument is this. T_WITHOUT: it has none of these bits */
	/* T_OURS: a Unix socket of the only kind that our programs listen at */
	const char *why;
};

static const struct rule allowed[] = {
	{CALL(read), T_ANY, 0, 0, "descriptors that we have"},
	{CALL(readv), T_ANY, 0, 0, "the same"},
	{CALL(pread64), T_ANY, 0, 0, "spools"},
	{CALL(write), T_ANY, 0, 0, "answers, the log"},
	{CALL(writev), T_ANY, 0, 0, "the same"},
	{CALL(pwrite64), T_ANY, 0, 0, "spools"},
	{CALL(sendfile), T_ANY, 0, 0, "from a spool to an answer"},
	{CALL(copy_file_range), T_ANY, 0, 0, "between spools"},
	{CALL(close), T_ANY, 0, 0, ""},
	{CALL(fstat), T_ANY, 0, 0, "size of a spool; glibc's fstat() is one of these"},
	{CALL(newfstatat), T_ANY, 0, 0, "the same; names tell nothing that matters"},
	{CALL(statx), T_ANY, 0, 0, "the same"},
	{CALL(lseek), T_ANY, 0, 0, "spools"},
	{CALL(ftruncate), T_ANY, 0, 0, "spools"},
	{CALL(fallocate), T_ANY, 0, 0, "spools"},
	{CALL(fcntl), T_ANY, 0, 0, "close-on-exec, seals, duplicates"},
	{CALL(dup), T_ANY, 0, 0, "stdio on a spool"},
	{CALL(openat), T_ANY, 0, 0, "unnamed files in STATE/tmp; Landlock refuses the rest"},
	{CALL(open), T_ANY, 0, 0, "the same"},
	{CALL(memfd_create), T_ANY, 0, 0, "parameters, small spools"},

	{CALL(mmap), T_WITHOUT, 2, PROT_EXEC, "memory, and no code in it"},
	{CALL(mprotect), T_WITHOUT, 2, PROT_EXEC, "the same"},
	{CALL(munmap), T_ANY, 0, 0, ""},
	{CALL(mremap), T_ANY, 0, 0, "realloc of large blocks"},
	{CALL(madvise), T_ANY, 0, 0, "malloc"},
	{CALL(brk), T_ANY, 0, 0, "malloc"},
	{CALL(futex), T_ANY, 0, 0, "locks inside libc"},

	{CALL(socket), T_OURS, 0, 0, "the keeper's; not an Engine's, D-Bus's and the like"},
	{CALL(socketpair), T_EQUAL, 0, AF_UNIX, "a pair for the keeper to keep the other end of"},
	{CALL(connect), T_ANY, 0, 0, "the keeper"},
	{CALL(sendmsg), T_ANY, 0, 0, "the keeper, with descriptors"},
	{CALL(recvmsg), T_ANY, 0, 0, "the same, and jobs from main"},
	{CALL(sendto), T_ANY, 0, 0, "send() to main and on connections"},
	{CALL(recvfrom), T_ANY, 0, 0, "recv()"},
	{CALL(shutdown), T_ANY, 0, 0, "the end of a connection"},
	{CALL(setsockopt), T_ANY, 0, 0, "timeouts"},
	{CALL(getsockopt), T_ANY, 0, 0, "SO_ERROR, SO_PEERCRED"},
	{CALL(getsockname), T_ANY, 0, 0, ""},
	{CALL(getpeername), T_ANY, 0, 0, ""},
	{CALL(pipe2), T_ANY, 0, 0, "output of a command"},
	{CALL(poll), T_ANY, 0, 0, "waits"},
	{CALL(ppoll), T_ANY, 0, 0, "waits"},
	{CALL(select), T_ANY, 0, 0, "waits"},
	{CALL(pselect6), T_ANY, 0, 0, "waits"},
	{CALL(epoll_create1), T_ANY, 0, 0, "waits"},
	{CALL(epoll_ctl), T_ANY, 0, 0, "waits"},
	{CALL(epoll_wait), T_ANY, 0, 0, "waits"},
	{CALL(epoll_pwait), T_ANY, 0, 0, "waits"},
	{CALL(eventfd2), T_ANY, 0, 0, "waits"},
	{CALL(timerfd_create), T_ANY, 0, 0, "waits"},
	{CALL(timerfd_settime), T_ANY, 0, 0, "waits"},

	{CALL(clock_gettime), T_ANY, 0, 0, "durations (no vDSO in some guests)"},
	{CALL(clock_getres), T_ANY, 0, 0, ""},
	{CALL(gettimeofday), T_ANY, 0, 0, ""},
	{CALL(time), T_ANY, 0, 0, ""},
	{CALL(clock_nanosleep), T_ANY, 0, 0, ""},
	{CALL(nanosleep), T_ANY, 0, 0, ""},
	{CALL(getrandom), T_ANY, 0, 0, "ids"},
	{CALL(getpid), T_ANY, 0, 0, "the log"},
	{CALL(gettid), T_ANY, 0, 0, "abort()"},
	{CALL(getppid), T_ANY, 0, 0, ""},
	{CALL(getuid), T_ANY, 0, 0, ""},
	{CALL(geteuid), T_ANY, 0, 0, ""},
	{CALL(getgid), T_ANY, 0, 0, ""},
	{CALL(getegid), T_ANY, 0, 0, ""},
	{CALL(getrusage), T_ANY, 0, 0, ""},
	{CALL(sysinfo), T_ANY, 0, 0, "qsort() asks for the memory"},
	{CALL(uname), T_ANY, 0, 0, ""},
	{CALL(prlimit64), T_EQUAL, 2, 0, "read limits, set none"},
	{CALL(sched_yield), T_ANY, 0, 0, ""},

	{CALL(rt_sigaction), T_ANY, 0, 0, "abort()"},
	{CALL(rt_sigprocmask), T_ANY, 0, 0, "abort()"},
	{CALL(rt_sigreturn), T_ANY, 0, 0, ""},
	{CALL(restart_syscall), T_ANY, 0, 0, "the kernel's own, after a stop"},
	{CALL(exit), T_ANY, 0, 0, ""},
	{CALL(exit_group), T_ANY, 0, 0, ""},
#if SANITIZED
	{CALL(sigaltstack), T_ANY, 0, 0, "sanitizers"},
	{CALL(sched_getaffinity), T_ANY, 0, 0, "sanitizers"},
	{CALL(readlink), T_ANY, 0, 0, "sanitizers"},
	{CALL(readlinkat), T_ANY, 0, 0, "sanitizers"},
	{CALL(set_robust_list), T_ANY, 0, 0, "sanitizers"},
	{CALL(prctl), T_ANY, 0, 0, "sanitizers"},
	{CALL(getrlimit), T_ANY, 0, 0, "sanitizers"},
	{CALL(arch_prctl), T_ANY, 0, 0, "sanitizers"},
	{CALL(mincore), T_ANY, 0, 0, "sanitizers"},
	{CALL(pipe), T_ANY, 0, 0, "sanitizers test addresses by it"},
#endif
};

/*
 * No code of ours comes near these, so a worker that tries one is no longer ours. What is in
 * neither table is refused with EPERM, which libraries take well.
 */
static const struct {
	int call;
	const char *name;
} deadly[] = {
	{CALL(execve)},
	{CALL(execveat)},
	{CALL(fork)},
	{CALL(vfork)},
#if !SANITIZED
	{CALL(clone)},
#endif
	{CALL(ptrace)},
	{CALL(process_vm_readv)},
	{CALL(process_vm_writev)},
	{CALL(mount)},
	{CALL(umount2)},
	{CALL(pivot_root)},
	{CALL(chroot)},
	{CALL(unshare)},
	{CALL(setns)},
	{CALL(bpf)},
	{CALL(io_uring_setup)},
	{CALL(userfaultfd)},
	{CALL(perf_event_open)},
	{CALL(keyctl)},
	{CALL(add_key)},
	{CALL(init_module)},
	{CALL(finit_module)},
	{CALL(kexec_load)},
	{CALL(open_by_handle_at)},
	{CALL(pidfd_getfd)},
};

static int add_allowed(scmp_filter_ctx f, const struct rule *r)
{
	switch (r->test) {
	case T_EQUAL:
		return seccomp_rule_add(
			f, SCMP_ACT_ALLOW, r->call, 1, SCMP_CMP(r->arg, SCMP_CMP_EQ, r->value, 0));
	case T_WITHOUT:
		return seccomp_rule_add(f, SCMP_ACT_ALLOW, r->call, 1,
			SCMP_CMP(r->arg, SCMP_CMP_MASKED_EQ, r->value, 0));
	case T_OURS:
		return seccomp_rule_add(f, SCMP_ACT_ALLOW, r->call, 2,
			SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0),
			SCMP_A1(SCMP_CMP_EQ, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	case T_ANY:
		break;
	}
	return seccomp_rule_add(f, SCMP_ACT_ALLOW, r->call, 0);
}

static int fill_filter(scmp_filter_ctx f, struct err *e)
{
	int rc;

	for (size_t i = 0; i < NELEM(allowed); i++)
		if ((rc = add_allowed(f, &allowed[i])) < 0)
			return err_set(e, ERR_SETUP, -rc, "seccomp rule for %s", allowed[i].name);
	for (size_t i = 0; i < NELEM(deadly); i++)
		if ((rc = seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, deadly[i].call, 0)) < 0)
			return err_set(e, ERR_SETUP, -rc, "seccomp rule for %s", deadly[i].name);
	/* glibc falls back to clone only on ENOSYS; nothing here makes threads all the same. */
	rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (rc < 0)
		return err_set(e, ERR_SETUP, -rc, "seccomp rule for clone3");
	/* abort() signals itself, and nobody else may be signalled. */
	rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
		SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid(), 0));
	if (rc < 0)
		return err_set(e, ERR_SETUP, -rc, "seccomp rule for tgkill");
	return 0;
}

static int load_rules(scmp_filter_ctx f, const struct rule *more, size_t nmore, struct err *e)
{
	int rc = fill_filter(f, e);

	for (size_t i = 0; rc == 0 && i < nmore; i++)
		if ((rc = add_allowed(f, &more[i])) < 0)
			err_set(e, ERR_SETUP, -rc, "seccomp rule for %s", more[i].name);
	if (rc == 0 && (rc = seccomp_load(f)) < 0)
		err_set(e, ERR_SETUP, -rc, "load the seccomp filter");
	return rc;
}

/* The table, and more. */
static int lock_calls_and(const struct rule *more, size_t nmore, struct err *e)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc;

	if (!f)
		return err_set(e, ERR_SETUP, ENOMEM, "seccomp filter");
	/* A binary search over 90 numbers instead of a list. */
	seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	rc = load_rules(f, more, nmore, e);
	seccomp_release(f);
	return rc < 0 ? -1 : 0;
}

static int lock_calls(const struct conf *c, struct err *e)
{
	(void)c;
	return lock_calls_and(NULL, 0, e);
}

static int lock_process(const struct conf *c, struct err *e)
{
	struct rlimit none = {0, 0};

	(void)c;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "no_new_privs");
	/* Other processes of this user must not read keys out of us, a core file neither. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "not dumpable");
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_set(e, ERR_SETUP, errno, "RLIMIT_CORE");
	return 0;
}

int self_lock(const struct conf *c, struct err *e)
{
	static const struct {
		const char *name;
		int (*run)(const struct conf *, struct err *);
	} steps[] = {
		{"process", lock_process}, /* no_new_privs comes first: the others need it */
		{"files", lock_files},
		{"system calls", lock_calls}, /* last: it forbids the steps before it */
	};

	for (size_t i = 0; i < NELEM(steps); i++)
		if (steps[i].run(c, e) < 0)
			return err_in(e, "lock the worker, %s", steps[i].name);
	return 0;
}

int self_lock_directory(const char *path, struct err *e)
{
	if (lock_process(NULL, e) < 0 ||
		lock_into(path,
			FS_FILES | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE,
			e) < 0)
		return err_in(e, "lock the program");
	return 0;
}

int self_lock_broker(const char *readable, int port, struct err *e)
{
	static const struct rule more[] = {
		{CALL(openat2), T_ANY, 0, 0, "where a mount leads, as a path only"},
		{CALL(socket), T_EQUAL, 0, AF_UNIX, "the Engine"},
		{CALL(socket), T_EQUAL, 0, AF_INET, "the same, by TCP"},
		{CALL(socket), T_EQUAL, 0, AF_INET6, "the same"},
	};

	if (lock_process(NULL, e) < 0 ||
		lock_net_into(readable, LANDLOCK_ACCESS_FS_READ_FILE, port, e) < 0 ||
		lock_calls_and(more, port ? NELEM(more) : 2, e) < 0)
		return err_in(e, "lock the engine broker");
	return 0;
}

int self_lock_relay(struct err *e)
{
	if (lock_process(NULL, e) < 0 || lock_into(NULL, 0, e) < 0 || lock_calls(NULL, e) < 0)
		return err_in(e, "lock the relay");
	return 0;
}

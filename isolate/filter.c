#include "isolate/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "isolate/filter_args.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/*
 * Denied inside a sandbox. Everything here needs either a privilege that the sandbox has given
 * up (so the call is only attack surface) or reaches kernel state that is not namespaced.
 */
static const struct rule {
	const char *call;
	int errnum;
	const char *reason;
} denied[] = {
	/* namespaces and mounts: a nested user namespace would hand out every capability again */
	{"unshare", EPERM, "new namespaces"},
	{"setns", EPERM, "joining namespaces"},
	{"mount", EPERM, "mounts"},
	{"umount2", EPERM, "mounts"},
	{"pivot_root", EPERM, "mounts"},
	{"chroot", EPERM, "mounts"},
	{"open_tree", EPERM, "mounts"},
	{"move_mount", EPERM, "mounts"},
	{"fsopen", EPERM, "mounts"},
	{"fsconfig", EPERM, "mounts"},
	{"fsmount", EPERM, "mounts"},
	{"fspick", EPERM, "mounts"},
	{"mount_setattr", EPERM, "mounts"},
	{"name_to_handle_at", EPERM, "file handles pass by the mount tree"},
	{"open_by_handle_at", EPERM, "file handles pass by the mount tree"},
	/* kernel state shared by the whole machine */
	{"keyctl", EPERM, "keyrings are per uid, not per namespace"},
	{"add_key", EPERM, "keyrings are per uid, not per namespace"},
	{"request_key", EPERM, "runs a helper of the host"},
	{"bpf", EPERM, "programs in the kernel"},
	{"perf_event_open", EPERM, "sees other tasks, large surface"},
	{"userfaultfd", EPERM, "stops the kernel at a chosen point, a help to exploits"},
	{"io_uring_setup", EPERM, "calls that no filter sees"},
	{"io_uring_enter", EPERM, "calls that no filter sees"},
	{"io_uring_register", EPERM, "calls that no filter sees"},
	{"fanotify_init", EPERM, "watches beyond the sandbox"},
	{"lookup_dcookie", EPERM, "profiling of the host"},
	{"quotactl", EPERM, "the host's file systems"},
	{"quotactl_fd", EPERM, "the host's file systems"},
	{"acct", EPERM, "process accounting of the host"},
	{"swapon", EPERM, "the host's memory"},
	{"swapoff", EPERM, "the host's memory"},
	{"syslog", EPERM, "the kernel's log"},
	{"init_module", EPERM, "kernel modules"},
	{"finit_module", EPERM, "kernel modules"},
	{"delete_module", EPERM, "kernel modules"},
	{"create_module", EPERM, "kernel modules"},
	{"kexec_load", EPERM, "another kernel"},
	{"kexec_file_load", EPERM, "another kernel"},
	{"reboot", EPERM, "the machine"},
	{"settimeofday", EPERM, "the clock"},
	{"clock_settime", EPERM, "the clock"},
	{"clock_adjtime", EPERM, "the clock"},
	{"adjtimex", EPERM, "the clock"},
	{"sethostname", EPERM, "settled at start"},
	{"setdomainname", EPERM, "settled at start"},
	{"vhangup", EPERM, "terminals"},
	{"iopl", EPERM, "hardware ports"},
	{"ioperm", EPERM, "hardware ports"},
	/* what the limits on a whole sandbox could not follow */
	{"vmsplice", EPERM, "leaves memory in a pipe that no process has any more"},
	{"setxattr", EOPNOTSUPP, "of a file in memory: without bound, and counted by nobody"},
	{"fsetxattr", EOPNOTSUPP, "of a file in memory: without bound, and counted by nobody"},
	{"lsetxattr", EOPNOTSUPP, "lists of access of files in a tmpfs count as nothing, too"},
	{"landlock_create_ruleset", EOPNOTSUPP, "a descriptor holds megabytes of rules"},
	{"landlock_add_rule", EOPNOTSUPP, "a descriptor holds megabytes of rules"},
	{"landlock_restrict_self", EOPNOTSUPP, "a descriptor holds megabytes of rules"},
	{"io_setup", ENOSYS, "aio-max-nr is one number for the whole machine"},
	/* little used, repeatedly broken, or a help to exploits */
	{"modify_ldt", EPERM, "segment tables"},
	{"kcmp", EPERM, "compares kernel pointers"},
	{"memfd_secret", EPERM, "memory that no limit of ours sees"},
	{"mbind", EPERM, "memory placement"},
	{"set_mempolicy", EPERM, "memory placement"},
	{"set_mempolicy_home_node", EPERM, "memory placement"},
	{"get_mempolicy", EPERM, "memory placement"},
	{"migrate_pages", EPERM, "memory placement"},
	{"move_pages", EPERM, "memory placement"},
	{"process_madvise", EPERM, "memory of other processes"},
	{"uselib", EPERM, "obsolete"},
	{"ustat", EPERM, "obsolete"},
	{"sysfs", EPERM, "obsolete"},
	{"_sysctl", EPERM, "obsolete"},
	{"nfsservctl", EPERM, "obsolete"},
	{"query_module", EPERM, "obsolete"},
	{"get_kernel_syms", EPERM, "obsolete"},
	{"vserver", EPERM, "obsolete"},
};

/* What a tree helper may do: read, write, walk and name files, memory, time, its own end. */
/* clang-format off */
static const char *const jail_allowed[] = {
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "lseek",
	"open", "openat", "openat2", "close", "close_range", "dup", "dup2", "dup3", "fcntl",
	"flock", "ftruncate", "truncate", "fallocate", "fsync", "fdatasync", "sync_file_range",
	"fadvise64", "copy_file_range", "sendfile", "splice", "stat", "fstat", "lstat",
	"newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2",
	"readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "fchdir", "mkdir",
	"mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link",
	"linkat", "symlink", "symlinkat", "mknod", "mknodat", "chmod", "fchmod", "fchmodat",
	"utime", "utimes", "utimensat", "futimesat", "umask", "chown", "fchown", "lchown",
	"fchownat", "getxattr", "lgetxattr", "fgetxattr", "setxattr", "lsetxattr", "fsetxattr",
	"listxattr", "llistxattr", "flistxattr", "removexattr", "lremovexattr", "fremovexattr",
	"mmap", "munmap", "mremap", "mprotect", "madvise", "msync", "brk", "memfd_create",
	"futex", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "getpid",
	"gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid",
	"getgroups", "getrandom", "getrlimit", "prlimit64", "getrusage", "sysinfo", "uname",
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
	"times", "alarm", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait",
	"eventfd2",
	"sendmsg", "sendto", "recvmsg", "recvfrom", "shutdown", "rt_sigaction", "rt_sigprocmask",
	"rt_sigreturn", "rt_sigpending", "sigaltstack", "restart_syscall", "sched_yield",
	"sched_getaffinity", "tgkill", "exit", "exit_group", "prctl", "arch_prctl",
};
/* clang-format on */

/*
 * Calls that are younger than some libseccomp. From 424 on numbers are the same on every
 * architecture, so a rule for one of these does not depend on what the library knows.
 */
static const struct {
	const char *call;
	int nr;
} young[] = {
	{"io_uring_setup", 425},
	{"io_uring_enter", 426},
	{"io_uring_register", 427},
	{"open_tree", 428},
	{"move_mount", 429},
	{"fsopen", 430},
	{"fsconfig", 431},
	{"fsmount", 432},
	{"fspick", 433},

	{"close_range", 436},
	{"openat2", 437},
	{"faccessat2", 439},
	{"process_madvise", 440},
	{"mount_setattr", 442},
	{"quotactl_fd", 443},
	{"landlock_create_ruleset", 444},
	{"landlock_add_rule", 445},
	{"landlock_restrict_self", 446},
	{"memfd_secret", 447},
	{"set_mempolicy_home_node", 450},
};

/* The number of a call, below -1 when this architecture does without it. A name that libseccomp has
 * never heard of is an error: no rule may get lost in silence. */
static int call_number(const char *name, int *nr, struct err *e)
{
	*nr = seccomp_syscall_resolve_name(name);
	for (size_t i = 0; i < NELEM(young); i++)
		if (!strcmp(young[i].call, name))
			*nr = young[i].nr;
	return *nr == __NR_SCMP_ERROR
		       ? err_set(e, ERR_BUG, 0, "libseccomp knows no call \"%s\"", name)
		       : 0;
}

static int add_payload(scmp_filter_ctx ctx, bool core_handler, struct err *e)
{
	for (size_t i = 0; i < NELEM(denied); i++) {
		int nr, ret = call_number(denied[i].call, &nr, e);

		if (ret)
			return ret;
		if (nr < 0 || MUTATED_CALL(denied[i].call))
			continue;
		ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)denied[i].errnum), nr, 0);
		if (ret)
			return ret;
	}
	return filter_arguments(ctx, core_handler);
}

/* Threads of its own a helper may have, and no other process. clone3's flags lie out of sight;
 * ENOSYS sends libc to clone. */
static int add_jail_threads(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp thread = {
		0, SCMP_CMP_MASKED_EQ, CLONE_VM | CLONE_THREAD, CLONE_VM | CLONE_THREAD};
	int ret = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &thread);

	return ret ? ret : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int add_jail(scmp_filter_ctx ctx, struct err *e)
{
	for (size_t i = 0; i < NELEM(jail_allowed); i++) {
		int nr, ret = call_number(jail_allowed[i], &nr, e);

		if (!ret && nr >= 0)
			ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);

		if (ret)
			return ret;
	}
	return add_jail_threads(ctx);
}

/*
 * Calls newer than this table was written for answer ENOSYS, as on a kernel that lacks them,
 * so a new system call is closed until somebody has thought about it.
 */
enum { NEWEST_KNOWN_CALL = 462 /* mseal, Linux 6.10 */, PROLOGUE = 8, PROLOGUE_CLONE3 = 6 };

static int read_program(scmp_filter_ctx ctx, bool prologue, struct filter *out, struct err *e)
{
	/* Numbers mean nothing before the architecture is known to be ours. */
	const struct sock_filter newest[PROLOGUE] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, seccomp_arch_native(), 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NEWEST_KNOWN_CALL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		/* its flags lie in memory, out of a filter's sight; libc falls back to clone */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};
	size_t head = prologue && !MUTATED("newest-calls") ? PROLOGUE : 0, n;
	OWN_FD fd = memfd_create("filter", MFD_CLOEXEC);
	struct stat st;

	if (fd < 0 || seccomp_export_bpf(ctx, fd) || fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "export the seccomp filter");
	n = (size_t)st.st_size / sizeof *out->ins + head;
	if (n > BPF_MAXINSNS)
		return err_set(e, ERR_BUG, 0, "seccomp filter of %zu instructions", n);
	out->ins = calloc(n, sizeof *out->ins);
	if (!out->ins)
		return err_set(e, ERR_SETUP, ENOMEM, "seccomp filter");
	memcpy(out->ins, newest, head * sizeof *out->ins);
	if (pread(fd, out->ins + head, (size_t)st.st_size, 0) != st.st_size) {
		filter_free(out);
		return err_set(e, ERR_SETUP, errno, "read the seccomp filter back");
	}
	out->len = (unsigned short)n;
	out->clone3 = prologue ? PROLOGUE_CLONE3 : 0;
	out->calls = (unsigned short)head;
	return 0;
}

/* Any process may fail at these; in a sandbox of one uid nothing depends on their success. */
static const char *const faked[] = {"chown", "fchown", "lchown", "fchownat", "setuid", "setgid",
	"setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
	"capset"};

enum {
	FAKED = NELEM(faked),
	FAKE_MODE1 = FAKED + 3, /* where the mode is the second argument, */
	FAKE_MODE2 = FAKED + 5, /* and where the third */
	FAKE_KIND = FAKED + 6,
	FAKE_OVER = FAKED + 9, /* to the first program */
	FAKE_RET = FAKED + 10,
	FAKE_LEN = FAKED + 11,
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half of an argument is first");

/* The jump from one instruction of the block to another. */
#define TO(from, to) (uint8_t)((to) - (from)-1)

/*
 * The block of filter_emulate_root(). It begins with the number of the call loaded; a call that this
 * architecture lacks has one over NEWEST_KNOWN_CALL and is never compared. Of a mode the kernel takes
 * 16 bits.
 */
static int fake_calls(struct sock_filter b[FAKE_LEN], struct err *e)
{
	const struct sock_filter tail[FAKE_LEN - FAKED] = {
		{BPF_JMP | BPF_JEQ | BPF_K, TO(FAKED, FAKE_MODE1), 0, 0},
		{BPF_JMP | BPF_JEQ | BPF_K, TO(FAKED + 1, FAKE_MODE2), 0, 0},
		BPF_STMT(BPF_JMP | BPF_JA, FAKE_LEN - (FAKED + 2) - 1),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_STMT(BPF_JMP | BPF_JA, TO(FAKED + 4, FAKE_KIND)),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, S_IFMT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, S_IFCHR, TO(FAKED + 7, FAKE_RET), 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, S_IFBLK, TO(FAKED + 8, FAKE_RET), 0),
		BPF_STMT(BPF_JMP | BPF_JA, TO(FAKE_OVER, FAKE_LEN)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
	};
	int nr;

	for (int i = 0; i < FAKED; i++) {
		if (call_number(faked[i], &nr, e) < 0)
			return -1;
		b[i] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, TO(i, FAKE_RET), 0);
	}
	memcpy(b + FAKED, tail, sizeof tail);
	if (call_number("mknod", &nr, e) < 0)
		return -1;
	b[FAKED].k = (uint32_t)nr;
	if (call_number("mknodat", &nr, e) < 0)
		return -1;
	b[FAKED + 1].k = (uint32_t)nr;
	return 0;
}

int filter_emulate_root(const struct filter *payload, struct filter *out, struct err *e)
{
	struct sock_filter block[FAKE_LEN];
	size_t head = payload->calls, added = head ? FAKE_LEN : 0, n = payload->len + added;

	memset(out, 0, sizeof *out);
	if (payload->len <= head || n > BPF_MAXINSNS)
		return err_set(e, ERR_BUG, 0, "seccomp filter of %zu instructions", n);
	if (fake_calls(block, e) < 0)
		return err_in(e, "seccomp filter");
	out->ins = calloc(n, sizeof *out->ins);
	if (!out->ins)
		return err_set(e, ERR_SETUP, ENOMEM, "seccomp filter");
	memcpy(out->ins, payload->ins, head * sizeof *out->ins);
	memcpy(out->ins + head, block, added * sizeof *out->ins);
	memcpy(out->ins + head + added, payload->ins + head,
		(payload->len - head) * sizeof *out->ins);
	out->len = (unsigned short)n;
	out->clone3 = payload->clone3; /* it lies before */
	out->calls = payload->calls;
	return 0;
}

static int build(bool payload, bool core_handler, struct filter *out, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(payload ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM));
	int ret;

	memset(out, 0, sizeof *out);
	e->kind = ERR_NONE;
	if (!ctx)
		return err_set(e, ERR_SETUP, ENOMEM, "seccomp filter");
	/* A foreign architecture (int 0x80 on x86-64) would slip past the call numbers. */
	ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH,
		MUTATE("foreign-arch", SCMP_ACT_KILL_PROCESS, SCMP_ACT_ALLOW));
	if (!ret)
		ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
	if (!ret)
		ret = payload ? add_payload(ctx, core_handler, e) : add_jail(ctx, e);
	if (ret && e->kind == ERR_NONE)
		err_set(e, ERR_SETUP, -ret, "build the seccomp filter");
	else if (ret)
		err_in(e, "seccomp filter");
	else
		ret = read_program(ctx, payload, out, e);
	seccomp_release(ctx);
	return ret ? -1 : 0;
}

int filter_build(enum filter_kind kind, struct filter *out, struct err *e)
{
	return kind == FILTER_PAYLOAD ? filter_build_payload(filter_core_handler(), out, e)
				      : build(false, false, out, e);
}

int filter_build_whole(bool core_handler, struct filter *out, struct err *e)
{
	return build(true, core_handler, out, e);
}

int filter_build_payload(bool core_handler, struct filter *out, struct err *e)
{
	struct filter whole;
	int ret = filter_build_whole(core_handler, &whole, e);

	if (ret < 0 || !whole.calls) {
		*out = whole;
		return ret;
	}
	ret = filter_shrink(&whole, seccomp_arch_native(), NEWEST_KNOWN_CALL + 1, out, e);
	filter_free(&whole);
	if (ret < 0)
		filter_free(out);
	return ret;
}

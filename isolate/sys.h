/*
 * Every raw system call the project makes that some libc lacks, one inline each, with the
 * constants it needs. Numbers are kernel ABI: what this kernel lacks is found at run time as
 * ENOSYS, never at build time. Used by glibc programs and by those built with musl.
 */
#ifndef CGIBOX_SYS_H
#define CGIBOX_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_open_tree
#define SYS_open_tree  428
#define SYS_move_mount 429
#define SYS_fsopen     430
#define SYS_fsconfig   431
#define SYS_fsmount    432
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

#define SYS_CLONE_INTO_CGROUP (1ULL << 33) /* Linux 5.7 */

/* clone3(2), as of 5.7 */
struct sys_clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal;
	uint64_t stack, stack_size; /* the lowest byte, and how many */
	uint64_t tls, set_tid, set_tid_size;
	uint64_t cgroup; /* a descriptor */
};

/*
 * clone3(2) for a child with a stack of its own, which calls fn(arg); fn must not return. No libc
 * wraps this call. Returns the pid, or -errno; -ENOSYS where nobody wrote the few instructions.
 */
static inline long sys_clone3(struct sys_clone_args *a, int (*fn)(void *), void *arg)
{
#ifdef __x86_64__
	long ret;

	/* The child starts on its new stack with the parent's registers. */
	__asm__ volatile(
		"syscall\n\t"
		"test %%rax, %%rax\n\t"
		"jnz 1f\n\t"
		"xor %%ebp, %%ebp\n\t"
		"mov %[arg], %%rdi\n\t"
		"call *%[fn]\n\t"
		"hlt\n"
		"1:"
		: "=a"(ret)
		: "0"((long)SYS_clone3), "D"(a), "S"(sizeof *a), [fn] "r"(fn), [arg] "r"(arg)
		: "rcx", "r11", "memory");
	return ret;
#else
	(void)a, (void)fn, (void)arg;
	return -ENOSYS;
#endif
}

/* Landlock's newest attribute struct; the kernel accepts any prefix whose size it is told. */
struct sys_landlock_ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped;             /* ABI 6 */
};
#define SYS_LANDLOCK_SCOPE_ABSTRACT_UNIX (1ULL << 0)
#define SYS_LANDLOCK_SCOPE_SIGNAL        (1ULL << 1)

static inline int sys_openat2(
	int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static inline int sys_open_tree(int dir, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dir, path, flags);
}

static inline int sys_move_mount(
	int from, const char *fpath, int to, const char *tpath, unsigned flags)
{
	return (int)syscall(SYS_move_mount, from, fpath, to, tpath, flags);
}

static inline int sys_fsopen(const char *type, unsigned flags)
{
	return (int)syscall(SYS_fsopen, type, flags);
}

static inline int sys_fsconfig(int fs, unsigned cmd, const char *key, const void *value, int aux)
{
	return (int)syscall(SYS_fsconfig, fs, cmd, key, value, aux);
}

static inline int sys_fsmount(int fs, unsigned flags, unsigned attr)
{
	return (int)syscall(SYS_fsmount, fs, flags, attr);
}

static inline int sys_mount_setattr(
	int dir, const char *path, unsigned flags, struct mount_attr *attr)
{
	return (int)syscall(SYS_mount_setattr, dir, path, flags, attr, sizeof *attr);
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
	return (int)syscall(SYS_pivot_root, new_root, put_old);
}

static inline int sys_pidfd_open(pid_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

static inline int sys_pidfd_send_signal(int pidfd, int sig)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}

static inline int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

static inline int sys_execveat(
	int dir, const char *path, char *const argv[], char *const env[], int flags)
{
	return (int)syscall(SYS_execveat, dir, path, argv, env, flags);
}

struct statx; /* <linux/stat.h> */

static inline int sys_statx(int dir, const char *path, int flags, unsigned mask, struct statx *out)
{
	return (int)syscall(SYS_statx, dir, path, flags, mask, out);
}

static inline int sys_landlock_create(
	const struct sys_landlock_ruleset *r, size_t size, uint32_t flags)
{
	return (int)syscall(SYS_landlock_create_ruleset, r, size, flags);
}

static inline int sys_landlock_add_path(int ruleset, const struct landlock_path_beneath_attr *p)
{
	return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, p, 0);
}

static inline int sys_landlock_restrict(int ruleset)
{
	return (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
}

#endif

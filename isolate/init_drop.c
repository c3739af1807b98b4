/* Giving every right away, in the only order that works. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "isolate/creds.h"
#include "isolate/init.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/*
 * Landlock (landlock(7)): no device node can be made, nothing can be mounted (the kernel refuses
 * that to every Landlocked task), and from ABI 6 on no signal and no abstract socket crosses
 * the sandbox. Every ruleset forbids renames between directories unless it allows REFER, which
 * ABI 1 cannot: without it, as without Landlock, we lose a second line of defence, not the first.
 */
static int restrict_landlock(struct err *e)
{
	struct sys_landlock_ruleset r = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
				     LANDLOCK_ACCESS_FS_REFER,
	};
	struct landlock_path_beneath_attr root = {.allowed_access = LANDLOCK_ACCESS_FS_REFER};
	int abi = sys_landlock_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	OWN_FD set = -1, dir = -1;

	if (abi < 2 || MUTATED("landlock"))
		return 0;
	if (abi >= 6)
		r.scoped = SYS_LANDLOCK_SCOPE_ABSTRACT_UNIX | SYS_LANDLOCK_SCOPE_SIGNAL;
	set = sys_landlock_create(&r, abi >= 6 ? sizeof r : sizeof r.handled_access_fs, 0);
	dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	root.parent_fd = dir;
	if (set < 0 || dir < 0 || sys_landlock_add_path(set, &root) < 0 ||
		(!MUTATED("no-new-privs") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) ||
		sys_landlock_restrict(set) < 0)
		return err_set(e, ERR_SETUP, errno, "enter Landlock");
	return 0;
}

/*
 * 1 byte, which the filter keeps where it matters. 0 would do for core files, but not where
 * kernel.core_pattern names a program: that runs as root on the host whatever the limit is,
 * unless it is exactly 1, the mark by which the kernel keeps such programs from being called for
 * themselves (core(5), fs/coredump.c). For a file 1 is as good as 0: an ELF core has a page at
 * least. Where the service was started with a hard limit of 0 it stays that.
 */
static int limit_core(struct err *e)
{
	struct rlimit r = {1, 1}, old;

	if (MUTATED("RLIMIT_CORE"))
		return 0;
	if (getrlimit(RLIMIT_CORE, &old) == 0 && old.rlim_max < 1)
		r.rlim_cur = r.rlim_max = 0;
	if (setrlimit(RLIMIT_CORE, &r) < 0)
		return err_set(e, ERR_SETUP, errno, "set RLIMIT_CORE");
	return 0;
}

static int load_filter(const struct plan *p, struct err *e)
{
	struct sock_fprog prog = {
		.len = (unsigned short)p->nfilter,
		.filter = (struct sock_filter *)(uintptr_t)((const char *)p + p->filter),
	};

	if (!MUTATED("seccomp") && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return err_set(e, ERR_SETUP, errno, "load the seccomp filter");
	return 0;
}

int init_drop_rights(const struct plan *p, struct err *e)
{
	if (restrict_landlock(e) < 0 || (p->container ? creds_none(e) : creds_settle(0, e)) < 0)
		return -1;
	if (!MUTATED("no-new-privs") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "set no_new_privs");
	/* The exec made us dumpable again, and with that open to ptrace by the tenant's uid. */
	if (!MUTATED("dumpable") && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "become non-dumpable");
	return limit_core(e) < 0 ? -1 : load_filter(p, e);
}

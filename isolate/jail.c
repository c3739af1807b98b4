#include "isolate/jail.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "isolate/creds.h"
#include "isolate/filter.h"
#include "isolate/idmap.h"
#include "isolate/jail_view.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/* Closes everything but 0..2 and the kept ones: the gaps between them, in rising order. */
static int close_others(const int *keep, unsigned nkeep, struct err *e)
{
	unsigned from = 3;

	for (;;) {
		unsigned next = UINT_MAX;

		for (unsigned i = 0; i < nkeep; i++)
			if (keep[i] >= (int)from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		if (next > from && sys_close_range(from, next == UINT_MAX ? next : next - 1, 0) < 0)
			return err_set(e, ERR_SETUP, errno, "close descriptors");
		if (next == UINT_MAX)
			return 0;
		from = next + 1;
	}
}

__attribute__((unused)) /* with the sanitizers */
static uint64_t
mapped_bytes(void)
{
	OWN_FILE f = fopen("/proc/self/statm", "re");
	unsigned long long pages = 0;

	if (!f || fscanf(f, "%llu", &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int set_limit(int what, uint64_t value, const char *name, struct err *e)
{
	struct rlimit r = {value, value}, old;

	if (getrlimit(what, &old) == 0 && old.rlim_max < value)
		r.rlim_cur = r.rlim_max = old.rlim_max;
	if (setrlimit(what, &r) < 0)
		return err_set(e, ERR_SETUP, errno, "set %s", name);
	return 0;
}

static int apply_limits(const struct jail_limits *l, struct err *e)
{
	if (set_limit(RLIMIT_CORE, 0, "RLIMIT_CORE", e) < 0)
		return -1;
#ifndef __SANITIZE_ADDRESS__ /* which reserves terabytes of shadow memory */
	if (l->address_space_bytes &&
		set_limit(RLIMIT_AS, mapped_bytes() + l->address_space_bytes, "RLIMIT_AS", e) < 0)
		return -1;
#endif
	if (l->file_max_bytes && set_limit(RLIMIT_FSIZE, l->file_max_bytes, "RLIMIT_FSIZE", e) < 0)
		return -1;
	if (l->time_max_s)
		alarm(l->time_max_s);
	return 0;
}

static int enter_root(int rootfd, struct err *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER) < 0)
		return err_set(e, ERR_SETUP, errno, "unshare the user namespace");
	if (idmap_write(0, 0, uid, gid, e) < 0)
		return -1;
	if (fchdir(rootfd) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return err_set(e, ERR_SETUP, errno, "enter the jail's root");
	return 0;
}

/* Not both: a directory, or a view. */
static int enter(int rootfd, const struct jail_view *view, const int *keep, unsigned nkeep,
	const struct jail_limits *limits, struct err *e)
{
	const uint64_t caps = 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_DAC_READ_SEARCH |
			      1ULL << CAP_FOWNER;
	struct filter filter = {0};
	int ret;

	umask(0);
	if (filter_jail(&filter, e) < 0)
		return -1;
	ret = apply_limits(limits, e);
	if (ret == 0)
		ret = view ? jail_view_mount(view, e) : enter_root(rootfd, e);
	if (ret == 0)
		ret = close_others(keep, nkeep, e); /* no directory outside the root stays open */
	if (ret == 0)
		ret = creds_keep(caps, e);
	if (ret == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		ret = err_set(e, ERR_SETUP, errno, "become non-dumpable");
	if (ret == 0)
		ret = filter_load(&filter, e);
	filter_free(&filter);
	return ret < 0 ? err_in(e, "tree helper") : 0;
}

int jail_enter(int rootfd, const int *keep, unsigned nkeep, const struct jail_limits *limits,
	struct err *e)
{
	return enter(rootfd, NULL, keep, nkeep, limits, e);
}

int jail_enter_view(const struct jail_view *view, const int *keep, unsigned nkeep,
	const struct jail_limits *limits, struct err *e)
{
	return enter(-1, view, keep, nkeep, limits, e);
}

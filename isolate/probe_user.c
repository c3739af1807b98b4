/* What the caller is and may: ids, limits, control groups. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "isolate/cgroup.h"
#include "isolate/files.h"
#include "isolate/own.h"
#include "isolate/probe_facts.h"

enum { GROUPS_MAX = 1024 };

void probe_user(const struct probe_env *env, struct fact *f)
{
	(void)env;
	if (geteuid() != 0) {
		probe_say(f, PROBE_OK, "uid %u, gid %u", geteuid(), getegid());
		return;
	}
	probe_say(f, PROBE_WEAKER,
		"root: the user of a sandbox is root outside; a hole in the kernel or a wrong bind "
		"is "
		"the whole machine");
	probe_fix(f, "setpriv --reuid cgibox --regid cgibox --clear-groups cgibox doctor");
}

void probe_groups(const struct probe_env *env, struct fact *f)
{
	gid_t list[GROUPS_MAX];
	int n = getgroups(GROUPS_MAX, list), others = 0;
	char text[200] = "";

	(void)env;
	for (int i = 0; i < n; i++) {
		size_t len = strlen(text);

		if (list[i] == getegid())
			continue;
		others++;
		snprintf(text + len, sizeof text - len, " %u", list[i]);
	}
	if (n >= 0 && !others) {
		probe_say(f, PROBE_OK, "no supplementary groups");
		return;
	}
	probe_say(f, PROBE_WEAKER,
		"supplementary groups cannot be dropped without privilege: sandboxes keep the "
		"rights of"
		"%s on what they are shown",
		n < 0 ? " all" : text);
	probe_fix(f, "setpriv --reuid %u --regid %u --clear-groups cgibox doctor (as root)",
		geteuid(), getegid());
}

void probe_open_files(const struct probe_env *env, struct fact *f)
{
	struct rlimit r = {0, 0};
	long long want = env->conf->files_open_max;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_max < FILES_LEAST) {
		probe_say(f, PROBE_BLOCKED, "a hard limit of %llu open files; %d are needed",
			(unsigned long long)r.rlim_max, FILES_LEAST);
	} else if (files_of_tenant((uint64_t)want, r.rlim_max) < (uint64_t)want) {
		probe_say(f, PROBE_WEAKER,
			"sandboxes get %llu open files, not files_open_max = %lld",
			(unsigned long long)files_of_tenant((uint64_t)want, r.rlim_max), want);
	} else {
		probe_say(f, PROBE_OK, "hard limit %llu", (unsigned long long)r.rlim_max);
		return;
	}
	probe_fix(f, "LimitNOFILE=%lld in the unit, or ulimit -n %lld before the start",
		want + FILES_RESERVED, want + FILES_RESERVED);
}

/* A group can be made below dir, and removed. */
static bool try_group(const char *dir)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof path, "%s/doctor-%d", dir, (int)getpid());
	return mkdir(path, 0700) == 0 && rmdir(path) == 0;
}

/* What cgroup_open() needs: without it sandboxes run, but for a path in sandbox.conf. */
void probe_cgroup(const struct probe_env *env, struct fact *f)
{
	const bool named = *env->conf->cgroup == '/';
	struct cgroup g;
	struct err e = {0};
	char names[32], why[256];
	unsigned lacks;

	if (cgroup_find(env->conf->cgroup, &g, &e) < 0 || !try_group(g.path)) {
		if (e.kind == ERR_NONE)
			err_set(&e, ERR_SETUP, errno, "make a group in %.150s", g.path);
		probe_say(f, named ? PROBE_BLOCKED : PROBE_WEAKER,
			"%s: memory of a whole sandbox is only watched, processors and disk "
			"traffic are not limited",
			err_text(&e, why, sizeof why));
		probe_fix(f, "%s",
			named  ? "cgroup = auto in sandbox.conf, or hand that group to this user"
			: g.v1 ? "boot with systemd.unified_cgroup_hierarchy=1"
			       : "Delegate=yes in the unit, or systemd-run --user --scope -p "
				 "Delegate=yes");
		return;
	}
	lacks = (CGROUP_CPU | CGROUP_IO) & ~g.have;
	if (!lacks) {
		probe_say(f, PROBE_OK, "v2, delegated: %s", cgroup_names(g.have, names));
		return;
	}
	probe_say(f, PROBE_WEAKER, "v2, delegated without %s:%s%s memory and processes are",
		cgroup_names(lacks, names),
		lacks & CGROUP_CPU ? " cpus and cpu_max_percent are not held;" : "",
		lacks & CGROUP_IO ? " io_max_bytes_per_s is not held;" : "");
	probe_fix(f, "Delegate=yes in the unit; for users: Delegate=cpu cpuset io memory pids in "
		     "user@.service");
}

/* What the caller is and may: ids, limits, control groups. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "isolate/own.h"
#include "isolate/probe_facts.h"

enum { FILES_LEAST = 256, GROUPS_MAX = 1024, CGROUP_LINE = 4096 };

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
	} else if (r.rlim_max < (rlim_t)want) {
		probe_say(f, PROBE_WEAKER,
			"sandboxes get %llu open files, not files_open_max = %lld",
			(unsigned long long)r.rlim_max, want);
	} else {
		probe_say(f, PROBE_OK, "hard limit %llu", (unsigned long long)r.rlim_max);
		return;
	}
	probe_fix(f, "LimitNOFILE=%lld in the unit, or ulimit -n %lld before the start",
		want < 4096 ? 4096 : want, want < 4096 ? 4096 : want);
}

/* The mount point of the control groups v2; notes whether there are any of v1. */
static bool find_cgroup2(char *at, size_t size, bool *v1)
{
	OWN_FILE m = fopen("/proc/self/mountinfo", "re");
	char line[CGROUP_LINE], dir[1024], type[64];
	bool found = false;

	*v1 = false;
	while (m && fgets(line, sizeof line, m)) {
		char *rest = strstr(line, " - ");

		if (!rest || sscanf(line, "%*s %*s %*s %*s %1023s", dir) != 1 ||
			sscanf(rest, " - %63s", type) != 1)
			continue;
		*v1 = *v1 || !strcmp(type, "cgroup");
		if (!strcmp(type, "cgroup2") && !found)
			found = snprintf(at, size, "%s", dir) < (int)size;
	}
	return found;
}

/* Our own group of v2: the line "0::/path". */
static bool own_cgroup2(char *path, size_t size)
{
	OWN_FILE g = fopen("/proc/self/cgroup", "re");
	char line[CGROUP_LINE];

	while (g && fgets(line, sizeof line, g)) {
		if (strncmp(line, "0::/", 4))
			continue;
		line[strcspn(line, "\n")] = '\0';
		return snprintf(path, size, "%s", line + 3) < (int)size &&
		       strncmp(path, "/..", 3) != 0;
	}
	return false;
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == '\0' || p[n] == ' '))
			return true;
	return false;
}

/* Delegated is what lets us make a group below our own, and move into it. */
static bool try_cgroup(const char *dir)
{
	char path[CGROUP_LINE * 2 + 64];
	bool good;

	snprintf(path, sizeof path, "%s/cgroup.procs", dir);
	if (access(path, W_OK) < 0)
		return false;
	snprintf(path, sizeof path, "%s/cgibox-doctor-%d", dir, (int)getpid());
	good = mkdir(path, 0700) == 0;
	if (good)
		rmdir(path);
	return good;
}

static void say_controllers(const char *dir, bool v1, struct fact *f)
{
	static const char *const wanted[] = {"memory", "pids", "cpu", "io"};
	char path[CGROUP_LINE * 2 + 64], have[400] = "", lacks[100] = "";

	snprintf(path, sizeof path, "%s/cgroup.controllers", dir);
	probe_read(path, have, sizeof have);
	for (size_t i = 0; i < NELEM(wanted); i++) {
		size_t n = strlen(lacks);

		if (!has_word(have, wanted[i]))
			snprintf(lacks + n, sizeof lacks - n, " %s", wanted[i]);
	}
	if (!*lacks) {
		probe_say(f, PROBE_OK, "v2, delegated: %s", have);
		return;
	}
	probe_say(f, PROBE_WEAKER, "v2%s, delegated without%s: these are not limited in sum",
		v1 ? " beside v1" : "", lacks);
	probe_fix(f, "%s",
		v1 ? "boot with systemd.unified_cgroup_hierarchy=1"
		   : "Delegate=yes in the unit, or systemd-run --user --scope -p Delegate=yes");
}

void probe_cgroup(const struct probe_env *env, struct fact *f)
{
	static const char lost[] =
		"the sum of memory and the share of the processors are not limited";
	char at[1024], own[CGROUP_LINE], dir[CGROUP_LINE * 2];
	bool v1, v2 = find_cgroup2(at, sizeof at, &v1);

	(void)env;
	if (!v2) {
		probe_say(f, PROBE_WEAKER, "%s: %s",
			v1 ? "v1 only, which is not supported" : "no control groups", lost);
		probe_fix(f, "boot with systemd.unified_cgroup_hierarchy=1");
		return;
	}
	if (own_cgroup2(own, sizeof own)) {
		snprintf(dir, sizeof dir, "%s%s", at, own);
		if (try_cgroup(dir)) {
			say_controllers(dir, v1, f);
			return;
		}
	}
	probe_say(f, PROBE_WEAKER, "%s, not delegated to us: %s",
		v1 ? "v1 and v2 side by side" : "v2", lost);
	probe_fix(f, "Delegate=yes in the unit, or systemd-run --user --scope -p Delegate=yes");
}

/* Settings of the host that change what a limit or a crash means. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "isolate/own.h"
#include "isolate/probe_facts.h"

/* The limit pid 1 sets is 1 (init_drop.c), which no program named by the pattern is called for. */
void probe_core_pattern(const struct probe_env *env, struct fact *f)
{
	char pattern[256];
	struct rlimit r = {0, 0};

	(void)env;
	if (!probe_read("/proc/sys/kernel/core_pattern", pattern, sizeof pattern)) {
		probe_say(f, PROBE_WEAKER,
			"kernel.core_pattern cannot be read: %s: crashes in "
			"sandboxes may reach a handler of the host",
			strerror(errno));
		probe_fix(f, "a /proc that shows /proc/sys/kernel/core_pattern");
	} else if (*pattern == '@') {
		probe_say(f, PROBE_WEAKER,
			"\"%.100s\": crashes in sandboxes reach the handler that "
			"listens there, whatever their core limit is",
			pattern);
		probe_fix(f, "sysctl -w kernel.core_pattern=core");
	} else if (*pattern != '|') {
		probe_say(f, PROBE_OK, "a file, which sandboxes do not get");
	} else if (getrlimit(RLIMIT_CORE, &r) == 0 && r.rlim_max == 0) {
		/* 0 does not keep the kernel from starting the program; 1 would, and is out of reach */
		probe_say(f, PROBE_WEAKER,
			"\"%.100s\", and our hard core limit is 0: crashes in "
			"sandboxes start that program, as root",
			pattern);
		probe_fix(f, "LimitCORE=1 in the unit, or prlimit --core=1:1 (as root), "
			     "or sysctl -w kernel.core_pattern=core");
	} else {
		probe_say(f, PROBE_OK, "a program, which crashes in sandboxes do not start");
	}
}

/* Nothing of ours goes by a path that strangers can write to; other programs here do. */
void probe_links(const struct probe_env *env, struct fact *f)
{
	static const char *const names[] = {"symlinks", "hardlinks", "fifos", "regular"};
	char off[100] = "", fix[200] = "";

	(void)env;
	for (size_t i = 0; i < NELEM(names); i++) {
		char path[64], value[16];
		size_t n = strlen(off), m = strlen(fix);

		snprintf(path, sizeof path, "/proc/sys/fs/protected_%s", names[i]);
		if (probe_read(path, value, sizeof value) && strcmp(value, "0") != 0)
			continue;
		snprintf(off + n, sizeof off - n, "%s%s", n ? ", " : "", names[i]);
		snprintf(fix + m, sizeof fix - m, " fs.protected_%s=1", names[i]);
	}
	if (!*off) {
		probe_say(f, PROBE_OK, "fs.protected_symlinks, hardlinks, fifos, regular are on");
		return;
	}
	probe_say(f, PROBE_WEAKER,
		"fs.protected_* is off for %s: a sandbox that got out could "
		"plant links in /tmp for other programs of this machine",
		off);
	probe_fix(f, "sysctl -w%s", fix);
}

/* Hard limits of the service that sandboxes inherit, or share: the lower one counts. */
void probe_rlimits(const struct probe_env *env, struct fact *f)
{
	const struct conf *c = env->conf;
	const struct {
		int what;
		const char *name, *unit, *key;
		int64_t want;
	} all[] = {
		/* of all sandboxes together: it is counted at the namespace's maker, too */
		{RLIMIT_NPROC, "nproc", "LimitNPROC", "processes_max", c->processes_max},
		{RLIMIT_FSIZE, "fsize", "LimitFSIZE", "file_max_bytes", c->file_max_bytes},
		{RLIMIT_DATA, "data", "LimitDATA", "memory_process_max_bytes",
			c->memory_process_max_bytes},
		{RLIMIT_AS, "as", "LimitAS", "address_space_max_bytes", c->address_space_max_bytes},
		{RLIMIT_CPU, "cpu", "LimitCPU", "cpu_time_max_s", c->cpu_time_max_s},
	};
	char low[300] = "", fix[200] = "";

	for (size_t i = 0; i < NELEM(all); i++) {
		struct rlimit r = {0, 0};
		size_t n = strlen(low), m = strlen(fix);

		if (getrlimit(all[i].what, &r) < 0 || r.rlim_max == RLIM_INFINITY ||
			(all[i].want && r.rlim_max >= (rlim_t)all[i].want))
			continue;
		snprintf(low + n, sizeof low - n, "%s%s is %llu, %s = %lld", n ? "; " : "",
			all[i].name, (unsigned long long)r.rlim_max, all[i].key,
			(long long)all[i].want);
		snprintf(fix + m, sizeof fix - m, "%s=infinity ", all[i].unit);
	}
	if (!*low) {
		probe_say(f, PROBE_OK, "no hard limit of ours is under those of sandbox.conf");
		return;
	}
	probe_say(f, PROBE_WEAKER, "our own hard limits are lower than sandbox.conf's: %s", low);
	probe_fix(f, "%sin the unit, or prlimit of the same before the start", fix);
}

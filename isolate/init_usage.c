/* What a run cost and which limit of the sandbox it met, from the files of its control group. */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "isolate/cgfile.h"
#include "isolate/init.h"

enum { TEXT_MAX = 4096 };

/* The value of key in an open file; 0 when there is none. */
static uint64_t value_of(int fd, const char *key)
{
	char text[TEXT_MAX];
	uint64_t v = 0;

	if (cgfile_pread(fd, text, sizeof text))
		(void)(*key ? cgfile_key(text, key, &v) : cgfile_number(text, &v));
	return v;
}

bool init_usage_read(struct init_usage *u)
{
	char text[TEXT_MAX];

	*u = (struct init_usage){0};
	if (!cgfile_pread(PLAN_FD_MEMORY_EVENTS, text, sizeof text) ||
		!cgfile_key(text, "oom_kill", &u->oom_kills))
		return false;
	u->pids_denied = value_of(PLAN_FD_PIDS_EVENTS, "max");
	if (cgfile_pread(PLAN_FD_CPU_STAT, text, sizeof text)) {
		if (cgfile_number(text, &u->cpu_us)) /* cpuacct.usage of version 1: nanoseconds */
			u->cpu_us /= 1000;
		(void)cgfile_key(text, "usage_usec", &u->cpu_us);
		(void)cgfile_key(text, "throttled_usec", &u->throttled_us);
	}
	return true;
}

/* Numbers are given in order, and begin again after the largest. */
uint32_t init_usage_processes(int first)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_RDONLY | O_CLOEXEC);
	char text[TEXT_MAX];
	uint64_t last = 0;
	bool known = cgfile_pread(fd, text, sizeof text) && cgfile_number(text, &last);

	if (fd >= 0)
		close(fd);
	return !known || first <= 0 || last < (uint64_t)first
		       ? 0
		       : (uint32_t)(last - (uint64_t)first) + 1;
}

uint64_t init_usage_cpu_us(int pid)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
		return 0;
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* The clock does not tell user from system time: taken off both as they are to each other. */
void init_usage_since(uint64_t before, struct result *r)
{
	uint64_t all = r->user_us + r->system_us;
	double part;

	if (!before || !all)
		return;
	part = before < all ? (double)(all - before) / (double)all : 0;
	r->user_us = (uint64_t)((double)r->user_us * part);
	r->system_us = (uint64_t)((double)r->system_us * part);
}

static uint32_t clamp32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

void init_usage_tell(const struct init_usage *start, struct result *r)
{
	struct init_usage now;
	bool badly = r->verdict == VERDICT_EXIT || r->verdict == VERDICT_SIGNAL;

	if (!init_usage_read(&now))
		return;
	r->in_cgroup = 1;
	r->oom_kills = clamp32(now.oom_kills - start->oom_kills);
	r->pids_denied = clamp32(now.pids_denied - start->pids_denied);
	r->cpu_us = now.cpu_us - start->cpu_us;
	r->throttled_us = now.throttled_us - start->throttled_us;
	r->pids_peak = clamp32(value_of(PLAN_FD_PIDS_PEAK, ""));
	r->memory_peak_bytes = value_of(PLAN_FD_MEMORY_PEAK, "");
	if (badly && r->oom_kills)
		r->verdict = VERDICT_MEMORY;
	else if (badly && r->pids_denied)
		r->verdict = VERDICT_PIDS;
}

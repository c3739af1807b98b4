#include "fcgi/receipt.h"

#include <math.h>
#include <string.h>

#include "fcgi/limits.h"
#include "isolate/own.h"

static void put(struct buf *b, const char *name, uint64_t value)
{
	buf_addf(b, ",\"%s\":%llu", name, (unsigned long long)value);
}

void receipt_usage(struct buf *b, const struct result *r)
{
	buf_addf(b, "{\"wall_ms\":%llu", (unsigned long long)(r->wall_us / 1000));
	put(b, "user_ms", r->user_us / 1000);
	put(b, "system_ms", r->system_us / 1000);
	put(b, "memory_peak_bytes", r->in_cgroup ? r->memory_peak_bytes : r->rss_peak_kib * 1024);
	buf_addf(b, ",\"memory_peak_of\":\"%s\"", r->in_cgroup ? "sandbox" : "process");
	put(b, "disk_read_bytes", r->disk_read_bytes);
	put(b, "disk_write_bytes", r->disk_write_bytes);
	if (r->processes)
		put(b, "processes", r->processes);
	put(b, "output_bytes", r->output_bytes);
	if (r->in_cgroup) {
		put(b, "cpu_ms", r->cpu_us / 1000);
		put(b, "throttled_ms", r->throttled_us / 1000);
		put(b, "oom_kills", r->oom_kills);
		put(b, "pids_denied", r->pids_denied);
		put(b, "pids_peak", r->pids_peak);
	}
	buf_addc(b, '}');
}

static void limit(struct buf *b, const char *name, int64_t value, const char *by)
{
	buf_addf(b, "%s\"%s\":{\"value\":%lld,\"held_by\":\"%s\"}",
		b->p[b->len - 1] == '{' ? "" : ",", name, (long long)value, by);
}

/* The lower of the two, where 0 is no limit. */
static int64_t lower(int64_t a, int64_t b)
{
	return !a ? b : !b ? a : a < b ? a : b;
}

static int64_t value_of(const struct limit *t, const struct conf *c, const struct receipt_limits *l)
{
	int64_t value = limit_value(t, c);

	if (!strcmp(t->name, "memory_max_bytes"))
		return lower(value, l->memory_bytes);
	if (!strcmp(t->name, "cpu_max_percent"))
		return lower(value, (int64_t)ceil(l->cpus * 100));
	return value;
}

/* What holds it where the session asked for it and sandbox.conf has no such limit. */
static const char *held_by(
	const struct limit *t, const struct conf *c, const struct receipt_limits *l)
{
	if (value_of(t, c, l) == limit_value(t, c))
		return limit_held_by(t, c, l->means);
	return (t->cgroup & l->means)  ? "cgroup"
	       : (t->watch & l->means) ? "watchdog"
	       : l->cpus >= 1          ? "kernel" /* so many processors, by affinity */
				       : "none";
}

/* Of limit_table: what a command meets. */
static bool of_command(const char *name)
{
	static const char *const names[] = {"files_open_max", "file_max_bytes",
		"memory_process_max_bytes", "address_space_max_bytes", "cpu_time_max_s",
		"processes_max", "tmpfs_max_bytes", "tmpfs_max_inodes", "memory_max_bytes",
		"socket_memory_max_bytes", "cpu_max_percent", "io_max_bytes_per_s",
		"session_disk_max_bytes", "session_disk_max_inodes"};

	for (size_t i = 0; i < NELEM(names); i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

void receipt_limits(struct buf *b, const struct conf *c, const struct receipt_limits *l)
{
	buf_addc(b, '{');
	if (!buf_ok(b))
		return;
	limit(b, "timeout_ms", l->timeout_ms, "service");
	limit(b, "output_max_bytes", l->output_max_bytes, "service");
	for (const struct limit *t = limit_table; t->name; t++)
		if (of_command(t->name))
			limit(b, t->name, value_of(t, c, l), held_by(t, c, l));
	buf_addc(b, '}');
}

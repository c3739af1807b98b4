/* What the keeper counts, and the state of things as its gauges show it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "fcgi/keeper_ahead.h"
#include "fcgi/keeper_int.h"
#include "fcgi/keeper_warm.h"
#include "isolate/cgfile.h"
#include "isolate/own.h"

enum { TEXT_MAX = 4096 };
_Static_assert((int)KEEPER_GAUGES <= (int)STATS_GAUGES, "a seat has room for all gauges");

int keeper_stats_open(struct keeper *k, struct err *e)
{
	if (stats_open(&k->stats, k->conf->state_dir, e) < 0)
		return -1;
	stats_sit(&k->stats, SEAT_KEEPER);
	stats_gauge(&k->stats, KEEPER_STARTED_S, (uint64_t)time(NULL));
	keeper_stats_refresh(k);
	return 0;
}

static void show_disk(struct keeper *k)
{
	struct statvfs v;

	if (fstatvfs(k->dirs.state, &v) < 0)
		return;
	stats_gauge(&k->stats, KEEPER_DISK_BYTES, (uint64_t)v.f_blocks * v.f_frsize);
	stats_gauge(&k->stats, KEEPER_DISK_FREE_BYTES, (uint64_t)v.f_bavail * v.f_frsize);
	stats_gauge(&k->stats, KEEPER_DISK_INODES, v.f_files);
	stats_gauge(&k->stats, KEEPER_DISK_FREE_INODES, v.f_favail);
}

/* Resident pages of a process that it shares with no file and no other process's memory object. */
static uint64_t private_bytes(int32_t pid)
{
	unsigned long size, resident, shared;
	char path[64], text[256];
	OWN_FD fd = -1;

	snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!cgfile_pread(fd, text, sizeof text) ||
		sscanf(text, "%lu %lu %lu", &size, &resident, &shared) != 3 || shared > resident)
		return 0;
	return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The number of a process is believed only while it holds its seat. */
static void show_memory(struct keeper *k)
{
	uint64_t sum = 0;

	for (int i = 0; i < STATS_SEATS; i++) {
		const struct stats_seat *seat = &k->stats.page->seat[i];
		int32_t pid = atomic_load(&seat->pid);

		if (pid > 0 && stats_seated(&k->stats, seat))
			sum += private_bytes(pid);
	}
	stats_gauge(&k->stats, KEEPER_MEMORY_BYTES, sum);
}

/* "MemTotal:  123 kB"; bytes. */
static uint64_t meminfo(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	unsigned long long kib = 0;

	return at && sscanf(at + strlen(name), " %llu", &kib) == 1 ? kib * 1024 : 0;
}

static void show_machine(struct keeper *k)
{
	OWN_FD fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	char text[TEXT_MAX];

	if (!cgfile_pread(fd, text, sizeof text))
		return;
	stats_gauge(&k->stats, KEEPER_MACHINE_BYTES, meminfo(text, "MemTotal:"));
	stats_gauge(&k->stats, KEEPER_MACHINE_FREE_BYTES, meminfo(text, "MemAvailable:"));
}

/* Our group without the part that we, helpers and each pid 1 are in. */
static void show_sandboxes(struct keeper *k)
{
	uint64_t all = 0, ours = 0;
	char text[TEXT_MAX];

	stats_gauge(&k->stats, KEEPER_SANDBOXES, k->nboxes);
	stats_gauge(&k->stats, KEEPER_SANDBOXES_MAX, (uint64_t)k->conf->sandboxes_max);
	if (k->group.dir < 0 || !cgfile_read(k->group.dir, "memory.current", text, sizeof text) ||
		!cgfile_number(text, &all))
		return;
	if (cgfile_read(k->group.dir, "main/memory.current", text, sizeof text))
		(void)cgfile_number(text, &ours);
	stats_gauge(&k->stats, KEEPER_SANDBOX_MEMORY_BYTES, all > ours ? all - ours : 0);
}

static void show_prepared(struct keeper *k)
{
	struct pool_stats p = {0};

	if (k->ahead)
		ahead_stats(k, &p);
	else
		pool_stats(k->pool, &p);
	stats_gauge(&k->stats, KEEPER_PREPARED, p.ready);
	stats_gauge(&k->stats, KEEPER_PREPARED_MADE, p.made);
	stats_gauge(&k->stats, KEEPER_PREPARED_CLAIMED, p.claimed);
	stats_gauge(&k->stats, KEEPER_PREPARED_MISSED, p.cold);
	stats_gauge(&k->stats, KEEPER_PREPARED_FAILED, p.failed);
	stats_gauge(&k->stats, KEEPER_PREPARED_TRIMMED, p.trimmed);
}

static void show_warm(struct keeper *k)
{
	struct warm_stats w = {0};

	warm_stats(k->warm, &w);
	stats_gauge(&k->stats, KEEPER_WARM, w.ready);
	stats_gauge(&k->stats, KEEPER_WARM_BYTES, w.bytes);
	stats_gauge(&k->stats, KEEPER_WARM_MADE, w.made);
	stats_gauge(&k->stats, KEEPER_WARM_CLAIMED, w.claimed);
	stats_gauge(&k->stats, KEEPER_WARM_MISSED, w.missed);
	stats_gauge(&k->stats, KEEPER_WARM_FAILED, w.failed);
	stats_gauge(&k->stats, KEEPER_WARM_TRIMMED, w.trimmed);
	for (unsigned i = 0; i < COLD_REASONS; i++)
		stats_gauge(&k->stats, KEEPER_WARM_COLD + i, w.cold[i]);
}

void keeper_stats_refresh(struct keeper *k)
{
	if (!k->stats.page)
		return;
	stats_gauge(&k->stats, KEEPER_SESSIONS, k->nsessions);
	stats_gauge(&k->stats, KEEPER_CALLS, k->ncalls);
	stats_gauge(&k->stats, KEEPER_PULLS, k->npulls);
	show_sandboxes(k);
	show_prepared(k);
	show_warm(k);
	show_disk(k);
	show_memory(k);
	show_machine(k);
}

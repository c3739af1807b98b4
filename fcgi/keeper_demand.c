#include "fcgi/keeper_demand.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { SHRINK_MS = 10000 }; /* what was spare for so long is too much */

void demand_open(struct demand *d, unsigned max, unsigned first, uint64_t idle_ms, uint64_t now_ms)
{
	*d = (struct demand){.max = max,
		.want = first,
		.idle_ms = idle_ms,
		.used_ms = now_ms,
		.shrink_ms = now_ms};
}

void demand_ready(struct demand *d, unsigned ready)
{
	d->was_full |= ready >= d->want;
}

void demand_asked(struct demand *d, uint64_t now_ms)
{
	d->used_ms = now_ms;
}

void demand_taken(struct demand *d, unsigned left)
{
	d->spare = left < d->spare ? left : d->spare;
}

void demand_missed(struct demand *d)
{
	d->spare = 0;
	/* Not when there was no time to make as many as are wanted already. */
	if (d->want < d->max && (d->was_full || d->want == 0))
		d->want++;
	d->was_full = false;
}

/* Fewer are wanted when some were never taken, none when nobody came. */
void demand_shrink(struct demand *d, unsigned ready, uint64_t now_ms)
{
	if (now_ms - d->used_ms >= d->idle_ms)
		d->want = 0;
	if (now_ms - d->shrink_ms < SHRINK_MS)
		return;
	if (d->spare > 0 && d->want > 1)
		d->want--;
	d->shrink_ms = now_ms;
	d->spare = ready;
}

uint64_t demand_next(const struct demand *d, uint64_t now_ms)
{
	uint64_t next = d->shrink_ms + SHRINK_MS, idle = d->used_ms + d->idle_ms;

	next = idle < next ? idle : next;
	return next > now_ms ? next - now_ms : 0;
}

void spare_processor_open(struct spare_processor *p)
{
	p->load = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	p->processors = sysconf(_SC_NPROCESSORS_ONLN);
}

bool spare_processor_now(const struct spare_processor *p)
{
	char text[64] = "";
	long running;

	return p->load >= 0 && pread(p->load, text, sizeof text - 1, 0) > 0 &&
	       sscanf(text, "%*s %*s %*s %ld/", &running) == 1 && running <= p->processors;
}

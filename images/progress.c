#include "images/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REDRAW_MS = 100, BAR = 30 };

static int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void progress_init(struct progress *p, bool quiet)
{
	memset(p, 0, sizeof *p);
	p->quiet = quiet;
	p->terminal = isatty(STDERR_FILENO) == 1;
}

void progress_start(struct progress *p, const char *label, uint64_t total)
{
	snprintf(p->label, sizeof p->label, "%s", label);
	p->now = 0;
	p->total = total;
	p->last_ms = 0;
}

static void draw(const struct progress *p)
{
	static const char full[] = "==============================";
	int n = p->total ? (int)(p->now * BAR / p->total) : 0;

	if (n > BAR)
		n = BAR;
	fprintf(stderr, "\r%s: [%-*.*s] %.1f", p->label, BAR, n, full, (double)p->now / 1e6);
	if (p->total)
		fprintf(stderr, "/%.1f", (double)p->total / 1e6);
	fprintf(stderr, " MB\033[K");
	fflush(stderr);
}

void progress_add(struct progress *p, uint64_t n)
{
	int64_t now = clock_ms();

	p->now += n;
	if (p->quiet || !p->terminal || now - p->last_ms < REDRAW_MS)
		return;
	p->last_ms = now;
	draw(p);
}

void progress_end(struct progress *p, const char *what)
{
	if (p->quiet)
		return;
	fprintf(stderr, "%s%s: %s%s\n", p->terminal ? "\r" : "", p->label, what,
		p->terminal ? "\033[K" : "");
}

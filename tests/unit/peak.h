/* The peak of this process's resident memory since a moment: proc(5), clear_refs and VmHWM. */
#ifndef CGIBOX_TEST_PEAK_H
#define CGIBOX_TEST_PEAK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/tap.h"

static inline long peak_read(const char *name)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, name, strlen(name)))
			kib = atol(line + strlen(name));
	if (f)
		fclose(f);
	return kib;
}

/* Forgets the peak; returns what is resident now, in KiB. */
static inline long peak_start(void)
{
	FILE *f = fopen("/proc/self/clear_refs", "we");

	if (f) {
		fputs("5", f);
		fclose(f);
	}
	return peak_read("VmRSS:");
}

/* KiB that the peak since peak_start() lies over what was resident then. */
static inline long peak_growth(long start)
{
	return peak_read("VmHWM:") - start;
}

/* The control: 16 MiB that are touched and given back are seen. */
static inline void peak_control(void)
{
	long start = peak_start();
	volatile char *p = malloc(16 << 20);

	for (size_t i = 0; p && i < 16 << 20; i += 4096)
		p[i] = 1;
	free((void *)p);
	ok(peak_growth(start) >= 15 << 10, "control: a peak of 16 MiB is seen, %ld KiB",
		peak_growth(start));
}

#endif

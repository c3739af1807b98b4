/* The monotonic clock (clock_gettime(2)), which never runs back and which no administrator sets. */
#ifndef CGIBOX_CLOCK_H
#define CGIBOX_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Microseconds since some moment before the start. Cannot fail; any process. */
static inline int64_t clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The same in milliseconds. */
static inline int64_t clock_ms(void)
{
	return clock_us() / 1000;
}

#endif

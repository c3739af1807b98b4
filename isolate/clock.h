/* clock_gettime(2): the monotonic clock, which never runs back and which no administrator sets, unless a
 * name says real. */
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

/* Microseconds since 1970, UTC, as this machine's clock has it: for what is shown or kept, not for waiting. */
static inline int64_t clock_real_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

#endif

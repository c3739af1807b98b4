/*
 * The limits of sandbox.conf that a tenant meets, and what holds each of them here. One table:
 * GET /system/ shows it, and whoever adds a means (a control group, the watchdog) adds a bit
 * here and reports it from keeper_system.c.
 */
#ifndef CGIBOX_LIMITS_H
#define CGIBOX_LIMITS_H

#include <stddef.h>

#include "isolate/conf.h"

/* Means that a host may have or lack; the keeper reports which are at work. */
enum {
	LIMIT_BY_CGROUP_MEMORY = 1 << 0,
	LIMIT_BY_CGROUP_CPU = 1 << 1,
	LIMIT_BY_CGROUP_IO = 1 << 2,
	LIMIT_BY_WATCH_MEMORY = 1 << 3, /* watchdog: memory of a sandbox and of the machine */
	LIMIT_BY_WATCH_SOCKETS = 1 << 4,
	LIMIT_BY_WATCH_DISK = 1 << 5,
};

struct limit {
	const char *name; /* the key */
	size_t off;       /* of its int64_t in struct conf */
	const char *base; /* who holds it on every host: "kernel", "service", or NULL */
	unsigned cgroup;  /* LIMIT_BY_CGROUP_*: a means that holds it exactly, 0 = none */
	unsigned watch;   /* LIMIT_BY_WATCH_*: one that looks now and then, 0 = none */
	bool zero_is_none;
};

extern const struct limit limit_table[]; /* ends with a name of NULL */

/*
 * "kernel" (an rlimit or a mount's size), "service" (pid 1, helpers and workers), "cgroup",
 * "watchdog" (approximate: it looks every watch_interval_ms), or "none": nobody holds it, or the
 * value says that there is no limit. means: LIMIT_BY_*. Pure.
 */
const char *limit_held_by(const struct limit *l, const struct conf *c, unsigned means);

/* The value in force. Pure. */
int64_t limit_value(const struct limit *l, const struct conf *c);

#endif

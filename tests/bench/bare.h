/*
 * The least that a sandbox of the same kind takes from the kernel: the namespaces, an overlay with its upper layer in
 * memory, /proc, a small /dev, Landlock, no capabilities, our seccomp filter, a pid 1 of its own, both outputs
 * in pipes. No limits, no masks, no proof that anything took place, no verdict, no watchdog, no loopback: to be
 * measured beside what has all that, never to be used.
 */
#ifndef CGIBOX_BENCH_BARE_H
#define CGIBOX_BENCH_BARE_H

#include <sys/types.h>

#include "isolate/err.h"
#include "isolate/filter.h"

struct bare {
	int init_fd, filter_fd;     /* pid 1 (bare_init.c), and the filter's instructions */
	const char *root, *staging; /* borrowed */
};

/* program: pid 1's, read now. */
int bare_open(struct bare *b, const char *program, const struct filter *f, const char *root,
	const char *staging, struct err *e);

/* Starts argv, which has a path of the root, with both outputs. Returns pid 1, which the caller reaps. */
pid_t bare_start(const struct bare *b, char *const *argv, int out, int errs, struct err *e);

#endif

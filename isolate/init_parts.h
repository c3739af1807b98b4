/*
 * /dev and /proc of a sandbox, which are the same whatever its root is made of, and the quotas that
 * are set by way of that /proc. Made at once in a new root, or ahead of it (init_park.h) and then
 * moved there. pid 1 only.
 */
#ifndef CGIBOX_INIT_PARTS_H
#define CGIBOX_INIT_PARTS_H

#include "isolate/err.h"
#include "isolate/plan.h"

/* Descriptors, -1: not made. */
struct init_parts {
	int dev, proc; /* mounts */
	int sys;       /* O_PATH, /proc/sys as it was before it was covered read-only */
};
#define INIT_PARTS_NONE ((struct init_parts){-1, -1, -1})

/* Makes both below the directory root (borrowed). /dev stays writable until init_parts_finish(). */
int init_parts_build(const struct plan *p, int root, struct init_parts *parts, struct err *e);

/* Moves both below another root. No link of it is followed. */
int init_parts_move(const struct init_parts *parts, int root, struct err *e);

/* Makes /dev read-only. */
int init_parts_finish(const struct init_parts *parts, struct err *e);

/* -1 when another mount of the finished root covers one of them. */
int init_parts_check(const struct init_parts *parts, int root, struct err *e);

enum { INIT_WATCH_FDS = 4 }; /* tables of System V objects, and a socket */

/*
 * Sets what is limited by way of /proc/sys, of the network namespace, which the caller is in by now, and of the
 * user namespace; and opens what the watchdog cannot open from outside, because it shows the
 * namespaces of who opens it: three tables, and a socket that lists sockets. Not the host's sockets, where the
 * network is the host's.
 */
int init_parts_limit(const struct plan *p, const struct init_parts *parts,
	int watch[INIT_WATCH_FDS], struct err *e);

void init_parts_close(struct init_parts *parts);

#endif

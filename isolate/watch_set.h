/*
 * The watchdog's decisions over any number of sandboxes, for limits on a whole sandbox where there is
 * no cgroup. One thread calls watch_set_tick() every interval and at once while it says so:
 *
 *	`cgibox run`, while it waits: a set of one. Add the sandbox after sandbox_wait_ready(), before its
 *	command begins or, where watch_set_expect() was called before that, a little later; on an event send PROTO_KILL with watch_verdict() on the sandbox's ctl; remove it before
 *	sandbox_stop().
 *	the service: a process of its own (fcgi/watcher.h), so that a sandbox that is slow to measure
 *	holds up neither the keeper nor, by more than SLICE_US, the others.
 *
 * A tick reads MemAvailable and Shmem (15 us). All sandboxes are measured when the former fell by a
 * step (32 MiB or 1/8 of the smallest limit) since it was last highest, and in any case each second.
 *
 * Shared memory can be hidden from a measurement: in a shared mapping, whose blocks are not told and of
 * which all but a page may be unmapped again, or in the descriptors of a non-dumpable process.
 * The machine's Shmem counts it all the same. What that grew by since a sandbox had nothing to hide
 * in, and no tmpfs of the host's and no object of a sandbox explains, is charged in equal parts to those
 * that do have such a place, no more than a page for each fault they took, and ends one when it is over its limit by a quarter with it.
 */
#ifndef CGIBOX_WATCH_SET_H
#define CGIBOX_WATCH_SET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/err.h"
#include "isolate/launch.h"
#include "isolate/result.h"
#include "isolate/watch.h"

/* 0: not watched. */
struct watch_limits {
	uint64_t memory_max_bytes, socket_max_bytes;
	bool root_memory; /* the root's upper layer is a tmpfs: it counts as memory */
	bool late; /* opened at the first look, which many do not live to see. Not with file systems
			   * in places that a command may move: those are found by their paths */
};

enum watch_what {
	WATCH_MEMORY = 1, /* over memory_max_bytes */
	WATCH_SOCKETS,    /* over socket_max_bytes */
	WATCH_RESERVE,    /* the machine is short, and this one is the largest */
	WATCH_BLIND,      /* it cannot be measured */
	WATCH_UNLINKED,   /* tells bytes: open files without a name; no verdict */
	WATCH_WHAT_MAX,
};

struct watch_event {
	uint32_t what; /* enum watch_what */
	uint32_t pad;
	uint64_t id;
	uint64_t bytes, limit;
};

typedef void watch_event_fn(void *arg, const struct watch_event *ev);

struct watch_set;

/* Called by the one who starts sandboxes, in its user namespace. NULL with e. */
struct watch_set *watch_set_new(unsigned interval_ms, uint64_t reserve_bytes, struct err *e);
void watch_set_free(struct watch_set *s);

/* proc_dir and fds as in watch_open(): taken over. id: the caller's name for it, unused so far. */
int watch_set_add(struct watch_set *s, uint64_t id, const struct watch_limits *lim, int proc_dir,
	int fds[WATCH_FDS], struct err *e);
void watch_set_remove(struct watch_set *s, uint64_t id);

/*
 * For a new set: the command of the first sandbox may begin before it is added. What the machine has
 * now is then what it had before that command. Call it before the command can begin.
 */
void watch_set_expect(struct watch_set *s);

/* Convenience for a parent: adds box, which is ready; takes its watch_fd. */
int watch_set_add_box(struct watch_set *s, uint64_t id, const struct watch_limits *lim,
	struct sandbox *box, struct err *e);

/* Works for a few milliseconds at most; fn is called for what it finds. Returns the milliseconds until
 * the next call is due, -1: no sandbox is there. */
int watch_set_tick(struct watch_set *s, watch_event_fn *fn, void *arg);

/* Measures all at the next tick, whatever free memory says: open files without a name are on disk. */
void watch_set_look(struct watch_set *s);

/* The verdict of an event; VERDICT_OK for those that end nothing. */
enum verdict watch_verdict(const struct watch_event *ev);

/* /proc/PID, held so that a later process of the same number is not mistaken for it. Parent. */
int watch_proc_dir(pid_t pid, struct err *e);

#endif

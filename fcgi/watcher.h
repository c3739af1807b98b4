/*
 * The watchdog's process: forked by the keeper inside its user namespace before it serves, so that a
 * sandbox which is slow to measure never holds up the keeper's loop. It holds nothing but its end
 * of a socket, the state directory's file system to look at, and a view of each sandbox; it ends with the
 * keeper. Both ways fixed-size messages over SOCK_SEQPACKET.
 */
#ifndef CGIBOX_WATCHER_H
#define CGIBOX_WATCHER_H

#include <stdint.h>

#include "isolate/err.h"
#include "isolate/launch.h"
#include "isolate/watch_set.h"

struct watcher_conf {
	unsigned interval_ms;
	uint64_t reserve_bytes;
	uint64_t disk_step_bytes, disk_step_inodes; /* free space that fell by this is told */
};

/* To the keeper, beside enum watch_what: free space of the state directory fell; look at the disk. */
enum { WATCHER_DISK = WATCH_WHAT_MAX };

/* Keeper, at start-up: forks the process. Returns the keeper's end of the socket, on which
 * struct watch_event arrives; its end of file: the watchdog has died. state: borrowed. */
int watcher_start(const struct watcher_conf *c, int state, struct err *e);

/* Keeper: watches box, which is ready, as id; takes its watch_fd. Does not block: ERR_BUSY. */
int watcher_add(
	int sock, uint64_t id, const struct watch_limits *lim, struct sandbox *box, struct err *e);
int watcher_remove(int sock, uint64_t id, struct err *e);

/* Keeper: from now on free space that fell by so many bytes is told. */
int watcher_step(int sock, uint64_t bytes, struct err *e);

/* Keeper: reads one event: 1, 0 at the end, -1 with errno (EAGAIN: none). */
int watcher_event(int sock, struct watch_event *ev);

#endif

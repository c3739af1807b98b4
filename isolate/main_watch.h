/* The watchdog of one `cgibox run`: limits on the whole sandbox that no cgroup holds. */
#ifndef CGIBOX_MAIN_WATCH_H
#define CGIBOX_MAIN_WATCH_H

#include <stdbool.h>

#include "isolate/main_run.h"
#include "isolate/watch_set.h"

struct run_watch {
	struct watch_set *set; /* NULL: there is nothing to watch */
	struct watch_limits lim;
	uint64_t next_ms;        /* monotonic; when to look */
	struct sandbox *late;    /* to be added at the first look */
	struct watch_event over; /* .what 0: nothing was over its limit */
};

/* Prepares, while the sandbox starts and before its command may. by_group: a cgroup holds the memory. root_memory: the upper
 * layer is a tmpfs. */
int run_watch_open(
	struct run_watch *w, const struct conf *c, bool by_group, bool root_memory, struct err *e);

/* Begins to watch box, which is ready; takes its watch_fd. */
int run_watch_begin(struct run_watch *w, struct sandbox *box, struct err *e);

/*
 * The same for a box whose command may have begun, and which nobody looked at so far: it is opened at the
 * first look. What the machine had at run_watch_open() counts as before the command. Call it within an
 * interval of the command's begin, unless it ended. Only for a box that has no file system of the
 * caller's: those are found by paths that a command may change. Borrows box until
 * run_watch_close().
 */
void run_watch_begin_late(struct run_watch *w, struct sandbox *box);
void run_watch_close(struct run_watch *w);

/* Milliseconds until run_watch_look() is due, -1 = never. */
int run_watch_wait_ms(const struct run_watch *w, uint64_t now_ms);

/* Looks when it is due. True once: w->over says what is over its limit, and all must end. */
bool run_watch_look(struct run_watch *w, uint64_t now_ms);

/* For the person: what was over, in a line without its end. */
void run_watch_text(const struct watch_event *over, char *out, size_t size);

#endif

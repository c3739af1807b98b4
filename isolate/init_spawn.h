/* The birth of a command, pid 1's own: from the message to the exec. Used by init_run.c only. */
#ifndef CGIBOX_INIT_SPAWN_H
#define CGIBOX_INIT_SPAWN_H

#include <stdbool.h>

#include "isolate/init.h"

/* What the child needs. */
struct start {
	const struct init_state *init;
	const struct plan *plan;
	char **argv, **env;
	const char *dir;
	int fd[3]; /* borrowed: its standard streams */
	bool shell, ctty;
	bool slow;            /* out: it did not execute at once */
	uint64_t deadline_us; /* of the command, monotonic; 0: none */
	bool late;            /* out: it was killed at its deadline, before it executed */
	int report;           /* to write err to */
	bool join;            /* the control group; else it was born there, or there is none */
	struct err err;
};

/*
 * Maps the blob of rq and starts what it says with what the caller has put into s: plan, fd, shell,
 * ctty, deadline_us, init. Returns the pid once the child has executed, or was killed before (late: at its deadline;
 * else it was stopped again and again), or -1 with s->err.
 */
int init_spawn(struct start *s, const struct proto_request *rq, int blob);

#endif

/*
 * The jail of a one-shot tree helper: a process that parses a stranger's bytes into, or out of,
 * one directory. After jail_enter() that directory is its root; it has a user namespace that
 * maps our uid to 0 with CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER there and nothing
 * else, no_new_privs, and a seccomp filter that leaves file work and the descriptors it holds.
 */
#ifndef CGIBOX_JAIL_H
#define CGIBOX_JAIL_H

#include <stdint.h>

#include "isolate/err.h"

struct jail_limits {
	uint64_t address_space_bytes; /* RLIMIT_AS on top of what is mapped; 0 = none */
	uint64_t file_max_bytes;      /* RLIMIT_FSIZE; 0 = none */
	unsigned time_max_s;          /* alarm(2): the process dies by SIGALRM; 0 = none */
};

/*
 * Makes rootfd the root and the working directory of the calling, single-threaded process.
 * Descriptors 0..2 and the nkeep descriptors of keep stay open, all others (rootfd too) are
 * closed; umask is 0. Runs in a helper only; there is no way back. ERR_SETUP names the step
 * that failed: the caller must then end.
 */
int jail_enter(int rootfd, const int *keep, unsigned nkeep, const struct jail_limits *limits,
	struct err *e);

/*
 * The same with the view (jail_view.h) as the root; our uid is 0 there, or of a live sandbox what it
 * is in that.
 */
struct jail_view;
int jail_enter_view(const struct jail_view *view, const int *keep, unsigned nkeep,
	const struct jail_limits *limits, struct err *e);

#endif

/* The writable layer of one `cgibox run`, and the directories of the state that it needs. */
#ifndef CGIBOX_MAIN_UPPER_H
#define CGIBOX_MAIN_UPPER_H

#include <limits.h>
#include <stdbool.h>

#include "isolate/err.h"

struct upper {
	bool on_disk; /* else a tmpfs serves, made inside */
	int tmp;      /* STATE/tmp */
	int lock;     /* of the directory below it, while it is in use */
	bool swept;   /* upper_sweep() has been done */
	bool kept;    /* the caller's own directory, which lock is of */
	/* staging: where the root is mounted. All absolute: pid 1 changes its directory. */
	char name[32], staging[PATH_MAX], upper[PATH_MAX], work[PATH_MAX];
};

/*
 * Makes STATE with mnt/ and tmp/ and, where a tmpfs cannot be an upper layer, a directory on
 * the disk. keep: NULL, or a directory to keep the
 * layer in, made if it is missing, as upper/ and work/; ERR_BUSY while another run uses it.
 * `cgibox run` only.
 */
int upper_open(struct upper *d, const char *state_dir, const char *keep, struct err *e);

/* Removes what runs left that were killed. Any time, once; what cannot be removed stays. */
void upper_sweep(struct upper *d);

/* Removes the directory unless it is kept; no process may use it any more. */
int upper_close(struct upper *d, struct err *e);

#endif

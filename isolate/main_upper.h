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
	char name[32], upper[PATH_MAX], work[PATH_MAX];
};

/*
 * Makes STATE with mnt/ and tmp/ and, where a tmpfs cannot be an upper layer, a directory on
 * the disk. Removes what runs left that were killed. `cgibox run` only.
 */
int upper_open(struct upper *d, const char *state_dir, struct err *e);

/* Removes the directory; no process may use it any more. */
int upper_close(struct upper *d, struct err *e);

#endif

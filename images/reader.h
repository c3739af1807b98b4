/*
 * A child process that has entered a layer's tree as its root and reads it: files there may have
 * any mode, and links lead nowhere else. It writes what it has to say to a pipe.
 */
#ifndef CGIBOX_READER_H
#define CGIBOX_READER_H

#include <sys/types.h>

#include "images/treefile.h"
#include "images/layout.h"

/* Runs in the child: dir is the tree, t its list, both open. 0 or -1 with e. */
typedef int reader_fn(int dir, struct treefile *t, int out, struct err *e);

struct reader {
	pid_t pid;
	int out;   /* read end of what the child writes */
	int reply; /* read end: one struct err */
};

/* time_max_s: the child dies after that. Single-threaded callers only. */
int reader_start(struct reader *r, const struct store *s, const char *layer, reader_fn *fn,
	unsigned time_max_s, struct err *e);

/* Waits for the child; -1 with its error. Call it after reading `out` to its end, or to end it. */
int reader_end(struct reader *r, struct err *e);

#endif

/*
 * The disk limit of one `cgibox run` whose writable layer lies on a disk: a helper measures the
 * layer again and again and says when it is over. A tmpfs has its limit from the kernel.
 */
#ifndef CGIBOX_MAIN_DISK_H
#define CGIBOX_MAIN_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/err.h"
#include "isolate/treesize.h"

struct run_disk {
	pid_t pid; /* of the helper; 0: there is none */
	int fd;    /* readable when the layer is over a limit, or cannot be measured any more; -1 */
	struct tree_use limit, have; /* limit: only bytes and inodes, 0 = none */
};

/* A struct run_disk without a helper. */
#define RUN_DISK_NONE ((struct run_disk){.fd = -1})

/*
 * Starts the helper over the directory upper when there is a limit. What is in it already counts only
 * when count_all is set. ERR_SETUP.
 */
int run_disk_begin(struct run_disk *d, const char *upper, const struct tree_use *limit,
	bool count_all, struct err *e);

/* Reads what made d->fd readable, and closes it: d->have, all 0 when the helper died. */
void run_disk_read(struct run_disk *d);

/* For the person: what was over, in a line without its end. */
void run_disk_text(const struct run_disk *d, char *out, size_t size);

/* Ends the helper. */
void run_disk_close(struct run_disk *d);

#endif

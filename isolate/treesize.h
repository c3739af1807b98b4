/*
 * What a tree holds on disk. Unlike other walks this one has no bound on depth or on the length of
 * paths, and it may run beside the tenant's processes: what moves meanwhile may be missed or met twice.
 */
#ifndef CGIBOX_TREESIZE_H
#define CGIBOX_TREESIZE_H

#include <stdint.h>

#include "isolate/err.h"

struct tree_use {
	uint64_t bytes;                   /* allocated; a file of n names counts for 1/n at each */
	uint64_t inodes;                  /* names */
	uint64_t stop_bytes, stop_inodes; /* in: more need not be counted; 0 = count all */
};

/*
 * Adds everything below path (not the directory itself). An absent one holds nothing. ERR_SETUP;
 * ERR_BUSY when a directory moved while it was read; ERR_LIMIT: out of memory. Tree helpers.
 */
int tree_measure(const char *path, struct tree_use *use, struct err *e);

#endif

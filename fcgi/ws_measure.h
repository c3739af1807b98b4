/*
 * What a session holds on disk. Unlike a patch's walk this one has no bound on depth or on the length
 * of paths, and it may run beside the tenant's processes: what moves meanwhile may be missed or met twice.
 */
#ifndef CGIBOX_WS_MEASURE_H
#define CGIBOX_WS_MEASURE_H

#include <stdint.h>

#include "fcgi/workspace.h"
#include "isolate/err.h"

struct ws_use {
	uint64_t bytes;                   /* allocated; a file of n names counts for 1/n at each */
	uint64_t inodes;                  /* names */
	uint64_t stop_bytes, stop_inodes; /* in: more need not be counted; 0 = count all */
};

/* Adds everything below path (not the directory itself). An absent one holds nothing. Tree helper. */
int ws_measure_tree(const char *path, struct ws_use *use, struct err *e);

/*
 * Tree helper whose root is the session's directory: what the session wrote beyond its archives: the
 * root's upper layer (also alone in root), the workspace's uppers, tree/ less what the layout says
 * archives brought, and what the layout says of layers that it shares.
 */
int ws_measure_growth(
	const struct ws_layout *lay, struct ws_use *use, struct ws_use *root, struct err *e);

#endif

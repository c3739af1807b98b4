/*
 * What differs between two stacks of layers that stand on the same ones below. Where both see the
 * same of those, only what lies in the layers above is looked at, so the cost is that of the changes.
 */
#ifndef CGIBOX_WS_DIFF_H
#define CGIBOX_WS_DIFF_H

#include "fcgi/ws_stack.h"

/* One side of a path: in which layer of its stack it lies (-1: it is not there). */
struct ws_diff_side {
	int layer;     /* place in the stack's fd */
	uint32_t type; /* S_IFMT bits, 0 when absent */
};

struct ws_diff_visit {
	const char *path, *name;
	struct ws_diff_side old, new;
	/* directories: the places in the old stack that have a part in it; NULL, 0: none */
	const unsigned char *old_part;
	unsigned old_parts;
};

/* Result: 1 to descend (when a side is a directory), 0, or -1. */
typedef int ws_diff_fn(void *arg, const struct ws_diff_visit *v, struct err *e);

/*
 * Visits each name whose two sides may differ, directories before what they hold, in no other order.
 * common: how many of the lowest layers are the same in both. Two sides that are the same file are
 * left out. Tree helper.
 */
int ws_diff(const struct ws_stack *old, const struct ws_stack *new, unsigned common, ws_diff_fn *fn,
	void *arg, struct err *e);

#endif

/*
 * The overlay form, for archives that are too large to be compared file by file: archive k is
 * the read-only directory layer-k, and what the sandbox writes lands in upper-k. Below them lie
 * the layers and uppers of earlier calls; what of those is still seen is listed in left.idx when
 * the archive arrives, so that a patch costs what changed.
 */
#ifndef CGIBOX_WS_OVERLAY_H
#define CGIBOX_WS_OVERLAY_H

#include "fcgi/workspace.h"

/*
 * Makes "new" the top layer of lay (whose earlier lowers stay below it; none: a fresh stack) with
 * an empty upper. lay is in and out; shared: descriptors of its shared layers. Tree helper.
 */
int ws_overlay_take(struct ws_layout *lay, const int *shared, struct err *e);

/* Removes the directories of a layout that is no longer used, but for tree/. Tree helper. */
int ws_overlay_remove(const struct ws_layout *lay, struct err *e);

/* ws_patch() of this form, and of a tree that no archive came into. Tree helper. */
int ws_overlay_patch(const struct ws_layout *lay, const int *shared, int out_fd,
	const struct ws_limits *lim, uint64_t *bytes, struct err *e);

#endif

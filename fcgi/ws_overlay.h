/*
 * The overlay form, for archives that are too large to be compared file by file: archive k is
 * the read-only directory layer-k, and what the sandbox writes lands in upper-k. Below them lie
 * the layers and uppers of earlier calls; what of those is still seen is listed in left.idx when
 * the archive arrives, so that a patch costs what changed.
 */
#ifndef CGIBOX_WS_OVERLAY_H
#define CGIBOX_WS_OVERLAY_H

#include "fcgi/workspace.h"

/* What a new archive adds to a session that may hold `max` bytes of archives; 0 = no limit. */
struct ws_room {
	uint64_t bytes, max;
};

/* Whether it fits in; ERR_LIMIT. Pure. */
int ws_room_check(const struct ws_layout *lay, const struct ws_room *room, struct err *e);

/*
 * Makes "new" the top layer of lay (whose earlier lowers stay below it; none: a fresh stack) with
 * an empty upper. Layers are joined when there are too many or they are too large: then what is hidden
 * goes. lay is in and out; shared: descriptors of its shared layers. Tree helper.
 */
int ws_overlay_take(
	struct ws_layout *lay, const int *shared, const struct ws_room *room, struct err *e);

/* Removes the directories of a layout that is no longer used, but for tree/. Tree helper. */
int ws_overlay_remove(const struct ws_layout *lay, struct err *e);

/* ws_patch() of this form, and of a tree that no archive came into. Tree helper. */
int ws_overlay_patch(const struct ws_layout *lay, const int *shared, int out_fd,
	const struct ws_limits *lim, uint64_t *bytes, struct err *e);

#endif

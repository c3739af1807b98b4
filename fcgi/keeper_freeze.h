/*
 * What a quiet session's files stand on, changed by one rename of its layout: its writable layers become
 * shared ones, or others take their place. Keeper only.
 */
#ifndef CGIBOX_KEEPER_FREEZE_H
#define CGIBOX_KEEPER_FREEZE_H

#include "fcgi/keeper_int.h"
#include "fcgi/layout_file.h"

/* A layout in the making. */
struct restack {
	struct ws_layout next;
	struct layout_move moves[LAYOUT_MOVES_MAX];
	unsigned nmoves;
	int dir; /* of the session; owned */
	unsigned char junk[WS_LAYER_ID];
	bool has_junk; /* a layer that takes what is not wanted any more */
};

/* Begins with the layout of c, whose session is held. restack_end() in any case. */
int restack_begin(struct keeper *k, struct call *c, struct restack *r, struct err *e);
void restack_end(struct keeper *k, struct restack *r);

/*
 * Everything that the session wrote becomes shared layers, and fresh writable ones lie above. What is
 * empty stays. root: the root's too. wrote: what was measured of it.
 */
int restack_freeze(struct keeper *k, struct restack *r, bool root, const struct tree_result *wrote,
	struct err *e);

/* The workspace's own directories are dropped, and with root the root's; next says what comes instead. */
int restack_drop(struct keeper *k, struct restack *r, bool root, struct err *e);

int restack_drop_root(struct keeper *k, struct restack *r, struct err *e); /* the root's alone */

/*
 * Fresh writable layers above next's shared ones; root: for the root too. top: where the topmost of
 * the workspace's lies until it is moved, NULL: where shared layers lie.
 */
int restack_fresh(struct keeper *k, struct restack *r, const char *top, bool root, struct err *e);

/* Adds a move of one of the session's own names. */
int restack_move(struct restack *r, const char *from, const unsigned char *id, const char *to,
	struct err *e);

/* Makes next the layout of c's session: from here on it is so, also after a crash. */
int restack_commit(struct keeper *k, struct call *c, struct restack *r, struct err *e);

/* Mode of the root of a shared layer. */
int layer_mode(struct keeper *k, const unsigned char *id, mode_t *mode, struct err *e);

/* Names below a session's directory. */
enum { OWN_NAME_MAX = 32 };
const char *root_name(const char *kind, uint32_t number, char out[OWN_NAME_MAX]);
/* Makes a directory of this mode; one that is there is empty, of a keeper that died. */
int make_fresh(int dir, const char *name, mode_t mode, struct err *e);

#endif

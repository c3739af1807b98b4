/*
 * A layout as a file: what a session, or a mark of it, consists of. It is written aside and takes its
 * place by rename, so that it decides. Directories that become shared layers are named in it before they
 * are moved there: who reads it moves what a crash left where it was.
 */
#ifndef CGIBOX_LAYOUT_FILE_H
#define CGIBOX_LAYOUT_FILE_H

#include "fcgi/workspace.h"
#include "isolate/err.h"

/* from (relative to the session) belongs at to in the directory of the shared layer id. */
struct layout_move {
	char from[32], to[16];
	unsigned char id[WS_LAYER_ID];
};

enum { LAYOUT_MOVES_MAX = 2 * WS_LAYERS_MAX + 16 };

/* Keeper. Replaces the file name in dir (the session's, or its snapshots/). */
int layout_save(int dir, const char *name, const struct ws_layout *lay,
	const struct layout_move *moves, unsigned nmoves, struct err *e);

/* Keeper. ERR_NOTFOUND: no such file; ERR_SETUP: it is damaged. */
int layout_load(int dir, const char *name, struct ws_layout *lay, struct err *e);

/*
 * Keeper. Loads the layout of the session dir and does the moves that it still asks for; layers:
 * STATE/layers. What is loaded is valid also when one of them fails.
 */
int layout_settle(int dir, int layers, struct ws_layout *lay, struct err *e);

/* Pure, for tests and for the two above: text is changed. */
int layout_parse(char *text, struct ws_layout *lay, struct layout_move *moves, unsigned *nmoves,
	struct err *e);

/* Whether hex is the name of a shared layer's directory, and which. Pure. */
bool layout_layer_id(const char *hex, unsigned char *id);

#endif

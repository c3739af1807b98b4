/* Laying one tree over another by renames: no byte is copied. */
#ifndef CGIBOX_WS_MERGE_H
#define CGIBOX_WS_MERGE_H

#include "isolate/err.h"

/*
 * Moves everything below the directory `from` over the directory `to`: what both have is
 * replaced (a directory by a file too, and the other way round), directories are joined and get
 * the mode they have in `from`. `from` is left with empty directories. Tree helper.
 */
int ws_merge(const char *from, const char *to, struct err *e);

#endif

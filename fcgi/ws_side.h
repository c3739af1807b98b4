/* What both forms of a workspace need to describe their files to the patch writer. */
#ifndef CGIBOX_WS_SIDE_H
#define CGIBOX_WS_SIDE_H

#include "fcgi/patch.h"
#include "fcgi/ws_walk.h"
#include "isolate/buf.h"

/* Fills s from the file name in dirfd, a regular file or link (read now). Tree helper. */
int ws_side_fill(
	struct patch_side *s, int dirfd, const char *name, const struct stat *st, struct err *e);

/* The same for a path below root, without links on the way. */
int ws_side_path(struct patch_side *s, int root, const char *path, struct err *e);

/* Opens a regular file below root for patch_source.open. Tree helper. */
int ws_side_open(int root, const char *path, struct err *e);

/* Adds the file path below root to out if it is a regular file, at most IGNORE_FILE_MAX of it. */
int ws_side_ignore(int root, const char *path, struct buf *out, struct err *e);

#endif

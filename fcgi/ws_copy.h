/*
 * A tree as a copy, for workspaces that no overlay can stand on. Holes stay holes, names of one file stay names of
 * one file, modes and times are kept. Extended attributes are not: nobody inside can set any. Blocks are shared
 * where the file system can (copy_file_range(2)).
 */
#ifndef CGIBOX_WS_COPY_H
#define CGIBOX_WS_COPY_H

#include <sys/stat.h>

#include "isolate/err.h"

/* After each file and symbolic link was copied; fd (borrowed): of a regular file, else -1. 0, or -1 ends it. */
typedef int ws_copied_fn(void *arg, const char *path, const struct stat *st, int fd, struct err *e);

/*
 * Copies what lies below the directory from into the empty directory to (both borrowed), which gets the mode of from.
 * fn may be NULL. ERR_SETUP; ERR_LIMIT for a path that is too long to be walked. What is there then is the caller's.
 * Tree helper.
 */
int ws_copy_tree(int from, int to, ws_copied_fn *fn, void *arg, struct err *e);

/* Appends size bytes of the file in to out at the offset at; both borrowed. 0, or -1 with errno. */
int ws_copy_data(int in, int out, off_t at, off_t size);

#endif

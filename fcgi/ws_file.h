/* Small files of our own beside a workspace's trees. */
#ifndef CGIBOX_WS_FILE_H
#define CGIBOX_WS_FILE_H

#include <stddef.h>

#include "isolate/err.h"

/* Writes the file name (in the current directory) aside, then renames it. Tree helper. */
int ws_file_replace(const char *name, const void *p, size_t n, struct err *e);

/* Reads a whole file below dirfd, a directory of ours, into heap memory of the caller. Tree helper. */
int ws_file_read_at(int dirfd, const char *name, char **p, size_t *n, struct err *e);

#endif

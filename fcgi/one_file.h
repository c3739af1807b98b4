/* An archive of one file, for verbs that take archives. */
#ifndef CGIBOX_ONE_FILE_H
#define CGIBOX_ONE_FILE_H

#include <stddef.h>

#include "isolate/err.h"

/*
 * A tar (POSIX.1-1988, ustar) of the regular file `name`, at most 100 bytes without a slash, mode
 * 0644, in memory. Returns a descriptor at its start, which the caller owns, or -1. Worker.
 */
int one_file_archive(const char *name, const void *p, size_t n, struct err *e);

#endif

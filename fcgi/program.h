/* Where our other programs are, seen from our own. Any process, not after it has locked itself. */
#ifndef CGIBOX_PROGRAM_H
#define CGIBOX_PROGRAM_H

#include <stddef.h>

#include "isolate/err.h"

/*
 * Writes the path of the program `name` (image, doctor): libexec/NAME beside us in a build tree,
 * ../libexec/cgibox/NAME when installed. ERR_SETUP with ENOENT when it is at neither place.
 */
int program_find(const char *name, char *path, size_t size, struct err *e);

#endif

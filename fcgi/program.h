/* Where our other programs are, seen from our own, and what they are given. Any process, not after it has locked itself. */
#ifndef CGIBOX_PROGRAM_H
#define CGIBOX_PROGRAM_H

#include <stddef.h>

#include "isolate/conf.h"
#include "isolate/err.h"

/*
 * Writes the path of the program `name` (image, doctor): libexec/NAME beside us in a build tree,
 * ../libexec/cgibox/NAME when installed. ERR_SETUP with ENOENT when it is at neither place.
 */
int program_find(const char *name, char *path, size_t size, struct err *e);

/*
 * The settings in force as a file for a program's --conf: neither our file nor our environment need be
 * what they were at our start. A descriptor that the caller owns; ERR_SETUP.
 */
int program_settings(const struct conf *c, struct err *e);

#endif

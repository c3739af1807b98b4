/* Any text as one word of a line: bytes outside 0x21..0x7e and the backslash are \xNN. Pure. */
#ifndef CGIBOX_ESCAPE_H
#define CGIBOX_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>

#include "isolate/buf.h"

/* Appends the escaped text. */
void escape_put(const char *text, struct buf *out);

/*
 * Undoes it for n bytes into out (size bytes, may be text itself). false when it is malformed, too
 * long, or holds a NUL.
 */
bool escape_take(const char *text, size_t n, char *out, size_t size);

#endif

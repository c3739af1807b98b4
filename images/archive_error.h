/* What libarchive says of an archive that it cannot read. */
#ifndef CGIBOX_ARCHIVE_ERROR_H
#define CGIBOX_ARCHIVE_ERROR_H

#include <archive.h>

#include "isolate/err.h"

/*
 * Fills e unless it is filled, as by a callback of ours below libarchive: ERR_REQUEST with libarchive's
 * text, made printable, or ERR_LIMIT that names the limit of memory. Always returns -1.
 */
int archive_error_set(struct archive *a, const char *memory_limit, struct err *e);

#endif

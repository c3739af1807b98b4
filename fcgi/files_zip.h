/* A zip archive as a tar, so that one unpacker with one set of rules takes both. Tree helper. */
#ifndef CGIBOX_FILES_ZIP_H
#define CGIBOX_FILES_ZIP_H

#include <stdbool.h>
#include <stdint.h>

#include "isolate/err.h"

/* Whether the file begins as a zip does. */
bool files_is_zip(int fd);

/*
 * Writes fd, a zip, to out as a plain tar: regular files, directories and links; *left_out counts what is
 * none of them. ERR_REQUEST for a bad archive, ERR_LIMIT when its files are over max bytes or entries_max
 * names.
 */
int files_unzip(
	int fd, int out, int64_t max, int64_t entries_max, int64_t *left_out, struct err *e);

#endif

/* `image import NAME FILE|DIR`: an image that is on this machine already. */
#ifndef CGIBOX_IMPORT_H
#define CGIBOX_IMPORT_H

#include "images/ingest.h"

/*
 * Takes a root file system (a tar of any compression, or a directory), a `docker save` archive,
 * or an OCI image layout (directory or archive; "-": an archive on standard input) into the store as name. id receives its digits.
 */
int import_image(struct ingest *in, const char *name, const char *path, char id[65], struct err *e);

#endif

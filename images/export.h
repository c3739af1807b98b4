/* `image export REF FILE|DIR|-`: an image as an OCI image layout. */
#ifndef CGIBOX_EXPORT_H
#define CGIBOX_EXPORT_H

#include "images/store.h"
#include "isolate/conf.h"

/*
 * path: "-" for standard output, a directory (one that exists and is empty, or a name that ends with a slash), or
 * a file, which is replaced when all is written. Layers are packed again, so their digests and the
 * image's are not those it came with. ERR_REQUEST for "host".
 */
int export_image(
	struct store *s, const struct conf *c, const char *ref, const char *path, struct err *e);

#endif

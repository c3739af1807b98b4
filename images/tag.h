/* `image tag REF NEW`: one more name for an image. */
#ifndef CGIBOX_TAG_H
#define CGIBOX_TAG_H

#include "images/store.h"

/*
 * Makes name, which may be in use already, a name of the image that ref (a name or id) means. Both
 * remember where it was pulled from. ERR_NOTFOUND, ERR_REQUEST. The program `image`.
 */
int tag_image(const struct store *s, const char *ref, const char *name, struct err *e);

/* Formats a name that an image may be given, with its tag. ERR_REQUEST when it may not. */
int tag_name(const char *name, char *out, size_t size, struct err *e);

#endif

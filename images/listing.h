/* Listing and removing images. Used by the program `image`. */
#ifndef CGIBOX_LISTING_H
#define CGIBOX_LISTING_H

#include <stdio.h>

#include "images/store.h"

/* One line for each reference: name, id, layers, size; tab separated, "host" first. */
int listing_print(struct store *s, FILE *out, struct err *e);

/* Image record and layers as "key value" lines. */
int listing_inspect(struct store *s, const char *ref, FILE *out, struct err *e);

/*
 * Removes a reference; when it was the last one to its image, also the image and those of its
 * layers that no other image and no session uses. ERR_BUSY while somebody writes to the store.
 */
int listing_remove(struct store *s, const char *ref, struct err *e);

/*
 * Removes those of n layers (64 digits each; ids NULL: of all) that no image and no session uses:
 * what pulls that failed left for the next try. ERR_BUSY while somebody writes to the store.
 */
int listing_prune(struct store *s, char (*ids)[65], size_t n, struct err *e);

#endif

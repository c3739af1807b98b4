/* A layer that was stored before layers had lists of files (treefile.h) gets one. */
#ifndef CGIBOX_RELIST_H
#define CGIBOX_RELIST_H

#include "images/layout.h"

/* Whether a layer is whole but of that time. */
bool relist_needed(const struct store *s, const char *layer);

/*
 * Lists what there is, in a jailed child: owners, set-id bits and devices of the archive are not
 * known any more, contents are taken for right. The caller holds the store's lock.
 */
int relist_layer(const struct store *s, const char *layer, unsigned time_max_s, struct err *e);

#endif

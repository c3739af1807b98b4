/* Many layers into one, before the kernel's limit of lowers is near. */
#ifndef CGIBOX_WS_COMPACT_H
#define CGIBOX_WS_COMPACT_H

#include "fcgi/workspace.h"

/*
 * Joins the newest upper and all lowers of lay into one new layer, by hard links: the old
 * directories stay whole until their owner removes them, so a crash loses nothing. lay is in and
 * out; afterwards its only lower is the new layer, and its top that layer's number. Tree helper.
 */
int ws_compact(struct ws_layout *lay, struct err *e);

/*
 * Joins shared layers that lie on each other (topmost first) into the new one `to`, with what they
 * hide of the layers below. Tree helper whose root is STATE/layers. Names: ws_layer_name().
 */
int ws_join(const struct ws_layers *from, const unsigned char *to, struct err *e);

/* The directory of a shared layer: its bytes in hex. */
enum { WS_LAYER_NAME = 2 * WS_LAYER_ID + 1 };
const char *ws_layer_name(const unsigned char *id, char out[WS_LAYER_NAME]);

#endif

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

#endif

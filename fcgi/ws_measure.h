/* What a session holds on disk. */
#ifndef CGIBOX_WS_MEASURE_H
#define CGIBOX_WS_MEASURE_H

#include "fcgi/workspace.h"
#include "isolate/err.h"
#include "isolate/treesize.h"

/*
 * Tree helper whose root is the session's directory: what the session wrote beyond its archives: the
 * root's upper layer (also alone in root), the workspace's uppers, tree/ less what the layout says
 * archives brought, and what the layout says of layers that it shares.
 */
int ws_measure_growth(
	const struct ws_layout *lay, struct tree_use *use, struct tree_use *root, struct err *e);

#endif

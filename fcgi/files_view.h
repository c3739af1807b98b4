/* The keeper's plan of a session's view (isolate/jail_view.h) as text for a tree helper. */
#ifndef CGIBOX_FILES_VIEW_H
#define CGIBOX_FILES_VIEW_H

#include "isolate/buf.h"
#include "isolate/jail_view.h"

enum { FILES_VIEW_MAX = 1 << 20, FILES_VIEW_MOUNTS_MAX = 1024 };

/* A view and what its strings lie in. */
struct files_view {
	struct jail_view view;
	char *text; /* owned, as are the arrays */
	struct launch_mount *mounts;
	const char **lowers;
};

/* Keeper: appends staging, root and mounts of v. */
void files_view_put(struct buf *b, const struct jail_view *v);

/* Helper: reads n bytes from fd. ERR_BUG when they are out of shape. Cleared by files_view_clear(). */
int files_view_take(struct files_view *out, int fd, size_t n, struct err *e);
void files_view_clear(struct files_view *v);

#endif

/*
 * The directories of an overlay as overlayfs joins them, seen without a mount: a helper in its
 * jail cannot make one. Whiteouts are character devices 0/0, opaque directories carry the
 * attribute user.overlay.opaque (Documentation/filesystems/overlayfs.rst, userxattr).
 */
#ifndef CGIBOX_WS_STACK_H
#define CGIBOX_WS_STACK_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fcgi/workspace.h"

enum { WS_STACK_MAX = 3 * WS_LAYERS_MAX + 1, WS_NAME_MAX = 32 };

struct ws_stack {
	int fd[WS_STACK_MAX]; /* directories, top first; owned */
	unsigned n;
};

/* The name of lower number k of a layout, relative to ws/. */
const char *ws_stack_name(int32_t k, char out[WS_NAME_MAX]);

/*
 * Opens the upper (if wanted) and all lowers of an overlay layout, or tree/ of another; shared:
 * descriptors of lay->shared, in its order, borrowed. Tree helper.
 */
int ws_stack_open(struct ws_stack *s, const struct ws_layout *lay, const int *shared,
	bool with_upper, struct err *e);
/* Adds the files of n shared layers to s. On error s is closed. Tree helper. */
int ws_stack_add(struct ws_stack *s, const int *shared, unsigned n, struct err *e);
void ws_stack_close(struct ws_stack *s);

bool ws_is_whiteout(const struct stat *st);
/* Whether the directory path below root hides what lies under it. 1, 0, or -1 with errno. */
int ws_is_opaque(int root, const char *path);

/* The layer that shows path, -1 when none does. Errors count as absent. Tree helper. */
int ws_stack_find(const struct ws_stack *s, const char *path);

/*
 * Whether layer `upper` hides path of the layers below it: it has something there, or nothing of
 * them is seen through one of the directories above.
 */
bool ws_stack_hides(int upper, const char *path);

/*
 * One visible entry. layer shows it; shared: a directory that other layers than layer 0 have a
 * part in. Result: 1 to descend, 0, or -1.
 */
struct ws_seen {
	const char *path;
	uint32_t type; /* S_IFMT bits */
	unsigned layer;
	bool shared;
	bool opaque; /* of ws_stack_walk_all(): a directory that hides what lies below the stack */
};
typedef int ws_seen_fn(void *arg, const struct ws_seen *v, struct err *e);

/* Visits all that is visible, directories before what they hold. Tree helper. */
int ws_stack_walk(const struct ws_stack *s, ws_seen_fn *fn, void *arg, struct err *e);

/* The same for a stack that stands on others: whiteouts are reported too, with type 0. */
int ws_stack_walk_all(const struct ws_stack *s, ws_seen_fn *fn, void *arg, struct err *e);

#endif

/*
 * The root of a session as its commands see it, for a one-shot helper that works on files: the
 * overlays and binds of a sandbox without its /proc, /dev and processes, mounted in a mount namespace
 * that ends with the helper; or, beside a sandbox that runs, that sandbox's own mounts.
 */
#ifndef CGIBOX_JAIL_VIEW_H
#define CGIBOX_JAIL_VIEW_H

#include <stddef.h>

#include "isolate/err.h"
#include "isolate/launch.h"

struct jail_view {
	int live;            /* pidfd of a sandbox that runs, borrowed; -1: none, mount */
	const char *staging; /* an existing directory of ours; the root is mounted over it */
	struct launch_mount root;
	const struct launch_mount *mounts; /* PLAN_BIND and PLAN_OVERLAY, in order */
	size_t nmounts;
};

/*
 * Makes the view the root and the working directory of the calling, single-threaded process, in a user
 * namespace where it has every capability and our uid is 0 (or, of a live sandbox, what it is there).
 * Helper only, by way of jail_enter_view(). ERR_SETUP; the caller must then end.
 */
int jail_view_mount(const struct jail_view *v, struct err *e);

#endif

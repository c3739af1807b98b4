/* What of a session's directory is mounted where: for its sandbox, and for a view of its files. */
#ifndef CGIBOX_KEEPER_PLAN_H
#define CGIBOX_KEEPER_PLAN_H

#include "fcgi/keeper_int.h"

/* The lowers of a workspace: our own and those that sessions share. */
enum { PLAN_WS_LOWERS_MAX = 3 * WS_LAYERS_MAX };

/* All strings of one plan, freed together. */
struct plan_strings {
	char *p[4 * WS_LAYERS_MAX + 16 + VOLUMES_MAX];
	size_t n;
};
void plan_strings_free(struct plan_strings *s);
#define OWN_PLAN_STRINGS __attribute__((cleanup(plan_strings_free))) struct plan_strings

/*
 * Keeper: the root of the session that c holds: the image's layers below what the session shares of
 * its root, and its writable layer. *lowers is the caller's to free after m; (*lowers)[0] is free for
 * one more above them (root_settle()). ERR_SETUP: no memory.
 */
int plan_root(const struct keeper *k, const struct call *c, struct plan_strings *s,
	const char ***lowers, struct launch_mount *m, struct err *e);

/*
 * Keeper: of a session whose root is an Engine's, those of its directories that commands and file verbs
 * share: home, /tmp and /workspace. m: room for PLAN_OWN_DIRS. Returns how many there are, or -1.
 */
enum { PLAN_OWN_DIRS = 3 };
int plan_own_dirs(const struct keeper *k, const struct call *c, struct plan_strings *s,
	struct launch_mount *m, struct err *e);

/* Keeper: its workspace, where commands see it. lowers: room for PLAN_WS_LOWERS_MAX. */
int plan_workspace(const struct keeper *k, const struct call *c, struct plan_strings *s,
	const char **lowers, struct launch_mount *m, struct err *e);

/* Keeper: its volumes, into m, which has room for them. */
int plan_volumes(const struct keeper *k, const struct call *c, struct plan_strings *s,
	struct launch_mount *m, struct err *e);

#endif

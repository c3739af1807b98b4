/*
 * A layer that holds "lib/b" without an entry for "lib" itself means the lib that its lower
 * layers give it, which on a merged-usr image is a link to usr/lib. Our layers are unpacked on
 * their own, so a directory "lib" would hide that link. Hence: the links at the top of the lower
 * layers are told to the unpacker, and paths that pass through one are rewritten.
 */
#ifndef CGIBOX_REROUTE_H
#define CGIBOX_REROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "images/entry.h"

enum { REROUTE_LINKS_MAX = 16, REROUTE_NAMES_MAX = 48, REROUTE_NAME = 64, REROUTE_TARGET = 128 };

struct reroute {
	size_t nlinks; /* in: what the lower layers have, sorted by name */
	struct {
		char name[REROUTE_NAME], target[REROUTE_TARGET]; /* target: like an entry's path */
	} links[REROUTE_LINKS_MAX];

	bool used; /* out: the tree depends on the links */
	/* out: directories at the top that were only passed through, or also had an entry. */
	size_t nnames;
	struct {
		char name[REROUTE_NAME];
		bool entry;
	} names[REROUTE_NAMES_MAX];
	bool overflow; /* there were more: any link may matter */
};

/* Adds a link of a lower layer; one that leaves the root or is too long is not followed. */
void reroute_add(struct reroute *r, const char *name, const char *target);
void reroute_sort(struct reroute *r);

/* Rewrites the entry's path (and hard link target) below rootfd. ERR_LIMIT when it gets too long. */
int reroute_entry(struct reroute *r, int rootfd, struct entry *en, struct err *e);

#endif

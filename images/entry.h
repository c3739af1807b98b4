/*
 * What to do with one entry of a tar archive, decided from its name, type and link alone. Pure:
 * nothing is opened. The rules are those of struct unpack_policy (unpack.h).
 */
#ifndef CGIBOX_ENTRY_H
#define CGIBOX_ENTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/err.h"

enum entry_action {
	ENTRY_SKIP, /* left out and counted */
	ENTRY_ROOT, /* the root directory itself: exists already */
	ENTRY_DIRECTORY,
	ENTRY_FILE,
	ENTRY_SYMLINK,
	ENTRY_HARDLINK, /* out->link is the target, a path like out->path */
	ENTRY_WHITEOUT, /* layer: out->path was deleted */
	ENTRY_OPAQUE,   /* layer: the directory out->path ("" = root) hides what is below it */
};

enum { ENTRY_NAME_MAX = 4096 };

struct entry_source {
	const char *name; /* NUL terminated, as in the archive; NULL when it has none */
	const char *link; /* target of a symbolic or hard link, else NULL */
	bool hardlink;
	mode_t mode; /* type and permissions */
};

struct entry_rules {
	bool layer;
	int64_t name_max_bytes; /* of the normalised name; at most ENTRY_NAME_MAX counts */
	int64_t depth_max;      /* components */
};

struct entry {
	enum entry_action action;
	mode_t mode;                   /* permissions to set */
	char path[ENTRY_NAME_MAX + 1]; /* relative, no "./", no "//", no ".." */
	char link[ENTRY_NAME_MAX + 1]; /* symlink: as in the archive; hard link: normalised */
};

/*
 * Fills out. ERR_REQUEST for a name that is absolute (client's archive only; a layer's loses the
 * slash) or climbs, ERR_LIMIT for one that is too long or too deep. Any process.
 */
int entry_decide(const struct entry_source *in, const struct entry_rules *rules, struct entry *out,
	struct err *e);

#endif

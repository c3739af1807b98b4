/*
 * Making the objects of an archive below one directory. Names come from entry.c, so they are
 * relative and do not climb; links that lie in the tree already are the remaining danger. In a
 * client's archive a link in a path is replaced by a directory; in a layer it is followed within
 * the root, so that lib/b lands in usr/lib when lib is a link. What is in the way is removed:
 * the later entry counts.
 */
#ifndef CGIBOX_PLACE_H
#define CGIBOX_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "images/entry.h"
#include "isolate/buf.h"
#include "isolate/err.h"

enum { PLACE_HELD = 32 }; /* directories that are kept open */

struct place {
	int root; /* borrowed */
	bool layer;
	bool stale; /* what is held may have been removed */
	/* Directories on the way to the last entry, outermost first, but not each of a deep path. */
	struct place_dir {
		int fd;
		size_t len; /* of its path, which begins `path` */
	} held[PLACE_HELD];
	size_t nheld;
	char path[ENTRY_NAME_MAX + 1];
	struct buf dirs; /* directories whose mode and time are set at the end */
};

/* Any tree helper. root is borrowed until place_clear(). */
void place_init(struct place *p, int root, bool layer);
void place_clear(struct place *p);

/* Creates an empty regular file and returns its descriptor (write only), or -1. */
int place_file(struct place *p, const struct entry *en, struct err *e);
int place_directory(struct place *p, const struct entry *en, struct timespec mtime, struct err *e);
int place_symlink(struct place *p, const struct entry *en, struct timespec mtime, struct err *e);
/* 1: linked, 0: the target is not a regular file of the tree, -1: error. */
int place_hardlink(struct place *p, const struct entry *en, struct err *e);
/*
 * Whether what a marker hides, by its name, lies behind a link or a file that this layer has made
 * itself: then the lower layers' files of that name are hidden already. Followed, the marker would
 * hide files of another directory, which no tool that writes layers means.
 */
bool place_below_link(const struct place *p, const struct entry *en);
int place_whiteout(struct place *p, const struct entry *en, struct err *e);
int place_opaque(struct place *p, const struct entry *en, struct err *e);

/* Sets modes and times of the directories. Called once, after the last entry. */
int place_finish(struct place *p, struct err *e);

#endif

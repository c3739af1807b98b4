/* Objects met in one measurement, each counted once. Bounded: see WATCH_SEEN_MAX. */
#ifndef CGIBOX_WATCH_SEEN_H
#define CGIBOX_WATCH_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WATCH_SEEN_MAX = 1 << 18 }; /* objects; more are counted as often as they are met */

struct watch_object {
	uint64_t dev, ino; /* ino 0: a free place */
	uint64_t extent;   /* bytes up to the end of its farthest mapping */
	uint64_t bytes;    /* of memory; 0 for what is no memory */
	bool known;        /* met by descriptor: its blocks are counted */
};

struct watch_seen {
	struct watch_object *v; /* open addressing; a power of two */
	size_t n, cap;
};

/* Finds or adds. NULL: no room. *fresh: it was not there. */
struct watch_object *watch_seen_add(struct watch_seen *s, uint64_t dev, uint64_t ino, bool *fresh);
/* Forgets all; memory over the first size is given back. */
void watch_seen_reset(struct watch_seen *s);
void watch_seen_free(struct watch_seen *s);

#endif

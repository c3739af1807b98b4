/*
 * Where the contents of each regular file of an archive are: path -> offset, size, mode. For
 * hard links, which name an earlier file.
 */
#ifndef CGIBOX_OFFSETS_H
#define CGIBOX_OFFSETS_H

#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"

struct offset {
	uint64_t hash;
	size_t name; /* place of the path in names, plus one; 0: free slot */
	int64_t at;
	uint64_t size;
	uint32_t mode;
};

struct offsets {
	struct offset *slots;
	size_t nslots, used; /* nslots is a power of two */
	struct buf names;
};

void offsets_init(struct offsets *o);
void offsets_clear(struct offsets *o);

/* Records or replaces. -1 without memory. */
int offsets_set(struct offsets *o, const char *path, int64_t at, uint64_t size, uint32_t mode);

/* NULL when path is not there. Valid until the next offsets_set(). */
const struct offset *offsets_get(const struct offsets *o, const char *path);

#endif

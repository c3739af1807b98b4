/* The contents of one side of a change. */
#ifndef CGIBOX_PATCH_BLOB_H
#define CGIBOX_PATCH_BLOB_H

#include "fcgi/patch.h"

struct patch_blob {
	const char *p; /* never NULL once loaded */
	size_t n;
	char *own; /* heap memory, NULL for a link's target */
};

/* Reads one side; over max_bytes is ERR_LIMIT. Tree helper. */
int patch_blob_load(struct patch_blob *b, const struct patch_source *src,
	const struct patch_change *c, bool newer, int64_t max_bytes, struct err *e);
void patch_blob_clear(struct patch_blob *b);

/*
 * 1 when both sides, of the same type, hold the same bytes; 0 when not; -1 with e. Compares as it
 * reads, so the size of the files does not matter. Tree helper.
 */
int patch_blob_same(const struct patch_source *src, const struct patch_change *c, struct err *e);

#define OWN_BLOB __attribute__((cleanup(patch_blob_clear))) struct patch_blob

#endif

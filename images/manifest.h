/*
 * The JSON documents of image distribution: manifests and indexes (OCI image-spec manifest.md,
 * image-index.md; Docker schema 2), configs (config.md) and the manifest.json of `docker save`.
 * All come from strangers: pure functions over bytes, bounded in size, depth and count.
 */
#ifndef CGIBOX_MANIFEST_H
#define CGIBOX_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/record.h"
#include "isolate/err.h"

enum { MANIFEST_MAX = 4 << 20 }; /* bytes; the distribution-spec's bound */

enum media {
	MEDIA_OTHER,
	MEDIA_INDEX,
	MEDIA_MANIFEST,
	MEDIA_CONFIG,
	MEDIA_LAYER, /* tar, plain or compressed */
};

struct descriptor {
	char digest[72]; /* "sha256:" and 64 digits */
	int64_t size;    /* bytes */
	enum media media;
};

struct manifest {
	struct descriptor config, *layers; /* bottom first */
	size_t nlayers;
};

/* What a media type, as it stands in a document or a Content-Type, means. */
enum media manifest_media(const char *type);

/* What the document itself is: MEDIA_MANIFEST, MEDIA_INDEX or MEDIA_OTHER. */
enum media manifest_kind(const char *text, size_t n);

int manifest_parse(
	const char *text, size_t n, int64_t layers_max, struct manifest *out, struct err *e);
void manifest_clear(struct manifest *m);

/* Picks the entry of an index that is for this machine. */
int manifest_pick(const char *text, size_t n, struct descriptor *out, struct err *e);

/*
 * Takes layers, environment, working directory and user of a config into out, which is cleared
 * first; layers are then topmost first. ERR_REQUEST for one we do not run.
 */
int manifest_config(
	const char *text, size_t n, int64_t layers_max, struct record *out, struct err *e);

/* The only image of a `docker save` manifest.json: file names inside, bottom first. */
struct saved {
	char *config, **layers;
	size_t nlayers;
};
int manifest_saved(
	const char *text, size_t n, int64_t layers_max, struct saved *out, struct err *e);
void saved_clear(struct saved *s);

#endif

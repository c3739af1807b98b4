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

#include "images/platform.h"
#include "images/record.h"
#include "isolate/err.h"

enum { MANIFEST_MAX = 4 << 20 }; /* bytes; the distribution-spec's bound */

enum media {
	MEDIA_OTHER,
	MEDIA_INDEX,
	MEDIA_MANIFEST,
	MEDIA_CONFIG,
	MEDIA_LAYER,   /* tar, plain or compressed */
	MEDIA_FOREIGN, /* a layer that its publisher alone may distribute */
	MEDIA_SCHEMA1, /* the image format before 2016 */
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

/*
 * Reads any of these documents, strictly. The caller's (json_object_put()); NULL with ERR_REQUEST
 * when it is too large, too deep or no JSON.
 */
struct json_object *manifest_json(const char *text, size_t n, const char *what, struct err *e);

/* What a media type, as it stands in a document or a Content-Type, means. */
enum media manifest_media(const char *type);

/* What the document itself is: MEDIA_MANIFEST, MEDIA_INDEX or MEDIA_OTHER. */
enum media manifest_kind(const char *text, size_t n);

/*
 * Whether a Content-Type (may be "") and what the document says of itself agree; otherwise one
 * program reads an index where another reads an image (CVE-2021-41190).
 */
int manifest_check_type(const char *text, size_t n, const char *content_type, struct err *e);

int manifest_parse(
	const char *text, size_t n, int64_t layers_max, struct manifest *out, struct err *e);
void manifest_clear(struct manifest *m);

/* Picks the entry of an index that fits a platform best. */
int manifest_pick(const char *text, size_t n, const struct platform *want, struct descriptor *out,
	struct err *e);

/*
 * Takes layers, environment, arguments, labels, working directory and user of a config into out, which is cleared
 * first; layers are then topmost first. ERR_REQUEST for one we do not run.
 */
int manifest_config(
	const char *text, size_t n, int64_t layers_max, struct record *out, struct err *e);

/* The platform that a config names; false when it names none. */
bool manifest_platform(const char *text, size_t n, struct platform *out);

/* The only image of a `docker save` manifest.json: file names inside, bottom first. */
struct saved {
	char *config, **layers;
	size_t nlayers;
};
int manifest_saved(
	const char *text, size_t n, int64_t layers_max, struct saved *out, struct err *e);
void saved_clear(struct saved *s);

#endif

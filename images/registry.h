/*
 * A registry over HTTP (OCI distribution-spec, "Pull"), by libcurl. The registry is a stranger:
 * sizes, times, redirects and addresses are bounded here; digests are checked by the caller.
 */
#ifndef CGIBOX_REGISTRY_H
#define CGIBOX_REGISTRY_H

#include "images/ingest.h"
#include "images/ref.h"

struct registry;

/*
 * r must be filled in (ref_fill_all). Plain http is used for a host that insecure_registries
 * lists, and only then may it have a loopback or private address. NULL on error.
 */
struct registry *registry_open(const struct ref *r, const struct conf *c, struct err *e);
void registry_close(struct registry *g); /* NULL is fine */

/* The manifest or index that a tag or digest names, appended to out. */
int registry_manifest(
	struct registry *g, const char *tag_or_digest, struct buf *out, struct err *e);

/* A source.fetch: arg is the registry. Manifests by MEDIA_MANIFEST, everything else as a blob. */
int registry_fetch(void *arg, const struct descriptor *part, ingest_sink_fn *sink, void *sink_arg,
	struct err *e);

#endif

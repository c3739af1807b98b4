/*
 * A registry over HTTP (OCI distribution-spec, "Pull"). The registry is a stranger: redirects,
 * logins, retries and mirrors are decided here, bounds of one exchange in http.c; digests of
 * parts are checked by the caller. Used by the program `image`.
 */
#ifndef CGIBOX_REGISTRY_H
#define CGIBOX_REGISTRY_H

#include "images/ingest.h"
#include "images/ref.h"

enum { REDIRECTS_MAX = 5, TRIES_MAX = 5, RETRY_WAIT_MAX_S = 60 };

struct registry;

/*
 * r must be filled in (ref_fill_all). for_client: credentials come from registry_auth_file only.
 * Plain http is used for what insecure_registries lists; addresses that are not public need to be
 * listed there or in private_registries. NULL on error.
 */
struct registry *registry_open(
	const struct ref *r, const struct conf *c, bool for_client, struct err *e);
void registry_close(struct registry *g); /* NULL is fine */

/*
 * The manifest or index that a tag or digest names, appended to out: checked against the digest,
 * against Docker-Content-Digest and Content-Type, at each mirror until one fits.
 */
int registry_manifest(
	struct registry *g, const char *tag_or_digest, struct buf *out, struct err *e);

/*
 * The functions of a struct source; arg is the registry. Fetch: manifests by MEDIA_MANIFEST,
 * everything else as a blob. An interrupted transfer is continued, also from another mirror.
 */
int registry_fetch(void *arg, const struct descriptor *part, ingest_sink_fn *sink, void *sink_arg,
	struct err *e);
/*
 * Credentials and tokens are in pages that a forked child does not get (MADV_DONTFORK), unless pass
 * was set meanwhile; they are then shared with it. As source.pass.
 */
int registry_pass(void *arg, bool pass, struct err *e);
/* In a child that got them: they become its own, so that children do not meet in them. */
int registry_own(struct registry *g, struct err *e);
/* What came was corrupt: true when there is another place to ask, which is then used. */
bool registry_another(void *arg);

#endif

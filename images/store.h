/*
 * The image store, STATE/images. Content-addressed, verified while streaming, renamed into
 * place when complete, never writable by a tenant:
 *
 *	blobs/sha256/<hex>        manifests, configs, kept as received
 *	layers/<diff id hex>/     unpacked layer: fs/ (the tree; whiteouts in overlay form with
 *	                          user.overlay.* xattrs), tree (what the archive said, treefile.h),
 *	                          done (written last). A layer whose tree depends on links below it
 *	                          (reroute.h) is named by a digest of both
 *	images/<image id hex>     record, "key value" lines: layers top first, env, workdir, user
 *	refs/<escaped name>       lines: the image id; "manifest <hex>" when it came with one, and
 *	                          "origin HOST/PATH" when that can be pulled again
 *	host/                     the built-in image "host": a skeleton of /etc and mount points
 *	tmp/                      work in progress, swept under an exclusive lock
 *
 * This header and store.c need libc only: keeper and `cgibox run` link it. Writing (import,
 * pull) lives in the program `image`.
 */
#ifndef CGIBOX_STORE_H
#define CGIBOX_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"

struct image {
	char id[72];   /* 64 hex digits, or "host" */
	char **lowers; /* absolute paths of layer trees, topmost first */
	size_t nlowers;
	char **host_binds; /* absolute host paths bound read-only at the same place; only "host" */
	size_t nhost_binds;
	char **env; /* NAME=value of the image's config */
	size_t nenv;
	char **entrypoint, **cmd; /* what is run when nobody says: first these, then those */
	size_t nentrypoint, ncmd;
	char *workdir;  /* absolute, or NULL */
	char *user;     /* as written in the config, or NULL; unparsed */
	uint64_t bytes; /* unpacked size, 0 when unknown */
	int *pins;      /* descriptors that hold the layers, until image_clear() */
	size_t npins;
};

struct store; /* an open store: directory descriptors, no cache */

/* Opens (and on first use creates, mode 0700) STATE/images. NULL on error. */
struct store *store_open(const char *state_dir, struct err *e);
void store_close(struct store *s); /* NULL is fine */

/*
 * Looks ref up: "host", a name as imported, a registry reference (normalised: docker.io/library/
 * and :latest are filled in when the short name is not there), or an image id of at least 12
 * digits. ERR_REQUEST for a malformed reference, ERR_NOTFOUND when absent (the message names the
 * command to type), ERR_SETUP for a damaged record. What out names is not removed by anybody
 * until image_clear(): a shared flock(2) on each directory of layers/ and host/. A session's spec
 * must be written before that; what it names is then in use. Keeper and `cgibox run`; never blocks on a
 * pull. Prepares or refreshes the skeleton of "host".
 */
int store_resolve(struct store *s, const char *ref, struct image *out, struct err *e);
void image_clear(struct image *im);

/* Whether ref is well-formed: <= 255 bytes, the grammar of distribution/reference. Pure. */
bool store_ref_valid(const char *ref);

#endif

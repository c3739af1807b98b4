/*
 * Removing what nobody uses. The store's lock, held alone, keeps writers away; sandboxes that are
 * being started hold a lock on what they use (store.h), sessions name it in their specs. So a part
 * goes in this order: its own lock, the sessions' specs, one rename out of sight, the files.
 */
#ifndef CGIBOX_COLLECT_H
#define CGIBOX_COLLECT_H

#include "images/uses.h"

/* What happens to a part of the store. */
struct collect_event {
	const char *what; /* "image", "layer", "blob", "skeleton", "tmp" or "reference" */
	const char *name;
	uint64_t bytes;      /* of contents, 0 when unknown */
	const char *kept_by; /* NULL: removed; else "session", "image", "sandbox" or "command" */
	const char *who;     /* id of the session or image, or "" */
};

struct collect {
	struct store *store;
	bool dry;                                                /* tell, and remove nothing */
	void (*tell)(void *arg, const struct collect_event *ev); /* NULL: nobody asks */
	void *arg;
};

/*
 * Removes images without a name, and layers, blobs, old skeletons of "host" and temporary files
 * that nothing uses. ERR_BUSY while somebody writes to the store.
 */
int collect_all(const struct collect *c, struct err *e);

/* Those of n layers (64 digits each) that nothing uses: what a failed pull brought in. */
int collect_layers(const struct collect *c, char (*ids)[65], size_t n, struct err *e);

/*
 * Takes a name away; text is a reference, or the id of an image that has one name or none. With
 * the last name the image goes, and what nothing else uses; while somebody writes to the store
 * that is left for collect_all() (kept_by "command").
 */
int collect_remove(const struct collect *c, const char *text, struct err *e);

#endif

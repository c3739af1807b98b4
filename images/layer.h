/*
 * One image layer on its way into the store. A child process that has entered the new directory
 * as its root unpacks what it is fed through a pipe, so a broken decompressor or tar parser
 * reaches nothing but that directory. The layer becomes visible by one rename.
 */
#ifndef CGIBOX_LAYER_H
#define CGIBOX_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/reroute.h"
#include "images/store.h"
#include "isolate/err.h"

struct layer;

struct layer_limits {
	bool plain;         /* not a layer but an archive that holds an image: never committed */
	uint64_t bytes_max; /* packed, and also unpacked */
	uint64_t entries_max;
	uint64_t ratio_max; /* unpacked over packed; 0 = none */
	unsigned time_max_s;
	uint64_t
		*unpacked; /* shared memory: bytes of the plain archive so far; NULL: nobody asks */
	/* The store's lock, which the child holds too: nobody sweeps while it may still write,
	 * even when its parent was killed. */
	int lock;
};

struct layer_result {
	char diff_id[65]; /* digest of the plain tar */
	uint64_t bytes;   /* contents of its files */
	uint64_t entries, skipped;
	uint64_t setid; /* files whose set-id bits were removed */
	bool rerouted;  /* the tree depends on the links that layer_begin() was given */
};

/*
 * Starts the child. links (may be NULL) are those of the lower layers. NULL on error. Called by
 * the program `image`, which is single-threaded.
 */
struct layer *layer_begin(const struct store *s, const struct layer_limits *lim,
	const struct reroute *links, struct err *e);

/* Hands over more of the archive. Blocks. -1 with the child's error when it gave up. */
int layer_feed(struct layer *l, const void *p, size_t n, struct err *e);

/* Ends the archive and waits for the child. */
int layer_end(struct layer *l, struct layer_result *out, struct err *e);

/*
 * After layer_end(): makes the layer visible as layers/<id>; one that is there is kept. id is the
 * diff id, or for a rerouted tree what stands for the diff id and the links.
 */
int layer_commit(struct layer *l, const char *id, struct err *e);

/* Ends the child and removes what was not committed. Call it always. NULL is fine. */
void layer_free(struct layer *l);

/* After layer_end(): the unpacked tree. A descriptor, the caller's. */
int layer_tree(const struct layer *l, struct err *e);

/* Whether the layer is in the store, whole. */
bool layer_present(const struct store *s, const char *diff_id);

/* The unpacked size that layer_commit() noted; 0 when it is not known. */
uint64_t layer_bytes(const struct store *s, const char *diff_id);

/* What layer_commit() noted. */
struct layer_note {
	uint64_t bytes;
	unsigned crc;                      /* of the file "tree" */
	unsigned long long setid, dropped; /* see struct inventory_sum */
};
/* false: the note is missing or damaged; out then holds what could be read. */
bool layer_note(const struct store *s, const char *diff_id, struct layer_note *out);

/* Whether a present layer means the same above lower layers that have these links. */
bool layer_fits(const struct store *s, const char *diff_id, const struct reroute *links);

/*
 * Waits until nobody else brings in the layer that key (64 digits) stands for. A descriptor,
 * closed to unlock; layer_present() must be asked again after it. The caller holds the store's
 * lock.
 */
int layer_lock(const struct store *s, const char *key, struct err *e);

#endif

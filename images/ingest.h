/*
 * Bringing an image into the store, wherever it comes from. Everything is checked against the
 * digests of the documents that name it before it becomes visible: layers first, then blobs, the
 * record, and at last the reference. Used by the program `image` only.
 */
#ifndef CGIBOX_INGEST_H
#define CGIBOX_INGEST_H

#include "images/layer.h"
#include "images/manifest.h"
#include "images/progress.h"
#include "images/store.h"
#include "isolate/buf.h"
#include "isolate/conf.h"

struct ingest {
	struct store *store;
	const struct conf *conf;
	struct progress *progress;
	struct platform platform; /* taken from indexes; this machine's after ingest_open() */
	bool platform_asked;      /* by --platform: an image without an index must be for it */
	int lock;                 /* shared lock of the store */
	char (*brought)[65];      /* layers that were not there before; ingest_close() frees it */
	size_t nbrought;
	char manifest[65]; /* out: digits of the manifest of ingest_image() */
};

/*
 * Takes the store's lock. Opening and closing sweep what dead writers left, when nobody else
 * writes.
 */
int ingest_open(struct ingest *in, struct store *s, const struct conf *c, struct progress *p,
	struct err *e);
void ingest_close(struct ingest *in);

/*
 * Instead of ingest_close() after a failure with e: what was refused leaves no layer behind; what
 * the network broke keeps those that are whole for the next try.
 */
void ingest_abandon(struct ingest *in, const struct err *e);

typedef int ingest_sink_fn(void *arg, const void *p, size_t n, struct err *e);

/*
 * Where parts come from. fetch() gives the bytes of a part to sink in order and returns -1 when
 * either side fails. Digest and size are checked by the caller, not by fetch().
 */
struct source {
	int (*fetch)(void *arg, const struct descriptor *part, ingest_sink_fn *sink, void *sink_arg,
		struct err *e);
	void *arg;
	/* Called before a fork: gives up what parent and child must not share. NULL: nothing. */
	void (*apart)(void *arg);
	/*
	 * Whether children that are forked from here on get what logs in: only those that fetch,
	 * none that unpacks. NULL: there are no secrets.
	 */
	int (*pass)(void *arg, bool pass, struct err *e);
	/*
	 * In a child, after a part was corrupt: true when there is another place to ask, which is
	 * asked from now on. NULL: there is none.
	 */
	bool (*another)(void *arg);
};

/* Fetches a document (config or manifest) whole, checked. out is appended to. */
int ingest_document(
	const struct source *src, const struct descriptor *d, struct buf *out, struct err *e);

/*
 * Brings in the image of a manifest or, at most one level deep, an index. id receives its 64
 * digits.
 */
int ingest_image(struct ingest *in, const struct source *src, const char *text, size_t n,
	char id[65], struct err *e);

/*
 * Brings in the layers of r (topmost first) from parts (bottom first), several at once (crew.h);
 * size -1 and an empty digest are not checked. A diff id in r is replaced where the layer depends
 * on those below. In ingest_layers.c.
 */
int ingest_layers(struct ingest *in, const struct source *src, struct record *r,
	const struct descriptor *parts, size_t nparts, struct err *e);

/* Takes one archive whose digest nobody told; diff_id and size are results. */
int ingest_archive(
	struct ingest *in, const struct source *src, struct layer_result *out, struct err *e);

/*
 * Whether a config is for in->platform: ERR_REQUEST when --platform asked for another, else a
 * warning, since what runs would find out by "Exec format error" only.
 */
int ingest_platform(const struct ingest *in, const char *config, size_t n, struct err *e);

/* Writes config and record; id is the digest of the config. */
int ingest_record(struct ingest *in, const char *config, size_t n, struct record *r, char id[65],
	struct err *e);

/*
 * Points a formatted reference at an image. origin: the "host/path" it can be pulled from again,
 * or NULL.
 */
int ingest_refer(
	struct ingest *in, const char *ref, const char *origin, const char id[65], struct err *e);

/* The limits of one layer when so many bytes of the image are spent. */
struct layer_limits ingest_limits(const struct ingest *in, uint64_t spent);

#endif

/*
 * Layers are brought in by child processes, several at once: each fetches, hashes and feeds its
 * own unpacker (layer.h), so one slow server or one large layer does not hold up the others.
 * A child that fails ends all. Children die with their parent.
 */
#ifndef CGIBOX_CREW_H
#define CGIBOX_CREW_H

#include "images/ingest.h"

struct job {
	const struct descriptor *part; /* size -1 and an empty digest are not checked */
	const char *diff_id;           /* what it must turn out to have; NULL: any */
	const struct reroute *links;   /* of the layers below; NULL: taken for none */
	const char *links_id;          /* the layer's id when they matter */

	unsigned moves; /* corrupt everywhere so far: how often source.another is called first */

	bool present;               /* out: it was there already */
	bool again;                 /* out, on failure: there is another place to try */
	char id[65];                /* out: under which it is in the store */
	struct layer_result result; /* out, unless present */
};

/*
 * Runs the jobs in order, at most pull_parallel at a time. spent: bytes of the image that are
 * there already; with them the image stays below image_max_bytes. The program `image`.
 */
int crew_run(struct ingest *in, const struct source *src, struct job *jobs, size_t n,
	uint64_t spent, struct err *e);

#endif

/* One layer from its source into the store, in the calling process. */
#ifndef CGIBOX_BRING_H
#define CGIBOX_BRING_H

#include "images/crew.h"

/* What others may watch while it goes on; in shared memory. */
struct bring_watch {
	uint64_t received; /* bytes of the packed layer */
	uint64_t unpacked; /* bytes of the plain archive */
};

/*
 * Waits until no other process brings in the same layer, then does so unless it is there. Fills
 * the results of j. Forks the unpacker before anything is asked of the source.
 */
int bring_layer(struct ingest *in, const struct source *src, struct job *j, uint64_t spent,
	struct bring_watch *watch, struct err *e);

/* The id of a layer that is here and means the same above these links, or NULL. */
const char *bring_find(const struct store *s, const struct job *j);

#endif

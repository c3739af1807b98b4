/* A layer of the store as an archive again. */
#ifndef CGIBOX_PACK_H
#define CGIBOX_PACK_H

#include "images/digest.h"
#include "images/ingest.h"

struct packed {
	char diff_id[65]; /* of the plain archive */
	char digest[65];  /* of what was written */
	uint64_t size;    /* bytes of that */
};

/*
 * Writes a layer to fd as a tar archive, compressed by gzip: owners, modes and devices as in the archive it
 * came from, whiteouts as .wh. files. The same layer gives the same bytes.
 */
int pack_layer(const struct store *s, const char *layer, unsigned time_max_s, int fd,
	struct packed *out, struct err *e);

#endif

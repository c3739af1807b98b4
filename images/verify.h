/* `image verify`: whether the store still holds what came in, and repairs by pulling again. */
#ifndef CGIBOX_VERIFY_H
#define CGIBOX_VERIFY_H

#include "images/ingest.h"

struct verify {
	struct ingest *in;
	bool repair;
	bool for_client;
	/* Called for each damage. what: "reference", "image", "blob", "layer"; path: escaped, inside a layer. */
	void (*damaged)(
		void *arg, const char *what, const char *name, const char *path, const char *why);
	/* Called for each image that was pulled again or rebuilt, or could not be (why != NULL). */
	void (*repaired)(void *arg, const char *id, const char *why);
	void *arg;
	unsigned long count; /* out: damages found */
	unsigned long left;  /* out: damaged images that are so still */
};

/* Looks at one image, or at all with ref NULL. -1: it could not be done. */
int verify_store(struct verify *v, const char *ref, struct err *e);

#endif

/* `image pull REF`: an image from a registry. */
#ifndef CGIBOX_PULL_H
#define CGIBOX_PULL_H

#include "images/ingest.h"

/*
 * Fetches what ref names, for in->platform, and stores it under its full name
 * (docker.io/library/NAME:TAG for a short one). for_client: somebody else caused it, so
 * pull_allowed holds and only registry_auth_file gives credentials. id receives its 64 digits.
 * ERR_NOTFOUND when the registry does not have it.
 */
int pull_image(struct ingest *in, const char *ref, bool for_client, char id[65], struct err *e);

/* Brings in what a manifest (64 digits) of origin, "host/path", names; no reference changes. */
int pull_again(struct ingest *in, const char *origin, const char *manifest, bool for_client,
	char id[65], struct err *e);

#endif

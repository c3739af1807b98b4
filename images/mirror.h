/* The places that serve a registry's repositories: its mirrors in order, then the registry. */
#ifndef CGIBOX_MIRROR_H
#define CGIBOX_MIRROR_H

#include "images/endpoint.h"
#include "images/ref.h"

enum { MIRRORS_MAX = 8 };

/*
 * Fills out[] from registry_mirrors and r, which is filled in (ref_fill_all). names[] are the
 * names under which credentials are kept. Returns how many, -1 with ERR_CONF. Pure.
 */
int mirror_places(const struct ref *r, const struct conf *c, struct endpoint out[MIRRORS_MAX + 1],
	char names[MIRRORS_MAX + 1][256], struct err *e);

/* Whether pull_allowed lets clients cause a pull of r. Pure. */
bool mirror_allowed(const struct ref *r, const char *list);

#endif

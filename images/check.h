/* Whether an unpacked layer still is what its list says. */
#ifndef CGIBOX_CHECK_H
#define CGIBOX_CHECK_H

#include "images/layout.h"

enum { CHECK_TOLD_MAX = 100 }; /* damaged files of a layer that are named */

/*
 * Reads every file of a layer. tell() is called for each damage with a path (escaped) or "", and
 * what is wrong. Returns how many there are, -1 when they could not be looked for.
 */
long check_layer(const struct store *s, const char *layer, unsigned time_max_s,
	void (*tell)(void *arg, const char *path, const char *what), void *arg, struct err *e);

#endif

/*
 * Where a request goes: scheme, host and port, and what sandbox.conf says about that place.
 * An answer's Location and a challenge's realm are a stranger's text: only endpoint_of_url() and
 * endpoint_join() read them. Pure; used by the program `image`.
 */
#ifndef CGIBOX_ENDPOINT_H
#define CGIBOX_ENDPOINT_H

#include <stdbool.h>

#include "isolate/conf.h"
#include "isolate/err.h"

enum { URL_BYTES_MAX = 8192 };

struct endpoint {
	bool tls;
	char host[256]; /* lower case; an IPv6 literal in brackets */
	int port;
};

/* Of "host[:port]" as in a reference or a key; http when insecure_registries lists it. */
bool endpoint_of_name(struct endpoint *out, const char *name, const struct conf *c);

/*
 * Of a whole URL. ERR_REQUEST for another scheme than http and https, for user information, and
 * for what is no URL.
 */
int endpoint_of_url(struct endpoint *out, const char *url, struct err *e);

/* Resolves a Location against the URL it came from. Returns heap memory, NULL with e. */
char *endpoint_join(const char *base, const char *location, struct err *e);

/* Same scheme, host and port: what credentials may be sent to. */
bool endpoint_same(const struct endpoint *a, const struct endpoint *b);

/*
 * Whether we may go there: https anywhere, http only when insecure_registries lists it, an
 * address literal that is not public only when one of the two lists does.
 */
int endpoint_check(const struct endpoint *ep, const struct conf *c, struct err *e);

/* Whether names of this endpoint may lead to addresses that are not public. */
bool endpoint_inner_ok(const struct endpoint *ep, const struct conf *c);

/* "host" or "host:port" when the port is not the scheme's own. */
const char *endpoint_name(const struct endpoint *ep, char out[272]);

#endif

/*
 * A client's request on its way to a server inside a sandbox, and that server's headers on their way
 * back. What is ours (keys, cookies of other sites on this host) does not go in; what would act on
 * this host's name or on the web server before us does not come out. Pure; worker.
 */
#ifndef CGIBOX_FORWARD_H
#define CGIBOX_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"

struct forward {
	char *const *params; /* FastCGI parameters, "NAME=value", NULL-ended */
	const char *method;
	const char *prefix; /* path of the port as the client wrote it: ".../ports/8080" */
	const char *target; /* what follows it: "", or a path with or without a query */
	unsigned port;
	const char *mark;        /* before the names of the port's cookies, outside */
	const char *keys[2];     /* ours; "" = none */
	const char *page_rights; /* of pages, beyond none: words of CSP's sandbox */
	int64_t length;          /* of the body; 0 = none */
};

/* Whether the client wants another protocol (RFC 9110, 7.8). */
bool forward_upgrades(char *const *params);

/* Appends the request's head. False: a part is out of shape. */
bool forward_request(const struct forward *f, struct buf *out);

/* Appends one header of the answer, or what becomes of it, with its line end; perhaps nothing. */
void forward_header(const struct forward *f, int status, const char *name, size_t name_len,
	const char *value, size_t value_len, struct buf *out);

/* Appends what every answer gets. */
void forward_guard(const struct forward *f, struct buf *out);

#endif

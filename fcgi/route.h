/* From a path and a method to an entry of a dialect's route table. Pure; any process. */
#ifndef CGIBOX_ROUTE_H
#define CGIBOX_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "fcgi/http.h"
#include "fcgi/url.h"

enum route_flag {
	ROUTE_OPEN = 1,     /* no API key */
	ROUTE_JSON = 2,     /* takes a JSON body */
	ROUTE_ARCHIVE = 4,  /* whose member "archive" is wanted */
	ROUTE_EMPTY = 64,   /* with ROUTE_JSON: no body at all is good, too */
	ROUTE_RAW = 32,     /* reads its body itself, to the end: dialect.h, body_drain() */
	ROUTE_METRICS = 16, /* metrics_key and a Bearer token do, too, and perhaps loopback */
	ROUTE_PAGES =
		128, /* without a key also for pages that have no origin, as those of sandboxes */
	ROUTE_SLASH = 8, /* the trailing slash is part of the path: without it, another dialect's */
};

enum { ROUTE_PARAMS = 2 }; /* at most, in one path */

struct dialect_call;

struct route {
	enum http_method method;
	const char *path; /* without slashes at its ends; "*" stands for one segment, a parameter;
			 "**" at the end for one or more */
	unsigned flags;   /* enum route_flag */
	void (*handle)(struct dialect_call *c); /* leaves a whole response */
};

/*
 * Finds the route for url and method, with or without prefix ("/api/v1", may be empty). params
 * become the segments that "*" stand for, or NULL; they lie in url, where the segments that "**"
 * stands for are put together again. NULL: no such path, and *allow is
 * NULL; or the path has other methods, and *allow names that of its first route, which is all
 * that the original names.
 */
const struct route *route_find(const struct route *table, size_t n, const char *prefix,
	struct url *url, enum http_method method, const char *params[ROUTE_PARAMS],
	const char **allow);

#endif

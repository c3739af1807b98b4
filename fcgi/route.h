/* From a path and a method to an entry of a dialect's route table. Pure; any process. */
#ifndef CGIBOX_ROUTE_H
#define CGIBOX_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "fcgi/http.h"
#include "fcgi/url.h"

enum route_flag {
	ROUTE_OPEN = 1,    /* no API key */
	ROUTE_JSON = 2,    /* takes a JSON body */
	ROUTE_ARCHIVE = 4, /* whose member "archive" is wanted */
	ROUTE_EMPTY = 16,  /* with ROUTE_JSON: no body at all is good, too */
	ROUTE_SLASH = 8, /* the trailing slash is part of the path: without it, another dialect's */
};

struct dialect_call;

struct route {
	enum http_method method;
	const char *path; /* without slashes at its ends; "*" stands for one segment, the parameter;
			 "**" at the end for one or more */
	unsigned flags;   /* enum route_flag */
	void (*handle)(struct dialect_call *c); /* leaves a whole response */
};

/*
 * Finds the route for url and method, with or without prefix ("/api/v1", may be empty). *param
 * is the segment that the last "*" stands for, or NULL (url->star has them all); it lies in url, where the segments that "**" stands
 * for are put together again. NULL: no such path, and *allow is
 * NULL; or the path has other methods, and *allow names that of its first route, which is all
 * that the original names.
 */
const struct route *route_find(const struct route *table, size_t n, const char *prefix,
	struct url *url, enum http_method method, const char **param, const char **allow);

#endif

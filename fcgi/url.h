/*
 * The path of a REQUEST_URI, decoded once. Segments are cut before decoding, so an encoded
 * slash is part of a segment and matches nothing; "." and ".." are ordinary names that no route
 * has. Pure; any process. RFC 3986.
 */
#ifndef CGIBOX_URL_H
#define CGIBOX_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "isolate/err.h"

enum { URL_PATH_MAX = 1024, URL_SEGMENTS_MAX = 16, URL_STARS_MAX = 4 };

struct url {
	char text[URL_PATH_MAX + URL_SEGMENTS_MAX]; /* the segments, each with a NUL */
	const char *segment[URL_SEGMENTS_MAX];
	size_t nsegments;
	bool slash; /* the path ends with one */
	const char
		*star[URL_STARS_MAX]; /* by route_find(): what each "*" of the route stands for */
};

/*
 * Takes the path from uri: "/path?query" or "http://host/path?query". ERR_REQUEST: no path, a
 * broken escape, a NUL, bytes that are no UTF-8; ERR_NOTFOUND: an empty segment or a path longer
 * than any of ours.
 */
int url_parse(const char *uri, struct url *out, struct err *e);

/*
 * The value of a parameter of uri's query ("a=1&b=2"), decoded ("+" is a blank) into out, with a NUL. 1,
 * 0 when it is not there, -1 when it is there twice, broken, or has more than size - 1 bytes.
 */
int url_query(const char *uri, const char *key, char *out, size_t size);

/* Number of bytes of uri before its query. */
size_t url_path_length(const char *uri);

#endif

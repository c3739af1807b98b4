/* Ranges, pieces and tags of files: RFC 9110, sections 8.8.3 and 14. Pure; runs in a worker. */
#ifndef CGIBOX_NATIVE_RANGE_H
#define CGIBOX_NATIVE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi/files.h"

enum { NATIVE_TAG_MAX = 64 };

/* A Range of one part. Several parts and what is malformed are as if there were none, as the RFC allows. */
struct native_range {
	bool given;
	int64_t from, length; /* length 0: to the end */
	int64_t last;         /* > 0: the last so many bytes */
};
struct native_range native_range(const char *header);

/* A Content-Range of a request: first..last of total, or probe, for the question where it stands. */
struct native_piece {
	bool probe;
	int64_t first, last, total;
};
bool native_piece(const char *header, struct native_piece *out);

/* The tag of a file as it is now. Returns out. */
const char *native_tag(const struct files_result *r, char out[NATIVE_TAG_MAX]);

/* Whether If-None-Match (NULL: no) names tag. */
bool native_tag_matches(const char *header, const char *tag);

#endif

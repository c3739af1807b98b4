/*
 * The guard in front of the JSON library: checks a request body while it arrives and takes the
 * archive out of it. Strict RFC 8259: valid UTF-8, no NaN, no unpaired surrogates, no duplicate
 * or NUL-holding member names, bounded depth and number of values. json-c lets all of these
 * through, and costs a hundred bytes for an empty array.
 *
 * The document is copied to a bounded buffer, except the value of the top-level member
 * "archive" when that is a string: it is base64-decoded into a descriptor as it arrives and
 * stands as "..." in the copy. Memory does not grow with the archive.
 *
 * Duplicate names are refused where Python's json takes the last one: a front end that checks
 * the first and a back end that uses the last is an old way around a check.
 *
 * No state outside the struct; runs in a worker.
 */
#ifndef CGIBOX_JSON_SCAN_H
#define CGIBOX_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fcgi/base64.h"
#include "fcgi/utf8.h"
#include "isolate/buf.h"
#include "isolate/err.h"

enum {
	JSON_DEPTH_MAX = 64,
	JSON_VALUES_MAX = 65536, /* each costs json-c 100 to 400 bytes */
};

/* What the top-level member "archive" was. */
enum json_archive {
	JSON_ARCHIVE_ABSENT, /* not there, or no string */
	JSON_ARCHIVE_EMPTY,  /* "" */
	JSON_ARCHIVE_DATA,   /* a string with something in it; see .base64 for faults */
};

struct json_scan_plan {
	bool copy;           /* false: only check, keep nothing */
	int archive_fd;      /* borrowed, -1: the archive's bytes are dropped unseen */
	int64_t copy_max;    /* bytes of the document without its archive */
	int64_t archive_max; /* bytes decoded */
};

struct json_name { /* a member name of an object that is still open */
	uint64_t hash;
	size_t pos; /* characters, of its quote */
};

struct json_scan {
	struct json_scan_plan plan;

	/* With .plan.archive_fd -1: asked at the first bytes of an archive for where they go (borrowed);
	 * -1 with e ends the scan. May be set after json_scan_init(). */
	int (*open_archive)(void *arg, struct err *e);
	void *open_arg;
	struct buf copy; /* the document; whole after json_scan_end() */

	/* the result for the archive */
	enum json_archive archive;
	struct base64 base64;
	int64_t archive_bytes; /* decoded and written */

	/* why the document is not JSON, in the words and with the position of Python's json */
	char fault[96];
	size_t fault_pos; /* characters from the start of the body */

	/* where we are */
	int state;
	size_t pos;   /* characters before the current byte */
	size_t start; /* of the current value or name */
	size_t mark;  /* of the current escape, or of a number's unfinished part */
	size_t first; /* of the escape that .high came from */
	struct utf8 utf8;
	uint64_t values;
	unsigned depth;
	uint64_t arrays; /* bit per open container: it is an array */
	const char *literal;
	uint32_t hex, high; /* of a \u escape; high: a first surrogate that waits for its second */
	uint8_t hex_left;
	bool is_name, is_archive, hex_just;
	uint8_t name_len; /* of the current name, stops at 255 */
	char name[8];     /* its start */
	uint64_t hash;
	struct json_name *names; /* of all open objects, innermost last */
	size_t nnames, names_cap;
	size_t first_name[JSON_DEPTH_MAX + 1];
};

void json_scan_init(struct json_scan *s, const struct json_scan_plan *plan);
void json_scan_clear(struct json_scan *s);

/*
 * Takes the next n bytes of the body. ERR_REQUEST: no JSON, see .fault and .fault_pos; ERR_LIMIT:
 * a bound was passed; ERR_SETUP: the archive could not be written. After an error feed no more.
 */
int json_scan_feed(struct json_scan *s, const void *p, size_t n, struct err *e);

/* The body has ended. ERR_REQUEST as above. */
int json_scan_end(struct json_scan *s, struct err *e);

#endif

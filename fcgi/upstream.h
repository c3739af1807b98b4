/*
 * The answer of an HTTP server inside a sandbox, whose bytes are a tenant's: its head, and the framing of
 * its body. Pure functions with bounds; what is not clearly HTTP/1 is refused, not repaired, so
 * that nobody behind us reads it differently. RFC 9110, RFC 9112. Worker.
 */
#ifndef CGIBOX_UPSTREAM_H
#define CGIBOX_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"
#include "isolate/err.h"

enum {
	UPSTREAM_HEAD_MAX = 64 << 10, /* bytes of the status line and all headers */
	UPSTREAM_HEADERS_MAX = 200,
	UPSTREAM_LINE_MAX = 4096,     /* of the line before a chunk */
	UPSTREAM_TRAILERS_MAX = 8192, /* bytes behind the last chunk */
};

struct upstream_head {
	int status;     /* 100 to 599 */
	int64_t length; /* of the body as Content-Length says; -1: it does not */
	bool chunked;
};

/*
 * The size of the head at the start of n bytes, its empty line included; 0: its end is not there yet;
 * -1: more than UPSTREAM_HEAD_MAX bytes.
 */
long upstream_head_size(const char *p, size_t n);

/* One header; neither text is NUL-ended, and the value holds no control character but HT. */
typedef void upstream_header_fn(
	void *arg, const char *name, size_t name_len, const char *value, size_t value_len);

/*
 * Takes a head of n bytes apart, as upstream_head_size() found it. fn (NULL: not wanted) is called for each
 * header in order. ERR_REQUEST: malformed, ambiguous about its length, or of another protocol.
 */
int upstream_head_parse(const char *p, size_t n, struct upstream_head *out, upstream_header_fn *fn,
	void *arg, struct err *e);

enum upstream_framing { UPSTREAM_NONE, UPSTREAM_LENGTH, UPSTREAM_CHUNKED, UPSTREAM_TO_END };

struct upstream_body {
	enum upstream_framing framing;
	bool done;
	/* the decoder's own */
	uint64_t left;
	int state;
	unsigned digits;
	size_t line;
};

/* How the body of such an answer is framed (RFC 9112, 6.3). no_body: the request was a HEAD. */
void upstream_body_init(struct upstream_body *b, const struct upstream_head *h, bool no_body);

/*
 * Decodes the next n bytes to out. 0, and b->done when that was all; bytes behind the end are dropped.
 * ERR_REQUEST: malformed.
 */
int upstream_body_feed(
	struct upstream_body *b, const char *p, size_t n, struct buf *out, struct err *e);

/* Whether the body may end here, where the connection did. */
bool upstream_body_may_end(const struct upstream_body *b);

#endif

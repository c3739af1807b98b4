/*
 * multipart/form-data (RFC 7578, RFC 2046) while it arrives: constant memory, whatever the parts hold.
 * Pure but for what the callbacks do; runs in a worker.
 */
#ifndef CGIBOX_MULTIPART_H
#define CGIBOX_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "isolate/err.h"

enum {
	MULTIPART_BOUNDARY_MAX = 70,  /* RFC 2046, 5.1.1 */
	MULTIPART_HEADERS_MAX = 8192, /* bytes of one part's headers */
	MULTIPART_NAME_MAX = 255,     /* of a field or a file; a longer one is refused */
	MULTIPART_PARTS_MAX = 1000,
};

struct multipart {
	/* The next part: name is that of the field, filename "" when it has none. -1 with e: stop. */
	int (*begin)(void *arg, const char *name, const char *filename, struct err *e);
	int (*data)(void *arg, const void *p, size_t n, struct err *e);
	int (*end)(void *arg, struct err *e);
	void *arg;

	/* the parser's own */
	char delimiter[MULTIPART_BOUNDARY_MAX + 5]; /* CR LF - - boundary */
	size_t delimiter_len, matched;
	int state;
	unsigned parts;
	bool dash; /* of the two behind the last delimiter, one was seen */
	char headers[MULTIPART_HEADERS_MAX + 1];
	size_t headers_len;
};

/*
 * Takes the boundary from a Content-Type; callbacks and arg are to be set by the caller. false: it is no
 * multipart/form-data with a boundary of the permitted form.
 */
bool multipart_init(struct multipart *m, const char *content_type);

/*
 * Takes the next n bytes of the body. ERR_REQUEST: malformed; ERR_LIMIT; or what a callback said. After
 * an error feed no more.
 */
int multipart_feed(struct multipart *m, const void *p, size_t n, struct err *e);

/* The body has ended. ERR_REQUEST: before the last delimiter. */
int multipart_end(struct multipart *m, struct err *e);

#endif

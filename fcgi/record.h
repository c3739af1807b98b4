/*
 * The 8-byte record header, the name-value pair and the few records that we answer ourselves.
 * Pure functions over bytes and lengths (FastCGI 1.0 specification, sections 3, 4 and 8).
 */
#ifndef CGIBOX_RECORD_H
#define CGIBOX_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_type {
	REC_BEGIN = 1,
	REC_ABORT = 2,
	REC_END = 3,
	REC_PARAMS = 4,
	REC_STDIN = 5,
	REC_STDOUT = 6,
	REC_GET_VALUES = 9,
	REC_GET_VALUES_RESULT = 10,
	REC_UNKNOWN_TYPE = 11,
};

enum record_status {
	REC_COMPLETE = 0,
	REC_CANT_MULTIPLEX = 1,
	REC_OVERLOADED = 2,
	REC_UNKNOWN_ROLE = 3
};

enum { REC_HEADER = 8, REC_BEGIN_BODY = 8, REC_RESPONDER = 1, REC_CONTENT_MAX = 65535 };

struct record {
	uint8_t type;              /* enum record_type, or anything */
	uint16_t id;               /* 0: a management record */
	uint16_t content, padding; /* bytes that follow the header */
};

/* Decodes a header. False: not version 1, so nothing after it means anything. */
bool record_decode(const uint8_t p[REC_HEADER], struct record *r);

void record_encode(uint8_t p[REC_HEADER], uint8_t type, uint16_t id, uint16_t content);

struct record_pair {
	const uint8_t *name, *value; /* inside the input, not terminated */
	size_t name_len, value_len;
};

/* The next name-value pair: bytes consumed, or -1 when it is cut short or lies about its size. */
long record_pair(const uint8_t *p, size_t n, struct record_pair *out);

/* Write one record each into out and return its size. */
enum { REC_FIXED = 2 * REC_HEADER };
size_t record_end(uint8_t out[REC_FIXED], uint16_t id, uint8_t status);
size_t record_unknown(uint8_t out[REC_FIXED], uint8_t type);

/*
 * The answer to the content of an FCGI_GET_VALUES record: each name that we know once, however
 * often it is asked for. Returns the size of the record in out, or -1 for malformed content.
 */
enum { REC_VALUES_MAX = 96 };
long record_values(const uint8_t *p, size_t n, uint8_t out[REC_VALUES_MAX]);

/*
 * A whole answer of at most size bytes: text (CGI headers, blank line, body) as FCGI_STDOUT, its
 * end and FCGI_END_REQUEST. Returns its size, 0 when it does not fit.
 */
size_t record_reply(uint8_t *out, size_t size, uint16_t id, const char *text);

#endif

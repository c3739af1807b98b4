/*
 * Base64 with the standard alphabet (RFC 4648, section 4), decoded while it arrives. Line
 * breaks are accepted, every other foreign byte is a fault: the lenient decoders that drop such
 * bytes corrupt URL-safe input without a word. Pure functions; any process.
 */
#ifndef CGIBOX_BASE64_H
#define CGIBOX_BASE64_H

#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"

enum base64_fault {
	BASE64_OK,
	BASE64_PADDING,  /* too little or misplaced padding */
	BASE64_ONE_OVER, /* one character too many: no bytes correspond to it */
	BASE64_ALPHABET, /* a byte that is neither of the alphabet nor a line break */
	BASE64_EXCESS,   /* data after the padding */
};

/* {0} starts it. */
struct base64 {
	uint32_t acc;   /* bits of an unfinished group of four */
	uint8_t count;  /* characters in it, 0..3 */
	uint8_t pads;   /* '=' seen */
	uint8_t fault;  /* enum base64_fault; once set, input is only skipped */
	uint64_t chars; /* data characters so far */
};

/* Bytes of output that n characters can give, the unfinished group included. */
static inline size_t base64_room(size_t n)
{
	return n / 4 * 3 + 3;
}

/*
 * Decodes p[0..n) into out, which has base64_room(n) bytes, and sets *made. Returns how many
 * characters were taken: fewer than n when it met a byte that is no part of base64, which is
 * then p[result] and is left to the caller (a quote or a backslash of JSON, or a fault).
 */
size_t base64_decode(struct base64 *b, const char *p, size_t n, uint8_t *out, size_t *made);

/* Ends the input and returns the fault, BASE64_OK when there is none. */
enum base64_fault base64_end(struct base64 *b);

/* The fault in the words of Python's binascii, which clients of the original know. */
const char *base64_fault_text(const struct base64 *b, char *buf, size_t size);

/* Appends the encoding of p[0..n), padded; to be called with n a multiple of 3 but the last time. */
int base64_encode(struct buf *to, const void *p, size_t n);

#endif

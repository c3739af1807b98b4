/*
 * A raw deflate stream (RFC 1951), a piece at a time, and the CRC-32 that gzip puts behind it.
 * Two forms of one interface, chosen when it is built: inflate_isal.c with ISA-L, which is more than
 * twice as fast, and inflate_zlib.c where that library is missing. Any process; no files.
 */
#ifndef CGIBOX_INFLATE_H
#define CGIBOX_INFLATE_H

#include <stddef.h>
#include <stdint.h>

/* What is left to read and room for what comes of it; a call moves both on. */
struct inflate_io {
	const uint8_t *in;
	uint8_t *out;
	size_t in_n, out_n;
};

enum inflated {
	INFLATE_MORE, /* all input is used */
	INFLATE_FULL, /* no room is left; there may be more to come without input */
	INFLATE_END,  /* of the stream */
	INFLATE_BAD,
};

enum { INFLATE_REST_MAX = 8 };

struct inflate;

/* The caller's, for inflate_free(), which NULL is fine for. NULL without memory. */
struct inflate *inflate_new(void);
void inflate_free(struct inflate *f);

/* Before each stream but the first. */
void inflate_reset(struct inflate *f);
enum inflated inflate_run(struct inflate *f, struct inflate_io *io);

/* After INFLATE_END: bytes that were taken and lie behind the stream, at most INFLATE_REST_MAX. */
size_t inflate_rest(const struct inflate *f, uint8_t rest[INFLATE_REST_MAX]);

/* CRC-32 of n more bytes. Start with 0. */
uint32_t inflate_crc(uint32_t crc, const void *p, size_t n);

#endif

/*
 * gzip (RFC 1952), a piece at a time: members in a row, with the checks of the format. Pure: bytes
 * in, bytes out. What follows the last member and does not begin as another one is left alone, as
 * gzip(1) does with padding.
 */
#ifndef CGIBOX_GUNZIP_H
#define CGIBOX_GUNZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/inflate.h"

struct gunzip;

/* The caller's, for gunzip_free(), which NULL is fine for. NULL without memory. */
struct gunzip *gunzip_new(void);
void gunzip_free(struct gunzip *g);

/*
 * INFLATE_END: what is left of the input belongs to no member. INFLATE_BAD: gunzip_why() says what
 * is wrong; what was written so far is of no use. Both are for good. Any process.
 */
enum inflated gunzip_run(struct gunzip *g, struct inflate_io *io);

/* Whether the input may end here; else it was cut off. */
bool gunzip_whole(const struct gunzip *g);

/* After INFLATE_BAD, or when the input ended too early. A constant. */
const char *gunzip_why(const struct gunzip *g);

#endif

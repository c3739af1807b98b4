/* Addresses and networks as text: "10.0.0.0/8", "2001:db8::1". Pure; a fuzz target. */
#ifndef CGIBOX_CIDR_H
#define CGIBOX_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"

enum { CIDR_LIST_MAX = 128, CIDR_TEXT_MAX = 50 /* bytes, with the NUL */ };

struct cidr {
	uint8_t v6;       /* 0: IPv4, in the first four bytes of addr; 1: IPv6 */
	uint8_t bits;     /* length of the prefix, 0..32 or 0..128 */
	uint8_t addr[16]; /* network byte order; zero beyond the prefix and, for IPv4, the size */
};

/*
 * Parses n bytes: an address, or an address, "/" and the length of the prefix in decimal. Strict:
 * four decimal parts without leading zeros or RFC 5952's forms, no zone, nothing behind, and no
 * bit set beyond the prefix. IPv4 addresses in IPv6 clothes (::ffff:0:0/96) are refused: the
 * route that they mean is the IPv4 one. ERR_CONF. Any process.
 */
int cidr_parse(const char *text, size_t n, struct cidr *out, struct err *e);

/* Parses networks separated by blanks or commas into at most max; their number goes to *n. */
int cidr_list_parse(const char *text, struct cidr *out, size_t max, size_t *n, struct err *e);

/* Whether every address of `in` is one of `net`. */
bool cidr_covers(const struct cidr *net, const struct cidr *in);

/* Writes "ADDRESS/BITS" and returns text. */
const char *cidr_text(const struct cidr *c, char text[CIDR_TEXT_MAX]);

#endif

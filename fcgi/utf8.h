/*
 * UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing over U+10FFFF. Pure
 * functions; any process.
 */
#ifndef CGIBOX_UTF8_H
#define CGIBOX_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A validator that takes one byte at a time, for text that arrives in pieces. {0} starts it. */
struct utf8 {
	uint8_t need;   /* continuation bytes still to come */
	uint8_t lo, hi; /* bounds of the next one */
};

/* Takes one byte. false: it cannot stand here; the state is then of no further use. */
bool utf8_push(struct utf8 *u, uint8_t byte);

/* Whether the text so far ends between two characters. */
static inline bool utf8_whole(const struct utf8 *u)
{
	return u->need == 0;
}

/* Number of leading bytes of p that are whole, valid characters. */
size_t utf8_valid_prefix(const void *p, size_t n);

/* Whether all n bytes are. */
static inline bool utf8_valid(const void *p, size_t n)
{
	return utf8_valid_prefix(p, n) == n;
}

/*
 * For p[0..n) that does not start with a valid character (n > 0): how many bytes one U+FFFD
 * stands for. That is the longest start of a character that was cut short, else 1, as the
 * Unicode standard recommends (chapter 3, "U+FFFD substitution of maximal subparts") and as
 * Python's "replace" does.
 */
size_t utf8_bad_length(const void *p, size_t n);

/*
 * Number of bytes at the end of p[0..n) that start a character which the end cuts off (0..3).
 * Used to drop half a character where we cut ourselves.
 */
size_t utf8_cut_tail(const void *p, size_t n);

/* Length of the longest prefix of at most max bytes that does not cut a character of valid text. */
size_t utf8_clip(const void *p, size_t n, size_t max);

#endif

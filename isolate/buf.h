/*
 * A byte buffer with an upper bound. An addition that would pass the bound, or that finds no
 * memory, sets `bad` and changes nothing; callers check once at the end with buf_ok().
 */
#ifndef CGIBOX_BUF_H
#define CGIBOX_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *p;    /* always NUL terminated once something was added */
	size_t len; /* bytes in use, without the NUL */
	size_t cap;
	size_t max; /* bytes, never more than this in use */
	bool bad;
};

#define BUF_INIT(limit) ((struct buf){.max = (limit)})

void buf_clear(struct buf *b); /* frees; the bound stays */
int buf_add(struct buf *b, const void *p, size_t n);
int buf_addc(struct buf *b, char c);
int buf_adds(struct buf *b, const char *s);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Makes room for n more bytes and returns where they go, or NULL; then add n to b->len. */
char *buf_room(struct buf *b, size_t n);
static inline bool buf_ok(const struct buf *b)
{
	return !b->bad;
}
/* Hands the heap block over to the caller ("" is returned as an allocated empty string). */
char *buf_take(struct buf *b);

#define OWN_BUF __attribute__((cleanup(buf_clear))) struct buf

/*
 * Writes s as a C-style quoted string into out, for logs and messages: control bytes, quotes
 * and bytes over 0x7e are escaped, so hostile bytes cannot forge a line. Cut with "..." when
 * out is too small (size >= 8). Returns out.
 */
const char *quote(const void *s, size_t n, char *out, size_t size);

#endif

#include "isolate/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_clear(struct buf *b)
{
	size_t max = b->max;

	free(b->p);
	*b = BUF_INIT(max);
}

char *buf_room(struct buf *b, size_t n)
{
	size_t want, cap;
	char *p;

	/* The second bound keeps the sums below from wrapping whatever max is. */
	if (b->bad || n > b->max - b->len || n >= PTRDIFF_MAX - b->len) {
		b->bad = true;
		return NULL;
	}
	want = b->len + n + 1;
	if (want > b->cap) {
		cap = b->cap < 128 ? 128 : b->cap;
		while (cap < want)
			cap += cap / 2;
		p = realloc(b->p, cap);
		if (!p) {
			b->bad = true;
			return NULL;
		}
		b->p = p;
		b->cap = cap;
	}
	return b->p + b->len;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
	char *to = buf_room(b, n);

	if (!to)
		return -1;
	if (n)
		memcpy(to, p, n);
	b->len += n;
	b->p[b->len] = '\0';
	return 0;
}

int buf_addc(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int buf_adds(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	char *to;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	to = n < 0 ? NULL : buf_room(b, (size_t)n);
	b->bad = b->bad || n < 0;
	if (to) {
		vsnprintf(to, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
	return to ? 0 : -1;
}

char *buf_take(struct buf *b)
{
	char *p;

	if (buf_add(b, "", 0) < 0)
		return NULL;
	p = b->p;
	b->p = NULL;
	buf_clear(b);
	return p;
}

static size_t quote_one(unsigned char c, char *to)
{
	static const char hex[] = "0123456789abcdef";
	static const char from[] = "\n\r\t\\\"", as[] = "nrt\\\"";
	const char *at = c ? strchr(from, c) : NULL;

	if (at) {
		to[0] = '\\';
		to[1] = as[at - from];
		return 2;
	}
	if (c >= 0x20 && c < 0x7f) {
		to[0] = (char)c;
		return 1;
	}
	to[0] = '\\';
	to[1] = 'x';
	to[2] = hex[c >> 4];
	to[3] = hex[c & 15];
	return 4;
}

const char *quote(const void *s, size_t n, char *out, size_t size)
{
	const unsigned char *p = s;
	size_t o = 0;

	out[o++] = '"';
	for (size_t i = 0; i < n; i++) {
		if (o + 4 + 5 > size) { /* one escape, "...", quote and NUL */
			memcpy(out + o, "...", 3);
			o += 3;
			break;
		}
		o += quote_one(p[i], out + o);
	}
	out[o++] = '"';
	out[o] = '\0';
	return out;
}

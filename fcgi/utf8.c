#include "fcgi/utf8.h"

#include <string.h>

static bool start_sequence(struct utf8 *u, uint8_t byte)
{
	u->lo = 0x80;
	u->hi = 0xbf;
	if (byte < 0x80)
		return true;
	if (byte >= 0xc2 && byte <= 0xdf) {
		u->need = 1;
		return true;
	}
	if (byte >= 0xe0 && byte <= 0xef) {
		u->need = 2;
		if (byte == 0xe0)
			u->lo = 0xa0; /* overlong below */
		if (byte == 0xed)
			u->hi = 0x9f; /* surrogates above */
		return true;
	}
	if (byte >= 0xf0 && byte <= 0xf4) {
		u->need = 3;
		if (byte == 0xf0)
			u->lo = 0x90;
		if (byte == 0xf4)
			u->hi = 0x8f; /* past U+10FFFF above */
		return true;
	}
	return false;
}

bool utf8_push(struct utf8 *u, uint8_t byte)
{
	if (u->need == 0)
		return start_sequence(u, byte);
	if (byte < u->lo || byte > u->hi)
		return false;
	u->need--;
	u->lo = 0x80;
	u->hi = 0xbf;
	return true;
}

/* Length of the ASCII run at the start, eight bytes a step. */
static size_t ascii_run(const uint8_t *p, size_t n)
{
	size_t i = 0;

	for (; n - i >= 8; i += 8) {
		uint64_t w;

		memcpy(&w, p + i, 8);
		if (w & 0x8080808080808080u)
			break;
	}
	while (i < n && p[i] < 0x80)
		i++;
	return i;
}

size_t utf8_valid_prefix(const void *p, size_t n)
{
	const uint8_t *s = p;
	size_t whole = 0;

	while (whole < n) {
		struct utf8 u = {0};
		size_t i = whole += ascii_run(s + whole, n - whole);

		if (i == n)
			break;
		do {
			if (!utf8_push(&u, s[i++]))
				return whole;
		} while (!utf8_whole(&u) && i < n);
		if (!utf8_whole(&u))
			return whole;
		whole = i;
	}
	return whole;
}

size_t utf8_bad_length(const void *p, size_t n)
{
	const uint8_t *s = p;
	struct utf8 u = {0};
	size_t i = 0;

	while (i < n && utf8_push(&u, s[i]) && !utf8_whole(&u))
		i++;
	return i ? i : 1;
}

size_t utf8_cut_tail(const void *p, size_t n)
{
	const uint8_t *s = p;

	for (size_t back = 1; back <= 3 && back <= n; back++) {
		uint8_t c = s[n - back];
		struct utf8 u = {0};

		if (c < 0x80)
			return 0;
		if (c < 0xc0)
			continue;
		for (size_t i = n - back; i < n; i++)
			if (!utf8_push(&u, s[i]))
				return 0;
		return utf8_whole(&u) ? 0 : back;
	}
	return 0;
}

size_t utf8_clip(const void *p, size_t n, size_t max)
{
	if (n <= max)
		return n;
	return max - utf8_cut_tail(p, max);
}

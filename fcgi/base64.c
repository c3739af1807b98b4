#include "fcgi/base64.h"

#include <stdbool.h>
#include <stdio.h>

enum { X = 0x40 }; /* not of the alphabet; its bit survives the OR of four lookups */

/* clang-format off */
static const uint8_t value[256] = {
	X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
	X,X,X,X,X,X,X,X,X,X,X,62,X,X,X,63, 52,53,54,55,56,57,58,59,60,61,X,X,X,X,X,X,
	X,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14, 15,16,17,18,19,20,21,22,23,24,25,X,X,X,X,X,
	X,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40, 41,42,43,44,45,46,47,48,49,50,51,X,X,X,X,X,
	X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
	X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
	X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
	X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
};
/* clang-format on */

/* Whole groups of four, as long as nothing is out of the ordinary. Returns characters taken. */
static size_t decode_groups(const uint8_t *p, size_t n, uint8_t *out)
{
	size_t i = 0;

	for (; n - i >= 4; i += 4, out += 3) {
		uint8_t a = value[p[i]], b = value[p[i + 1]], c = value[p[i + 2]],
			d = value[p[i + 3]];
		uint32_t w = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | d;

		if ((a | b | c | d) & X)
			break;
		out[0] = (uint8_t)(w >> 16);
		out[1] = (uint8_t)(w >> 8);
		out[2] = (uint8_t)w;
	}
	return i;
}

/* One data character into the unfinished group. */
static void decode_one(struct base64 *b, uint8_t v, uint8_t *out, size_t *made)
{
	b->chars++;
	b->acc = b->acc << 6 | v;
	if (++b->count < 4)
		return;
	out[(*made)++] = (uint8_t)(b->acc >> 16);
	out[(*made)++] = (uint8_t)(b->acc >> 8);
	out[(*made)++] = (uint8_t)b->acc;
	b->acc = 0;
	b->count = 0;
}

static void fault(struct base64 *b, enum base64_fault f)
{
	if (b->fault == BASE64_OK)
		b->fault = (uint8_t)f;
}

static void pad(struct base64 *b)
{
	if (b->count < 2 || b->pads >= 4 - b->count)
		fault(b, b->pads ? BASE64_EXCESS : BASE64_PADDING);
	else
		b->pads++;
}

size_t base64_decode(struct base64 *b, const char *p, size_t n, uint8_t *out, size_t *made)
{
	const uint8_t *s = (const uint8_t *)p;
	size_t i = 0;

	*made = 0;
	while (i < n) {
		uint8_t v;

		if (b->count == 0 && b->pads == 0 && b->fault == BASE64_OK) {
			size_t took = decode_groups(s + i, n - i, out + *made);

			i += took;
			*made += took / 4 * 3;
			b->chars += took;
			if (i == n)
				break;
		}
		v = value[s[i]];
		if (v == X && s[i] != '\r' && s[i] != '\n' && s[i] != '=')
			break;
		if (v != X && b->pads)
			fault(b, BASE64_EXCESS);
		else if (v != X && b->fault == BASE64_OK)
			decode_one(b, v, out, made);
		else if (s[i] == '=' && b->fault == BASE64_OK)
			pad(b);
		i++;
	}
	/* The two or one bytes of a last, padded group are complete with its last '='. */
	if (b->pads && b->fault == BASE64_OK && b->count + b->pads == 4) {
		uint32_t w = b->acc << 6 * b->pads;

		out[(*made)++] = (uint8_t)(w >> 16);
		if (b->pads == 1)
			out[(*made)++] = (uint8_t)(w >> 8);
		b->count = 0;
	}
	return i;
}

enum base64_fault base64_end(struct base64 *b)
{
	if (b->count == 1)
		fault(b, BASE64_ONE_OVER);
	else if (b->count)
		fault(b, BASE64_PADDING);
	return (enum base64_fault)b->fault;
}

const char *base64_fault_text(const struct base64 *b, char *buf, size_t size)
{
	switch ((enum base64_fault)b->fault) {
	case BASE64_OK:
		return "";
	case BASE64_PADDING:
		return "Incorrect padding";
	case BASE64_ALPHABET:
		return "Only base64 data is allowed";
	case BASE64_EXCESS:
		return "Excess data after padding";
	case BASE64_ONE_OVER:
		snprintf(buf, size,
			"Invalid base64-encoded string: number of data characters (%llu) "
			"cannot be 1 more than a multiple of 4",
			(unsigned long long)b->chars);
		return buf;
	}
	return "";
}

int base64_encode(struct buf *to, const void *p, size_t n)
{
	static const char digit[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *s = p;
	size_t whole = n / 3 * 3, rest = n - whole;
	char *out = buf_room(to, (n / 3 + (rest != 0)) * 4), *o = out;

	if (!out)
		return -1;
	for (size_t i = 0; i < whole; i += 3, o += 4) {
		uint32_t w = (uint32_t)s[i] << 16 | (uint32_t)s[i + 1] << 8 | s[i + 2];

		o[0] = digit[w >> 18];
		o[1] = digit[w >> 12 & 63];
		o[2] = digit[w >> 6 & 63];
		o[3] = digit[w & 63];
	}
	if (rest) {
		uint32_t w = (uint32_t)s[whole] << 16 |
			     (rest == 2 ? (uint32_t)s[whole + 1] << 8 : 0u);

		o[0] = digit[w >> 18];
		o[1] = digit[w >> 12 & 63];
		o[2] = rest == 2 ? digit[w >> 6 & 63] : '=';
		o[3] = '=';
		o += 4;
	}
	to->len += (size_t)(o - out);
	to->p[to->len] = '\0';
	return 0;
}

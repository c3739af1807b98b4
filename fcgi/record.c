#include "fcgi/record.h"

#include <string.h>

#include "isolate/own.h"

bool record_decode(const uint8_t p[REC_HEADER], struct record *r)
{
	r->type = p[1];
	r->id = (uint16_t)(p[2] << 8 | p[3]);
	r->content = (uint16_t)(p[4] << 8 | p[5]);
	r->padding = p[6];
	return p[0] == 1;
}

void record_encode(uint8_t p[REC_HEADER], uint8_t type, uint16_t id, uint16_t content)
{
	p[0] = 1;
	p[1] = type;
	p[2] = (uint8_t)(id >> 8);
	p[3] = (uint8_t)id;
	p[4] = (uint8_t)(content >> 8);
	p[5] = (uint8_t)content;
	p[6] = p[7] = 0;
}

/* One length: 1 byte, or 4 with the top bit set. Returns the bytes used, 0 when cut short. */
static size_t pair_length(const uint8_t *p, size_t n, size_t *out)
{
	if (n < 1)
		return 0;
	if (!(p[0] & 0x80)) {
		*out = p[0];
		return 1;
	}
	if (n < 4)
		return 0;
	*out = (size_t)(p[0] & 0x7f) << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	return 4;
}

long record_pair(const uint8_t *p, size_t n, struct record_pair *out)
{
	size_t left = n, used;

	if (!(used = pair_length(p, left, &out->name_len)))
		return -1;
	left -= used;
	if (!(used = pair_length(p + (n - left), left, &out->value_len)))
		return -1;
	left -= used;
	if (out->name_len > left || out->value_len > left - out->name_len)
		return -1;
	out->name = p + (n - left);
	out->value = out->name + out->name_len;
	return (long)(n - left + out->name_len + out->value_len);
}

size_t record_end(uint8_t out[REC_FIXED], uint16_t id, uint8_t status)
{
	record_encode(out, REC_END, id, 8);
	memset(out + REC_HEADER, 0, 8);
	out[REC_HEADER + 4] = status;
	return REC_FIXED;
}

size_t record_unknown(uint8_t out[REC_FIXED], uint8_t type)
{
	record_encode(out, REC_UNKNOWN_TYPE, 0, 8);
	memset(out + REC_HEADER, 0, 8);
	out[REC_HEADER] = type;
	return REC_FIXED;
}

long record_values(const uint8_t *p, size_t n, uint8_t out[REC_VALUES_MAX])
{
	/* Connections wait in our queue, so the first two only guide a server's guess. */
	static const struct {
		const char *name, *value;
	} known[] = {
		{"FCGI_MAX_CONNS", "128"},
		{"FCGI_MAX_REQS", "128"},
		{"FCGI_MPXS_CONNS", "0"},
	};
	bool done[NELEM(known)] = {false};
	struct record_pair pair;
	size_t at = REC_HEADER;

	for (long used; n; p += used, n -= (size_t)used) {
		if ((used = record_pair(p, n, &pair)) < 0)
			return -1;
		for (size_t i = 0; i < NELEM(known); i++) {
			size_t a = strlen(known[i].name), b = strlen(known[i].value);

			if (done[i] || pair.name_len != a || memcmp(pair.name, known[i].name, a))
				continue;
			done[i] = true;
			out[at++] = (uint8_t)a;
			out[at++] = (uint8_t)b;
			memcpy(out + at, known[i].name, a);
			memcpy(out + at + a, known[i].value, b);
			at += a + b;
		}
	}
	record_encode(out, REC_GET_VALUES_RESULT, 0, (uint16_t)(at - REC_HEADER));
	return (long)at;
}

size_t record_reply(uint8_t *out, size_t size, uint16_t id, const char *text)
{
	size_t n = strlen(text);

	if (n > REC_CONTENT_MAX || size < 2 * REC_HEADER + REC_FIXED ||
		n > size - 2 * REC_HEADER - REC_FIXED)
		return 0;
	record_encode(out, REC_STDOUT, id, (uint16_t)n);
	memcpy(out + REC_HEADER, text, n);
	record_encode(out + REC_HEADER + n, REC_STDOUT, id, 0);
	return 2 * REC_HEADER + n + record_end(out + 2 * REC_HEADER + n, id, REC_COMPLETE);
}

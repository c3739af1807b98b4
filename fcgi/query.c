#include "fcgi/query.h"

#include <string.h>
#include <strings.h>

#include "fcgi/url.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in[0..n); the number of bytes, or -1. */
static long decode(const char *in, size_t n, char *out, size_t size)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		int c = in[i] == '+' ? ' ' : (unsigned char)in[i];

		if (in[i] == '%') {
			int hi = i + 2 < n ? hex(in[i + 1]) : -1;
			int lo = i + 2 < n ? hex(in[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return -1;
			c = hi * 16 + lo;
			i += 2;
		}
		if (c == 0 || o + 1 >= size)
			return -1;
		out[o++] = (char)c;
	}
	out[o] = '\0';
	return (long)o;
}

int query_get(const char *uri, const char *name, char *out, size_t size)
{
	const char *at = uri + url_path_length(uri);
	size_t len = strlen(name);

	if (*at != '?')
		return 0;
	for (at++; *at;) {
		size_t n = strcspn(at, "&#");

		if (n >= len && !memcmp(at, name, len) && (n == len || at[len] == '=')) {
			size_t skip = n == len ? len : len + 1;

			return decode(at + skip, n - skip, out, size) < 0 ? -1 : 1;
		}
		at += n;
		if (*at == '#')
			break;
		at += *at == '&';
	}
	return 0;
}

int query_digits(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || v > (INT64_MAX - 9) / 10)
			return -1;
		v = v * 10 + (uint64_t)(*text - '0');
	}
	*out = v;
	return 0;
}

int query_number(const char *uri, const char *name, uint64_t *out)
{
	char text[32];
	int got = query_get(uri, name, text, sizeof text);

	if (got <= 0)
		return got;
	return query_digits(text, out) < 0 ? -1 : 1;
}

int query_flag(const char *uri, const char *name, bool *out)
{
	static const char *const yes[] = {"1", "on", "t", "true", "y", "yes"};
	static const char *const no[] = {"0", "off", "f", "false", "n", "no"};
	char text[8];
	int got = query_get(uri, name, text, sizeof text);

	for (size_t i = 0; got > 0 && i < sizeof yes / sizeof *yes; i++)
		if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
			*out = !strcasecmp(text, yes[i]);
			return 1;
		}
	return got == 0 ? 0 : -1;
}

#include "fcgi/url.h"

#include <string.h>
#include <strings.h>

#include "fcgi/utf8.h"

size_t url_path_length(const char *uri)
{
	return strcspn(uri, "?#");
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Decodes in[0..n) to out, which has room for n + 1. Returns the length, or -1. */
static long decode_segment(const char *in, size_t n, char *out)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		int hi, lo;

		if (in[i] != '%') {
			out[o++] = in[i];
			continue;
		}
		hi = n - i > 2 ? hex_value(in[i + 1]) : -1;
		lo = n - i > 2 ? hex_value(in[i + 2]) : -1;
		if (hi < 0 || lo < 0 || (hi | lo) == 0)
			return -1;
		out[o++] = (char)(hi << 4 | lo);
		i += 2;
	}
	out[o] = '\0';
	return utf8_valid(out, o) ? (long)o : -1;
}

/* Skips "scheme://authority" of the absolute form; proxies may send it. */
static const char *skip_authority(const char *uri)
{
	if (!strncasecmp(uri, "http://", 7))
		uri += 7;
	else if (!strncasecmp(uri, "https://", 8))
		uri += 8;
	else
		return uri;
	return uri + strcspn(uri, "/?#");
}

int url_parse(const char *uri, struct url *out, struct err *e)
{
	const char *p = skip_authority(uri);
	size_t left = url_path_length(p);
	char *to = out->text;

	out->nsegments = 0;
	out->slash = false;
	if (left == 0 || *p != '/')
		return err_set(e, ERR_REQUEST, 0, "the request has no path");
	if (left > URL_PATH_MAX)
		return err_set(
			e, ERR_NOTFOUND, 0, "the path is longer than %d bytes", URL_PATH_MAX);
	for (p++, left--; left;) {
		const char *end = memchr(p, '/', left);
		size_t n = end ? (size_t)(end - p) : left;
		long len;

		if (n == 0 || out->nsegments == URL_SEGMENTS_MAX)
			return err_set(e, ERR_NOTFOUND, 0, "no route has this path");
		len = decode_segment(p, n, to);
		if (len < 0)
			return err_set(e, ERR_REQUEST, 0, "the path is not well-formed");
		out->segment[out->nsegments++] = to;
		to += len + 1;
		n += end != NULL;
		p += n;
		left -= n;
		out->slash = end != NULL;
	}
	return 0;
}

/* Decodes in[0..n) to out. -1 when it is broken or too long. */
static int decode_value(const char *in, size_t n, char *out, size_t size)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		int hi, lo;

		if (o + 1 >= size)
			return -1;
		if (in[i] != '%') {
			out[o++] = in[i] == '+' ? ' ' : in[i];
			continue;
		}
		hi = n - i > 2 ? hex_value(in[i + 1]) : -1;
		lo = n - i > 2 ? hex_value(in[i + 2]) : -1;
		if (hi < 0 || lo < 0 || (hi | lo) == 0)
			return -1;
		out[o++] = (char)(hi << 4 | lo);
		i += 2;
	}
	out[o] = '\0';
	return 0;
}

int url_query(const char *uri, const char *key, char *out, size_t size)
{
	size_t keylen = strlen(key);
	const char *p = uri + url_path_length(uri);
	int found = 0;

	*out = '\0';
	for (p += *p == '?'; *p && *p != '#';) {
		size_t n = strcspn(p, "&#");

		if (n > keylen && !memcmp(p, key, keylen) && p[keylen] == '=') {
			if (found++ || decode_value(p + keylen + 1, n - keylen - 1, out, size) < 0)
				return -1;
		}
		p += n;
		p += *p == '&';
	}
	return found;
}

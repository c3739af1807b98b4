#include "fcgi/patch_name.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

bool patch_name_refused(const char *name, size_t n)
{
	size_t k;

	if (n > 0 && name[0] != '.' && (name[0] | 0x20) != 'g')
		return false; /* nearly every name */
	if (n == 0 || (n == 1 && name[0] == '.') || (n == 2 && !memcmp(name, "..", 2)))
		return true;
	if (n >= 4 && !strncasecmp(name, ".git", 4))
		k = 4;
	else if (n >= 5 && !strncasecmp(name, "git~1", 5))
		k = 5;
	else
		return false;
	/* NTFS drops blanks and dots at the end; a colon starts a stream, a backslash a child. */
	while (k < n && (name[k] == ' ' || name[k] == '.'))
		k++;
	return k == n || name[k] == ':' || name[k] == '\\';
}

bool patch_path_refused(const char *path)
{
	size_t total = strlen(path);

	if (total == 0 || total > PATCH_PATH_MAX)
		return true;
	for (;;) {
		const char *end = strchrnul(path, '/');

		if (patch_name_refused(path, (size_t)(end - path)))
			return true;
		if (!*end)
			return false;
		path = end + 1;
	}
}

static bool plain_byte(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static int quote_byte(struct buf *out, unsigned char c)
{
	static const char from[] = "\a\b\t\n\v\f\r\"\\", to[] = "abtnvfr\"\\";
	const char *at = c ? strchr(from, c) : NULL;

	if (at)
		return buf_addf(out, "\\%c", to[at - from]);
	if (plain_byte(c))
		return buf_addc(out, (char)c);
	return buf_addf(out, "\\%03o", c);
}

int patch_name_quote(struct buf *out, const char *prefix, const char *path)
{
	size_t n = strlen(path);
	bool plain = n > 0 && path[n - 1] != ' ' && !strstr(path, " /");

	for (size_t i = 0; plain && i < n; i++)
		plain = plain_byte((unsigned char)path[i]);
	if (plain) {
		buf_adds(out, prefix);
		return buf_adds(out, path);
	}
	buf_addc(out, '"');
	buf_adds(out, prefix);
	for (size_t i = 0; i < n; i++)
		quote_byte(out, (unsigned char)path[i]);
	return buf_addc(out, '"');
}

/* Bytes of the UTF-8 sequence at p (RFC 3629), 0 when there is none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	unsigned char c = p[0], lo = 0x80, hi = 0xbf;
	size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	if (len < 2)
		return c ? len : 0;
	if (n < len)
		return 0;
	if (c == 0xe0)
		lo = 0xa0; /* overlong */
	else if (c == 0xed)
		hi = 0x9f; /* surrogates */
	else if (c == 0xf0)
		lo = 0x90; /* overlong */
	else if (c == 0xf4)
		hi = 0x8f; /* over U+10FFFF */
	if (p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool patch_is_text(const void *bytes, size_t n)
{
	const unsigned char *p = bytes;
	size_t i = 0;

	while (i < n) {
		uint64_t w;
		size_t k;

		if (n - i >= sizeof w) { /* eight ASCII bytes, none of them NUL */
			memcpy(&w, p + i, sizeof w);
			if (!((w | (w - 0x0101010101010101u)) & 0x8080808080808080u)) {
				i += sizeof w;
				continue;
			}
		}
		k = utf8_len(p + i, n - i);
		if (!k)
			return false;
		i += k;
	}
	return true;
}

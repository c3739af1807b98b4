#include "fcgi/json_out.h"

#include <stdint.h>
#include <string.h>

#include "fcgi/utf8.h"

/* One ASCII byte that cannot stand as it is. */
static void out_escape(struct buf *b, uint8_t c)
{
	static const char from[] = "\b\t\n\f\r\"\\", as[] = "btnfr\"\\";
	const char *at = c ? strchr(from, c) : NULL;

	if (at)
		buf_add(b, (const char[]){'\\', as[at - from]}, 2);
	else
		buf_addf(b, "\\u%04x", c);
}

/* Valid UTF-8: runs between bytes that need an escape are copied whole. */
static void out_valid(struct buf *b, const uint8_t *s, size_t n)
{
	size_t from = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] >= 0x20 && s[i] != '"' && s[i] != '\\')
			continue;
		buf_add(b, s + from, i - from);
		out_escape(b, s[i]);
		from = i + 1;
	}
	buf_add(b, s + from, n - from);
}

void json_out_raw(struct buf *b, const void *p, size_t n)
{
	const uint8_t *s = p;

	while (n && buf_ok(b)) {
		size_t good = utf8_valid_prefix(s, n), bad;

		out_valid(b, s, good);
		s += good;
		n -= good;
		if (!n)
			break;
		buf_add(b, "\xef\xbf\xbd", 3);
		bad = utf8_bad_length(s, n);
		s += bad;
		n -= bad;
	}
}

void json_out_string(struct buf *b, const void *p, size_t n)
{
	buf_addc(b, '"');
	json_out_raw(b, p, n);
	buf_addc(b, '"');
}

void json_out_text(struct buf *b, const char *s)
{
	json_out_string(b, s, strlen(s));
}

void json_out_detail(struct buf *b, const char *text)
{
	buf_adds(b, "{\"detail\":");
	json_out_text(b, text);
	buf_addc(b, '}');
}

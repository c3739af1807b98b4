#include "images/escape.h"

void escape_put(const char *text, struct buf *out)
{
	const unsigned char *p = (const unsigned char *)text;

	for (; *p; p++) {
		if (*p > 0x20 && *p < 0x7f && *p != '\\')
			buf_addc(out, (char)*p);
		else
			buf_addf(out, "\\x%02x", *p);
	}
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool escape_take(const char *text, size_t n, char *out, size_t size)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)text[i];

		if (c == '\\') {
			if (n - i < 4 || text[i + 1] != 'x' || digit(text[i + 2]) < 0 ||
				digit(text[i + 3]) < 0)
				return false;
			c = digit(text[i + 2]) * 16 + digit(text[i + 3]);
			i += 3;
		}
		if (c == 0 || o + 1 >= size)
			return false;
		out[o++] = (char)c;
	}
	out[o] = '\0';
	return true;
}

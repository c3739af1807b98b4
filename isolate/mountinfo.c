#include "isolate/mountinfo.h"

/* The byte of three octal digits, or -1. */
static int octal(const char *s)
{
	int v = 0;

	for (int i = 0; i < 3; i++) {
		if (s[i] < '0' || s[i] > '7')
			return -1;
		v = v * 8 + (s[i] - '0');
	}
	return v <= 255 ? v : -1;
}

bool mountinfo_unescape(const char *s, size_t n, char *out, size_t size)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		if (o + 1 >= size)
			return false;
		if (s[i] == '\\') {
			int byte = n - i >= 4 ? octal(s + i + 1) : -1;

			if (byte < 0)
				return false;
			out[o++] = (char)byte;
			i += 3;
		} else {
			out[o++] = s[i];
		}
	}
	out[o] = '\0';
	return true;
}

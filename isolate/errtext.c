/* Apart from err.c, for pid 1 says an error by its number and carries no texts of them. */
#include <stdio.h>
#include <string.h>

#include "isolate/err.h"

/* Messages quote names that strangers chose, and a terminal may be what shows them. Beside the ASCII
 * controls there are those of ISO 6429 from 0x80 on, two bytes in UTF-8. */
static void disarm(char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s, next = (unsigned char)s[1];

		if (c < 0x20 || c == 0x7f)
			*s = '?';
		else if (c == 0xc2 && next >= 0x80 && next < 0xa0)
			*s = s[1] = '?';
	}
}

/* Neither of them allocates or depends on the locale, which no program of ours sets. */
static const char *describe(int errnum)
{
#ifdef __GLIBC__
	return strerrordesc_np(errnum);
#else
	return strerror(errnum); /* musl's: a table */
#endif
}

const char *err_text(const struct err *e, char *buf, size_t size)
{
	const char *why = e->errnum ? describe(e->errnum) : NULL;

	snprintf(buf, size, "%s%s%s", e->msg, why ? ": " : "", why ? why : "");
	disarm(buf);
	return buf;
}

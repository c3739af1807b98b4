/* Paths: whatever the bytes, no crash, and what is accepted is whole UTF-8 without NUL. */
#include "fcgi/url.h"

#include <stdlib.h>
#include <string.h>

#include "fcgi/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char *uri = malloc(n + 1);
	struct url u;
	struct err e;

	if (!uri)
		return 0;
	memcpy(uri, p, n);
	uri[n] = '\0';
	if (url_parse(uri, &u, &e) == 0)
		for (size_t i = 0; i < u.nsegments; i++)
			if (!*u.segment[i] || !utf8_valid(u.segment[i], strlen(u.segment[i])))
				abort();
	free(uri);
	return 0;
}

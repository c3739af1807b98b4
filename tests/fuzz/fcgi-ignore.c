/* A .gitignore (up to the first NUL) and a path (behind it): any answer, in bounded time. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/ignore.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const uint8_t *nul = n ? memchr(p, 0, n) : NULL;
	size_t rules = nul ? (size_t)(nul - p) : n, left = nul ? n - rules - 1 : 0;
	struct ignore_rules *r = ignore_parse((const char *)p, rules);
	char *path = strndup(nul ? (const char *)nul + 1 : "a/b", nul ? left : 3);

	if (r && path) {
		int file = ignore_match(r, path, false), dir = ignore_match(r, path, true);

		if (file < -1 || file > 1 || dir < -1 || dir > 1)
			abort();
	}
	ignore_rules_free(r);
	free(path);
	return 0;
}

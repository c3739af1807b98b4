/* Queries: whatever the bytes, no crash, and a value fits, ends, and holds no NUL. */
#include "fcgi/query.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char *uri = malloc(n + 1), out[33];
	uint64_t v = 0;

	if (!uri)
		return 0;
	memcpy(uri, p, n);
	uri[n] = '\0';
	if (query_get(uri, "from", out, sizeof out) == 1 && strlen(out) >= sizeof out)
		abort();
	if (query_number(uri, "from", &v) == 1 && v > INT64_MAX)
		abort();
	free(uri);
	return 0;
}

/* Header fields of registries; the first byte chooses the reader. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "images/challenge.h"

static void check_challenge(const char *p, size_t n)
{
	struct challenge ch = {0};

	if (!challenge_read(p, n, &ch)) {
		if (ch.scheme != CHALLENGE_NONE)
			abort();
		return;
	}
	if (ch.scheme == CHALLENGE_BEARER && !ch.realm[0])
		abort();
	for (const char *c = ch.realm; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	int64_t first, last, total;
	char *text;

	if (n-- == 0)
		return 0;
	text = malloc(n + 1);
	memcpy(text, p + 1, n);
	text[n] = '\0';
	if (p[0] % 3 == 0)
		check_challenge(text, n);
	else if (p[0] % 3 == 1 && range_read(text, &first, &last, &total) &&
		 (first < 0 || last < first || (total >= 0 && total <= last)))
		abort();
	else if (retry_after_s(text, 1000000000) > 3600)
		abort();
	free(text);
	return 0;
}

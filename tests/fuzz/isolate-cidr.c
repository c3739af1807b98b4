/* Networks as text: whatever the bytes, no crash; what is accepted survives being written and read
 * again, covers itself, and has no bit beyond its prefix. */
#include "isolate/cidr.h"

#include <stdlib.h>
#include <string.h>

static void check(const struct cidr *c)
{
	char text[CIDR_TEXT_MAX];
	struct cidr again;
	struct err e;

	cidr_text(c, text);
	if (cidr_parse(text, strlen(text), &again, &e) < 0 || memcmp(&again, c, sizeof again) != 0)
		abort();
	if (c->bits > (c->v6 ? 128 : 32) || !cidr_covers(c, c))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct cidr c[CIDR_LIST_MAX];
	char *text = malloc(n + 1);
	struct err e;
	size_t count;

	if (!text)
		return 0;
	memcpy(text, p, n);
	text[n] = '\0';
	if (cidr_parse(text, n, &c[0], &e) == 0)
		check(&c[0]);
	if (cidr_list_parse(text, c, CIDR_LIST_MAX, &count, &e) == 0)
		for (size_t i = 0; i < count; i++)
			check(&c[i]);
	free(text);
	return 0;
}

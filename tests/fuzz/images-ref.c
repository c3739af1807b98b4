/* References: what is accepted formats back to something that is accepted and equal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "images/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char *text = malloc(n + 1), out[REF_MAX + 1], again[REF_MAX + 1];
	struct ref r, s;

	memcpy(text, p, n);
	text[n] = '\0';
	if (ref_parse(text, &r)) {
		if (!ref_format(&r, out) || strcmp(out, text) != 0 || strstr(r.path, ".."))
			abort();
		ref_fill_all(&r);
		if (ref_format(&r, out)) {
			if (!ref_parse(out, &s) || !ref_format(&s, again) ||
				strcmp(out, again) != 0)
				abort();
		}
	}
	free(text);
	return 0;
}

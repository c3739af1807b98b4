/*
 * Decoding: pieces give what the whole gives, single characters among them, for which there is no fast
 * path; and what is accepted encodes to the same.
 */
#include "fcgi/base64.h"

#include <stdlib.h>
#include <string.h>

#include "isolate/buf.h"

static int decode(const char *p, size_t n, size_t step, uint8_t *out, size_t *len)
{
	struct base64 b = {0};

	*len = 0;
	for (size_t i = 0; i < n;) {
		size_t want = n - i < step ? n - i : step, made, took;
		uint8_t *piece = malloc(base64_room(want)); /* exact: ASan sees one byte more */

		if (!piece)
			abort();
		took = base64_decode(&b, p + i, want, piece, &made);
		memcpy(out + *len, piece, made);
		free(piece);
		*len += made;
		i += took;
		if (took < want) {
			b.fault = b.fault ? b.fault : BASE64_ALPHABET;
			i++;
		}
	}
	return base64_end(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	size_t step = n ? p[0] % 9 + 1 : 1, a, b, o = 0;
	uint8_t *one = malloc(n + 8), *two = malloc(n + 8);
	const char *text = (const char *)p;
	struct buf again = BUF_INIT(2 * n + 8);
	int fault;

	if (!one || !two)
		abort();
	fault = decode(text, n, n + 1, one, &a);
	if (decode(text, n, step, two, &b) != fault)
		abort();
	if (!fault && (a != b || memcmp(one, two, a))) /* what a fault leaves behind is void */
		abort();
	if (decode(text, n, 1, two, &b) != fault || (!fault && (a != b || memcmp(one, two, a))))
		abort();
	base64_encode(&again, one, a);
	for (size_t i = 0; i < n && !fault; i++) {
		if (p[i] == '\r' || p[i] == '\n')
			continue;
		/* The last character's unused bits may differ. */
		if (o >= again.len || (again.p[o] != text[i] && o + 4 < again.len))
			abort();
		o++;
	}
	if (!fault && o != again.len)
		abort();
	buf_clear(&again);
	free(one);
	free(two);
	return 0;
}

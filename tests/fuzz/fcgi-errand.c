/* What main makes of the first bytes of a connection: more bytes never change what is known. */
#include "fcgi/errand.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	enum errand whole, part;
	int known = errand_of(p, n, &whole);

	if (whole >= ERRANDS || (!known && whole != ERRAND_ANY))
		abort();
	if (errand_of(p, n / 2, &part) && (!known || part != whole))
		abort();
	return 0;
}

/* What a waiting interpreter says is an image's word: a number in range, or nothing. */
#include <stdlib.h>

#include "fcgi/warm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	long pages = warm_ready((const char *)data, size);

	if (pages < -1 || pages > 999999999)
		abort();
	return 0;
}

/* Image records: what is read is written back to something that reads the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "images/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf one = BUF_INIT(RECORD_MAX), two = BUF_INIT(RECORD_MAX);
	struct record r;
	struct err e;

	if (record_parse(&r, (const char *)p, n, &e) < 0)
		return 0;
	if (r.workdir && r.workdir[0] != '/')
		abort();
	if (record_format(&r, &one) == 0) {
		record_clear(&r);
		if (record_parse(&r, one.p, one.len, &e) < 0 || record_format(&r, &two) < 0 ||
			one.len != two.len || memcmp(one.p, two.p, one.len) != 0)
			abort();
	}
	record_clear(&r);
	buf_clear(&one);
	buf_clear(&two);
	return 0;
}

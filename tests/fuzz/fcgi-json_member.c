/* Members of any bytes: what is found lies inside, and of good JSON it is good JSON. */
#include "fcgi/json_member.h"

#include <stdlib.h>
#include <string.h>

#include "fcgi/json_scan.h"

static int good(const char *p, size_t n)
{
	const struct json_scan_plan plan = {
		.archive_fd = -1, .copy_max = INT64_MAX, .archive_max = INT64_MAX};
	struct json_scan s;
	struct err e = {0};
	int ret;

	json_scan_init(&s, &plan);
	ret = json_scan_feed(&s, p, n, &e) == 0 && json_scan_end(&s, &e) == 0;
	json_scan_clear(&s);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const char *text = (const char *)p;
	size_t len = 0;
	const char *got = json_member(text, n, "event", &len);

	if (got && (got < text || got + len > text + n))
		abort();
	if (got && good(text, n) && !good(got, len))
		abort();
	return 0;
}

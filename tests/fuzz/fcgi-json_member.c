/* Members of any bytes: what is found lies inside, and of good JSON it is good JSON, shortened too. */
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

/* The beginning of a string, and a quote, is a string. */
static void clip(const char *p, size_t n, int is_good)
{
	for (size_t max = 0; max < n && max < 64; max++) {
		size_t k = json_string_clip(p, n, max);
		char text[128];

		if (k > n || k > max + 1)
			abort();
		memcpy(text, p, k);
		text[k] = '"';
		if (is_good && n > 1 && *p == '"' && !good(text, k + 1))
			abort();
	}
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
	clip(text, n, 0);
	if (got)
		clip(got, len, good(text, n));
	return 0;
}

/* Names and text of a patch: what is quoted is one line of ASCII, and text is UTF-8. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/patch_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf out = BUF_INIT(8 * n + 16);
	char *path = strndup((const char *)p, n);

	if (!path)
		return 0;
	patch_path_refused(path);
	if (patch_name_quote(&out, "a/", path) < 0)
		abort();
	for (size_t i = 0; i < out.len; i++)
		if (out.p[i] < 0x20 || out.p[i] > 0x7e)
			abort();
	if (patch_is_text(p, n) && n && memchr(p, 0, n))
		abort();
	buf_clear(&out);
	free(path);
	return 0;
}

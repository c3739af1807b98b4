/* The index of an archive: whatever the bytes, each entry that is accepted can be found again. */
#include <stdlib.h>
#include <string.h>

#include "fcgi/patch_name.h"
#include "fcgi/ws_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct ws_index x;
	struct err e;
	char *copy = malloc(n + 1);

	if (!copy)
		return 0;
	if (n)
		memcpy(copy, p, n);
	if (ws_index_parse(&x, copy, n, &e) < 0)
		return 0;
	for (size_t i = 0; i < x.n; i++) {
		const struct ws_entry *en = &x.v[i];

		if (ws_index_find(&x, en->path, en->len) != en || en->at < 0)
			abort();
		if (patch_path_refused(en->path) && en->len > 0)
			abort();
		for (const char *s = strchr(en->path, '/'); s && !S_ISDIR(en->mode);
			s = strchr(s + 1, '/'))
			if (!ws_index_has_dir(&x, en->path, (size_t)(s - en->path)))
				abort();
	}
	ws_index_clear(&x);
	return 0;
}

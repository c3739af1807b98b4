/* The JSON documents of registries and archives; the first byte chooses the reader. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "images/manifest.h"
#include "images/ref.h"

static void check(const struct descriptor *d)
{
	if (!ref_is_digest(d->digest) || d->size < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const char *text = (const char *)p + 1;
	struct err e;

	if (n-- == 0)
		return 0;
	if (p[0] % 4 == 0) {
		struct manifest m;

		if (manifest_parse(text, n, 16, &m, &e) == 0) {
			check(&m.config);
			for (size_t i = 0; i < m.nlayers; i++)
				check(&m.layers[i]);
			if (m.nlayers > 16 || manifest_kind(text, n) != MEDIA_MANIFEST)
				abort();
			manifest_clear(&m);
		}
	} else if (p[0] % 4 == 1) {
		const struct platform want = {"linux", "arm", "v7"};
		struct descriptor d;

		if (manifest_pick(text, n, &want, &d, &e) == 0)
			check(&d);
		manifest_check_type(text, n, "application/vnd.oci.image.index.v1+json", &e);
	} else if (p[0] % 4 == 2) {
		struct record r;

		if (manifest_config(text, n, 16, &r, &e) == 0) {
			for (size_t i = 0; i < r.nenv; i++)
				if (!record_env_ok(r.env[i]) || strchr(r.env[i], '\n'))
					abort();
			record_clear(&r);
		}
	} else {
		struct saved s;

		if (manifest_saved(text, n, 16, &s, &e) == 0)
			saved_clear(&s);
	}
	return 0;
}

#include "images/pull.h"

#include <string.h>

#include "images/digest.h"
#include "images/registry.h"

/* The one document whose digest the registry tells last: it must be what was asked for. */
static int check_pinned(const struct ref *r, const struct buf *doc, struct err *e)
{
	char hex[65];

	if (!r->digest[0])
		return 0;
	if (digest_of(doc->p, doc->len, hex, e) < 0)
		return -1;
	if (strcmp(hex, r->digest + strlen("sha256:")) != 0)
		return err_set(e, ERR_REQUEST, 0, "the registry sent sha256:%.12s instead of %.19s",
			hex, r->digest);
	return 0;
}

static int pull_from(
	struct ingest *in, struct registry *g, const struct ref *r, char id[65], struct err *e)
{
	const struct source src = {registry_fetch, g};
	OWN_BUF doc = BUF_INIT(MANIFEST_MAX);

	if (registry_manifest(g, r->digest[0] ? r->digest : r->tag, &doc, e) < 0 ||
		check_pinned(r, &doc, e) < 0)
		return -1;
	return ingest_image(in, &src, doc.p, doc.len, id, e);
}

int pull_image(struct ingest *in, const char *text, char id[65], struct err *e)
{
	char full[REF_MAX + 1];
	struct registry *g;
	struct ref r;
	int ret;

	if (!strcmp(text, "host"))
		return err_set(e, ERR_REQUEST, 0, "\"host\" is the built-in image");
	if (!ref_parse(text, &r))
		return err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no image reference", text);
	ref_fill_all(&r);
	if (!ref_format(&r, full))
		return err_set(e, ERR_REQUEST, 0, "the image reference is too long");
	g = registry_open(&r, in->conf, e);
	if (!g)
		return -1;
	ret = pull_from(in, g, &r, id, e);
	registry_close(g);
	if (ret < 0)
		return err_in(e, "pull \"%.80s\"", text);
	return ingest_refer(in, full, id, e);
}

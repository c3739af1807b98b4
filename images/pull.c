#include "images/pull.h"

#include <stdio.h>
#include <string.h>

#include "images/mirror.h"
#include "images/remote.h"

static int pull_from(
	struct ingest *in, struct remote *g, const struct ref *r, char id[65], struct err *e)
{
	const struct source src = remote_source(g);
	OWN_BUF doc = BUF_INIT(MANIFEST_MAX);

	if (remote_manifest(g, r->digest[0] ? r->digest : r->tag, &doc, e) < 0)
		return -1;
	return ingest_image(in, &src, doc.p, doc.len, id, e);
}

static int read_ref(const char *text, struct ref *r, char full[REF_MAX + 1], struct err *e)
{
	if (!strcmp(text, "host"))
		return err_set(e, ERR_REQUEST, 0, "\"host\" is the built-in image");
	if (!ref_parse(text, r))
		return err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no image reference", text);
	ref_fill_all(r);
	if (!ref_format(r, full))
		return err_set(e, ERR_REQUEST, 0, "the image reference is too long");
	return 0;
}

int pull_image(struct ingest *in, const char *text, bool for_client, char id[65], struct err *e)
{
	char full[REF_MAX + 1], origin[2 * REF_MAX + 3];
	struct remote *g;
	struct ref r = {.host = ""};
	int ret;

	if (read_ref(text, &r, full, e) < 0)
		return -1;
	if (for_client && !mirror_allowed(&r, in->conf->pull_allowed))
		return err_set(
			e, ERR_REQUEST, 0, "pull_allowed does not allow to pull \"%.150s\"", full);
	g = remote_open(&r, in->conf, for_client, e);
	if (!g)
		return err_in(e, "pull \"%.80s\"", text);
	ret = pull_from(in, g, &r, id, e);
	remote_close(g);
	if (ret < 0)
		return err_in(e, "pull \"%.80s\"", text);
	snprintf(origin, sizeof origin, "%s/%s", r.host, r.path);
	return ingest_refer(in, full, origin, id, e);
}

int pull_again(struct ingest *in, const char *origin, const char *manifest, bool for_client,
	char id[65], struct err *e)
{
	char text[2 * REF_MAX + 80];
	struct remote *g;
	struct ref r;
	int ret;

	snprintf(text, sizeof text, "%s@sha256:%s", origin, manifest);
	if (!ref_parse(text, &r) || !r.host[0])
		return err_set(e, ERR_SETUP, 0, "the image's origin \"%.100s\" is damaged", origin);
	g = remote_open(&r, in->conf, for_client, e);
	if (!g)
		return err_in(e, "pull \"%.120s\"", text);
	ret = pull_from(in, g, &r, id, e);
	remote_close(g);
	return ret < 0 ? err_in(e, "pull \"%.120s\"", text) : 0;
}

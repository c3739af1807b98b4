#include "images/manifest.h"

#include <sys/utsname.h>

#include "tests/unit/tap.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ALT "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define OCI "application/vnd.oci.image."
#define DESC(type, hex, size)                                                                      \
	"{\"mediaType\":\"" type "\",\"digest\":\"sha256:" hex "\",\"size\":" size "}"
#define CONF  DESC(OCI "config.v1+json", HEX, "7")
#define LAYER DESC(OCI "layer.v1.tar+gzip", ALT, "99")
#define MANIFEST(config, layers)                                                                   \
	"{\"schemaVersion\":2,\"config\":" config ",\"layers\":[" layers "]}\n"

static void manifest(const char *text, int kind, const char *message)
{
	struct err e = {0};
	struct manifest m;
	int r = manifest_parse(text, strlen(text), 2, &m, &e);

	ok(r == -1 && e.kind == kind && strstr(e.msg, message), "manifest refused: %s", message);
	if (r == 0)
		manifest_clear(&m);
	else if (!strstr(e.msg, message))
		printf("# got: %s\n", e.msg);
}

static void config(const char *text, const char *message)
{
	struct err e = {0};
	struct record r;
	int got = manifest_config(text, strlen(text), 2, &r, &e);

	ok(got == -1 && e.kind == ERR_REQUEST && strstr(e.msg, message), "config refused: %s",
		message);
	if (got == 0)
		record_clear(&r);
	else if (!strstr(e.msg, message))
		printf("# got: %s\n", e.msg);
}

static void pick(const char *arch, bool want)
{
	char text[1000];
	struct platform own;
	struct descriptor d;
	struct err e = {0};
	int r;

	snprintf(text, sizeof text,
		"{\"schemaVersion\":2,\"manifests\":["
		"{\"digest\":\"sha256:" HEX "\",\"size\":1,\"platform\":{\"os\":\"windows\","
		"\"architecture\":\"%s\"}},"
		"{\"digest\":\"sha256:" ALT "\",\"size\":2,\"platform\":{\"os\":\"linux\","
		"\"architecture\":\"%s\"}}]}",
		arch, arch);
	platform_own(&own);
	r = manifest_pick(text, strlen(text), &own, &d, &e);
	if (want)
		ok(r == 0 && d.size == 2 && !strcmp(d.digest, "sha256:" ALT),
			"the entry for linux and this machine is taken");
	else
		ok(r == -1 && strstr(e.msg, "no image for linux/"), "no entry for this machine");
}

static void good(void)
{
	static const char text[] = MANIFEST(CONF, LAYER "," LAYER);
	static const char conf[] = "{\"os\":\"linux\",\"config\":{\"Env\":[\"A=b\"],\"WorkingDir\":"
				   "\"\",\"User\":\"7\"},"
				   "\"rootfs\":{\"diff_ids\":[\"sha256:" HEX "\",\"sha256:" ALT
				   "\"]}}";
	static const char saved[] = "[{\"Config\":\"c\",\"Layers\":[\"a\",\"b\"]}]";
	struct manifest m;
	struct record r;
	struct saved s;
	struct err e;

	ok(manifest_parse(text, sizeof text - 1, 2, &m, &e) == 0 && m.nlayers == 2 &&
			m.config.size == 7 && m.layers[1].size == 99,
		"a manifest is read");
	manifest_clear(&m);
	ok(manifest_config(conf, sizeof conf - 1, 2, &r, &e) == 0 && r.nlayers == 2 &&
			!strcmp(r.layers[0], ALT) && r.nenv == 1 && !r.workdir &&
			!strcmp(r.user, "7"),
		"a config is read, layers topmost first");
	record_clear(&r);
	ok(manifest_saved(saved, sizeof saved - 1, 2, &s, &e) == 0 && s.nlayers == 2 &&
			!strcmp(s.config, "c") && !strcmp(s.layers[1], "b"),
		"a manifest.json is read");
	saved_clear(&s);
	ok(manifest_saved("[]", 2, 2, &s, &e) == -1, "one without an image is refused");
	ok(manifest_media(OCI "layer.v1.tar+gzip; charset=utf-8") == MEDIA_LAYER &&
			manifest_media(OCI "layer.v1.tar+gzipx") == MEDIA_OTHER,
		"media types, with and without parameters");
}

int main(void)
{
	struct utsname u;

	good();
	manifest("", ERR_REQUEST, "not valid JSON");
	manifest("null", ERR_REQUEST, "not valid JSON");
	manifest("[]", ERR_REQUEST, "not an image manifest");
	manifest("{} x", ERR_REQUEST, "not valid JSON");
	manifest("{\"a\":\"\xff\"}", ERR_REQUEST, "not valid JSON");
	manifest("{\"schemaVersion\":1,\"config\":" CONF ",\"layers\":[" LAYER "]}", ERR_REQUEST,
		"schema 1");
	manifest("{\"schemaVersion\":2,\"config\":" CONF ",\"layers\":[" LAYER
		 "],\"manifests\":[]}",
		ERR_REQUEST, "not an image manifest");
	manifest("{\"schemaVersion\":2,\"mediaType\":\"" OCI "index.v1+json\",\"config\":" CONF
		 ",\"layers\":[" LAYER "]}",
		ERR_REQUEST, "not an image manifest");
	manifest(MANIFEST(CONF, ""), ERR_REQUEST, "no layers");
	manifest(MANIFEST(CONF, LAYER "," LAYER "," LAYER), ERR_LIMIT, "image_layers_max");
	manifest(MANIFEST(LAYER, LAYER), ERR_REQUEST, "an artifact, not an image");
	manifest(MANIFEST(CONF, CONF), ERR_REQUEST, "unknown media type");
	manifest(MANIFEST(DESC(OCI "config.v1+json", HEX "0", "7"), LAYER), ERR_REQUEST,
		"malformed digest");
	manifest(MANIFEST(CONF, DESC(OCI "layer.v1.tar", "../../../x", "7")), ERR_REQUEST,
		"malformed digest");
	manifest(
		MANIFEST(CONF, DESC(OCI "layer.v1.tar", HEX, "-1")), ERR_REQUEST, "malformed size");
	manifest(MANIFEST(CONF, DESC(OCI "layer.v1.tar", HEX, "99999999999999999999")), ERR_REQUEST,
		"malformed size");
	manifest(MANIFEST(CONF, DESC(OCI "layer.v1.tar", HEX, "1.5")), ERR_REQUEST,
		"malformed size");
	manifest(MANIFEST(DESC(OCI "config.v1+json", HEX, "5000000"), LAYER), ERR_REQUEST,
		"config is too large");
	config("{}", "lists 0 layers");
	config("{\"os\":\"windows\"}", "not for Linux");
	config("{\"rootfs\":{\"diff_ids\":[\"sha256:x\"]}}", "malformed diff_id");
	config("{\"rootfs\":{\"diff_ids\":[\"sha256:" HEX "\"]},\"config\":{\"Env\":[7]}}",
		"environment");
	config("{\"rootfs\":{\"diff_ids\":[\"sha256:" HEX
	       "\"]},\"config\":{\"Env\":[\"A=b\\u0000c\"]}}",
		"environment");
	config("{\"rootfs\":{\"diff_ids\":[\"sha256:" HEX
	       "\"]},\"config\":{\"WorkingDir\":\"/a/..\"}}",
		"working directory");
	uname(&u);
	pick(!strcmp(u.machine, "x86_64")       ? "amd64"
		: !strcmp(u.machine, "aarch64") ? "arm64"
						: u.machine,
		true);
	pick("pdp11", false);
	return done();
}

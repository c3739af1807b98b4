#include "images/manifest.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "images/layout.h"
#include "images/ref.h"
#include "isolate/buf.h"
#include "isolate/own.h"
#include "images/own_json.h"

enum { JSON_DEPTH = 24, INDEX_ENTRIES_MAX = 1000 };

struct json_object *manifest_json(const char *text, size_t n, const char *what, struct err *e)
{
	struct json_tokener *t = n <= MANIFEST_MAX ? json_tokener_new_ex(JSON_DEPTH) : NULL;
	struct json_object *o = NULL;

	while (n && text[n - 1] && strchr(" \t\r\n", text[n - 1])) /* strict means strict */
		n--;
	if (!t) {
		err_set(e, ERR_REQUEST, 0, "the %s is too large", what);
		return NULL;
	}
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, text, (int)n);
	/* manifest.json of `docker save` is an array, everything else an object. */
	if (json_tokener_get_error(t) != json_tokener_success ||
		json_tokener_get_parse_end(t) != n ||
		(!json_object_is_type(o, json_type_object) &&
			!json_object_is_type(o, json_type_array))) {
		json_object_put(o);
		o = NULL;
		err_set(e, ERR_REQUEST, 0, "the %s is not valid JSON", what);
	}
	json_tokener_free(t);
	return o;
}

static struct json_object *member(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) ||
		!json_object_is_type(v, type))
		return NULL;
	return v;
}

/* The text of a member, or NULL when it is absent, no string, or holds a NUL. */
static const char *text_of(struct json_object *v)
{
	const char *s;

	if (!json_object_is_type(v, json_type_string))
		return NULL;
	s = json_object_get_string(v);
	return strlen(s) == (size_t)json_object_get_string_len(v) ? s : NULL;
}

static const char *member_text(struct json_object *o, const char *key)
{
	return text_of(member(o, key, json_type_string));
}

enum media manifest_media(const char *type)
{
	static const struct {
		const char *type;
		enum media media;
	} known[] = {
		{"application/vnd.oci.image.index.v1+json", MEDIA_INDEX},
		{"application/vnd.docker.distribution.manifest.list.v2+json", MEDIA_INDEX},
		{"application/vnd.oci.image.manifest.v1+json", MEDIA_MANIFEST},
		{"application/vnd.docker.distribution.manifest.v2+json", MEDIA_MANIFEST},
		{"application/vnd.oci.image.config.v1+json", MEDIA_CONFIG},
		{"application/vnd.docker.container.image.v1+json", MEDIA_CONFIG},
		{"application/vnd.oci.image.layer.v1.tar", MEDIA_LAYER},
		{"application/vnd.oci.image.layer.v1.tar+gzip", MEDIA_LAYER},
		{"application/vnd.oci.image.layer.v1.tar+zstd", MEDIA_LAYER},
		{"application/vnd.docker.image.rootfs.diff.tar", MEDIA_LAYER},
		{"application/vnd.docker.image.rootfs.diff.tar.gzip", MEDIA_LAYER},
		{"application/vnd.docker.image.rootfs.diff.tar.zstd", MEDIA_LAYER},
		{"application/vnd.docker.image.rootfs.foreign.diff.tar", MEDIA_FOREIGN},
		{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", MEDIA_FOREIGN},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar", MEDIA_FOREIGN},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", MEDIA_FOREIGN},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", MEDIA_FOREIGN},
		{"application/vnd.docker.distribution.manifest.v1+json", MEDIA_SCHEMA1},
		{"application/vnd.docker.distribution.manifest.v1+prettyjws", MEDIA_SCHEMA1},
	};
	size_t n = strcspn(type, "; ");

	for (size_t i = 0; i < NELEM(known); i++)
		if (strlen(known[i].type) == n && !strncmp(known[i].type, type, n))
			return known[i].media;
	return MEDIA_OTHER;
}

/*
 * A document with both "manifests" and "layers" is read as an index by one program and as a
 * manifest by another, so it is neither here; so is one whose mediaType says otherwise.
 */
static enum media kind_of(struct json_object *o)
{
	bool index = member(o, "manifests", json_type_array) != NULL;
	bool manifest = member(o, "layers", json_type_array) != NULL ||
			member(o, "config", json_type_object) != NULL;
	struct json_object *version = member(o, "schemaVersion", json_type_int);
	const char *type = member_text(o, "mediaType");
	enum media kind = index == manifest ? MEDIA_OTHER : index ? MEDIA_INDEX : MEDIA_MANIFEST;

	if (!version || json_object_get_int64(version) != 2 ||
		(type && manifest_media(type) != kind))
		return MEDIA_OTHER;
	return kind;
}

enum media manifest_kind(const char *text, size_t n)
{
	OWN_JSON *o = manifest_json(text, n, "manifest", NULL);

	return o ? kind_of(o) : MEDIA_OTHER;
}

static int read_descriptor(struct json_object *o, struct descriptor *out, struct err *e)
{
	const char *digest = member_text(o, "digest"), *type = member_text(o, "mediaType");
	struct json_object *size = member(o, "size", json_type_int);

	if (!digest || !ref_is_digest(digest))
		return err_set(e, ERR_REQUEST, 0, "the manifest holds a malformed digest");
	if (!size || json_object_get_int64(size) < 0 || json_object_get_int64(size) == INT64_MAX)
		return err_set(e, ERR_REQUEST, 0, "the manifest holds a malformed size");
	memcpy(out->digest, digest, sizeof "sha256:" + 64);
	out->size = json_object_get_int64(size);
	out->media = type ? manifest_media(type) : MEDIA_OTHER;
	return 0;
}

/* A member's text, fit to be shown. */
static const char *shown(struct json_object *o, const char *key, char out[100])
{
	const char *text = member_text(o, key);

	return text ? quote(text, strlen(text), out, 100) : "(none)";
}

static int refuse_layer(struct json_object *o, size_t at, enum media media, struct err *e)
{
	char type[100];

	if (media == MEDIA_FOREIGN)
		return err_set(e, ERR_REQUEST, 0,
			"layer %zu is not distributable: only its publisher has it", at);
	return err_set(e, ERR_REQUEST, 0, "layer %zu has an unknown media type %s", at,
		shown(o, "mediaType", type));
}

static int read_layers(
	struct json_object *list, int64_t layers_max, struct manifest *out, struct err *e)
{
	size_t n = list ? json_object_array_length(list) : 0;

	if (n == 0)
		return err_set(e, ERR_REQUEST, 0, "the image has no layers");
	if ((int64_t)n > layers_max)
		return err_set(e, ERR_LIMIT, 0,
			"the image has %zu layers; image_layers_max is %lld", n,
			(long long)layers_max);
	out->layers = calloc(n, sizeof *out->layers);
	if (!out->layers)
		return err_set(e, ERR_SETUP, ENOMEM, "read the manifest");
	for (out->nlayers = 0; out->nlayers < n; out->nlayers++) {
		struct descriptor *d = &out->layers[out->nlayers];

		if (read_descriptor(json_object_array_get_idx(list, out->nlayers), d, e) < 0)
			return -1;
		if (d->media != MEDIA_LAYER)
			return refuse_layer(json_object_array_get_idx(list, out->nlayers),
				out->nlayers, d->media, e);
	}
	return 0;
}

static int refuse_kind(struct json_object *o, struct err *e)
{
	struct json_object *version = member(o, "schemaVersion", json_type_int);
	const char *type = member_text(o, "mediaType");

	if ((version && json_object_get_int64(version) == 1) ||
		(type && manifest_media(type) == MEDIA_SCHEMA1))
		return err_set(e, ERR_REQUEST, 0,
			"the image has the obsolete format schema 1: push it again with a newer "
			"program");
	if (kind_of(o) == MEDIA_INDEX)
		return err_set(e, ERR_REQUEST, 0, "the image index names another index");
	return err_set(e, ERR_REQUEST, 0, "this is not an image manifest (schema 2)");
}

/* A type that says nothing: of a server that knows the document as a file only. */
static bool vague(const char *type)
{
	static const char *const types[] = {
		"", "application/json", "text/plain", "application/octet-stream"};
	size_t n = strcspn(type, "; ");

	for (size_t i = 0; i < NELEM(types); i++)
		if (strlen(types[i]) == n && !strncmp(types[i], type, n))
			return true;
	return false;
}

int manifest_check_type(const char *text, size_t n, const char *content_type, struct err *e)
{
	OWN_JSON *o = manifest_json(text, n, "manifest", e);
	const char *own = member_text(o, "mediaType");
	size_t len = strcspn(content_type, "; ");
	char told[100], says[100];
	enum media kind;

	if (!o)
		return -1;
	if (vague(content_type))
		return 0;
	quote(content_type, len, told, sizeof told);
	if (own && (strlen(own) != len || strncmp(own, content_type, len) != 0))
		return err_set(e, ERR_REQUEST, 0, "Content-Type %s, but the document says %s", told,
			shown(o, "mediaType", says));
	kind = kind_of(o);
	if (kind == MEDIA_OTHER)
		return refuse_kind(o, e);
	if (manifest_media(content_type) != kind)
		return err_set(e, ERR_REQUEST, 0, "Content-Type %s, but the document is %s", told,
			kind == MEDIA_INDEX ? "an index" : "a manifest");
	return 0;
}

int manifest_parse(
	const char *text, size_t n, int64_t layers_max, struct manifest *out, struct err *e)
{
	OWN_JSON *o = manifest_json(text, n, "manifest", e);
	struct json_object *config;
	char type[100];

	memset(out, 0, sizeof *out);
	if (!o)
		return -1;
	config = member(o, "config", json_type_object);
	if (kind_of(o) != MEDIA_MANIFEST || !config)
		return refuse_kind(o, e);
	if (read_descriptor(config, &out->config, e) < 0)
		return -1;
	if (out->config.media != MEDIA_CONFIG)
		return err_set(e, ERR_REQUEST, 0,
			"this is an artifact, not an image: the manifest's config has the type %s",
			shown(config, "mediaType", type));
	if (out->config.size > MANIFEST_MAX)
		return err_set(e, ERR_REQUEST, 0, "the manifest's config is too large");
	if (read_layers(member(o, "layers", json_type_array), layers_max, out, e) < 0) {
		manifest_clear(out);
		return -1;
	}
	return 0;
}

void manifest_clear(struct manifest *m)
{
	free(m->layers);
	memset(m, 0, sizeof *m);
}

/* What the entry is for; a layout with one image often leaves the platform out. */
static int score(struct json_object *entry, size_t entries, const struct platform *want)
{
	struct json_object *p = member(entry, "platform", json_type_object);
	const char *os = member_text(p, "os"), *arch = member_text(p, "architecture");
	const char *variant = member_text(p, "variant");

	if (!p)
		return entries == 1 ? 1 : 0;
	return os && arch ? platform_score(want, os, arch, variant ? variant : "") : 0;
}

static int check_pick(const struct descriptor *d, struct err *e)
{
	if (d->media == MEDIA_INDEX)
		return err_set(e, ERR_REQUEST, 0, "the image index names another index");
	if (d->media == MEDIA_SCHEMA1)
		return err_set(e, ERR_REQUEST, 0, "the image has the obsolete format schema 1");
	if (d->size > MANIFEST_MAX)
		return err_set(e, ERR_REQUEST, 0, "the manifest is too large");
	return 0;
}

int manifest_pick(const char *text, size_t n, const struct platform *want, struct descriptor *out,
	struct err *e)
{
	OWN_JSON *o = manifest_json(text, n, "image index", e);
	struct json_object *list, *found = NULL;
	char name[PLATFORM_TEXT];
	int best = 0;

	if (!o)
		return -1;
	list = member(o, "manifests", json_type_array);
	if (!list || json_object_array_length(list) > INDEX_ENTRIES_MAX)
		return err_set(e, ERR_REQUEST, 0, "the image index is malformed or too long");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *en = json_object_array_get_idx(list, i);
		int s = score(en, json_object_array_length(list), want);

		if (s > best) {
			best = s;
			found = en;
		}
	}
	if (!found)
		return err_set(e, ERR_REQUEST, 0, "the image index has no image for %s",
			platform_format(want, name));
	return read_descriptor(found, out, e) < 0 ? -1 : check_pick(out, e);
}

static int read_diff_ids(
	struct json_object *list, int64_t layers_max, struct record *out, struct err *e)
{
	size_t n = list ? json_object_array_length(list) : 0;

	if (n == 0 || (int64_t)n > layers_max)
		return err_set(e, ERR_REQUEST, 0, "the image's config lists %zu layers", n);
	for (size_t i = n; i-- > 0;) {
		const char *id = text_of(json_object_array_get_idx(list, i));

		if (!id || !ref_is_digest(id))
			return err_set(
				e, ERR_REQUEST, 0, "the image's config holds a malformed diff_id");
		if (record_add_layer(out, id + strlen("sha256:"), e) < 0)
			return -1;
	}
	return 0;
}

static int read_args(struct json_object *list, struct record *out,
	int (*add)(struct record *, const char *, struct err *), struct err *e)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		const char *text = text_of(json_object_array_get_idx(list, i));

		if (!text)
			return err_set(
				e, ERR_REQUEST, 0, "the image's config holds a malformed argument");
		if (add(out, text, e) < 0)
			return -1;
	}
	return 0;
}

/* Labels are notes: one that is no text or too long is left out. */
static int read_labels(struct json_object *labels, struct record *out, struct err *e)
{
	if (!labels)
		return 0;
	json_object_object_foreach(labels, key, value)
	{
		const char *text = text_of(value);
		OWN_BUF b = BUF_INIT(RECORD_TEXT_MAX);

		if (!text || strchr(key, '=') || out->nlabels == RECORD_LABELS_MAX)
			continue;
		buf_addf(&b, "%s=%s", key, text);
		if (buf_ok(&b) && record_add_label(out, b.p, e) < 0)
			return -1;
	}
	return 0;
}

static int read_settings(struct json_object *config, struct record *out, struct err *e)
{
	struct json_object *env = member(config, "Env", json_type_array);
	const char *workdir = member_text(config, "WorkingDir");
	const char *user = member_text(config, "User");

	for (size_t i = 0; env && i < json_object_array_length(env); i++) {
		const char *text = text_of(json_object_array_get_idx(env, i));

		if (record_add_env(out, text ? text : "", e) < 0)
			return -1;
	}
	if (read_args(member(config, "Entrypoint", json_type_array), out, record_add_entrypoint,
		    e) < 0 ||
		read_args(member(config, "Cmd", json_type_array), out, record_add_cmd, e) < 0 ||
		read_labels(member(config, "Labels", json_type_object), out, e) < 0)
		return -1;
	if (workdir && *workdir && record_set_workdir(out, workdir, e) < 0)
		return -1;
	return user && *user ? record_set_user(out, user, e) : 0;
}

int manifest_config(
	const char *text, size_t n, int64_t layers_max, struct record *out, struct err *e)
{
	OWN_JSON *o = manifest_json(text, n, "image config", e);
	struct json_object *rootfs, *config;
	const char *os;
	int r;

	memset(out, 0, sizeof *out);
	if (!o)
		return -1;
	rootfs = member(o, "rootfs", json_type_object);
	config = member(o, "config", json_type_object);
	os = member_text(o, "os");
	if (os && *os && strcmp(os, "linux") != 0)
		return err_set(e, ERR_REQUEST, 0, "the image is not for Linux");
	r = read_diff_ids(member(rootfs, "diff_ids", json_type_array), layers_max, out, e);
	if (r == 0 && config)
		r = read_settings(config, out, e);
	if (r < 0)
		record_clear(out);
	return r;
}

bool manifest_platform(const char *text, size_t n, struct platform *out)
{
	OWN_JSON *o = manifest_json(text, n, "image config", NULL);
	const char *os = member_text(o, "os"), *arch = member_text(o, "architecture");
	const char *variant = member_text(o, "variant");

	memset(out, 0, sizeof *out);
	if (!arch || !*arch || strlen(arch) >= sizeof out->arch ||
		(variant && strlen(variant) >= sizeof out->variant))
		return false;
	snprintf(out->os, sizeof out->os, "%s", os && *os ? os : "linux");
	snprintf(out->arch, sizeof out->arch, "%s", arch);
	snprintf(out->variant, sizeof out->variant, "%s", variant ? variant : "");
	return true;
}

static int read_saved(struct json_object *o, int64_t layers_max, struct saved *out, struct err *e)
{
	struct json_object *layers = member(o, "Layers", json_type_array);
	const char *config = member_text(o, "Config");
	size_t n = layers ? json_object_array_length(layers) : 0;

	if (!config || n == 0 || (int64_t)n > layers_max)
		return err_set(e, ERR_REQUEST, 0, "manifest.json names no config or no layers");
	out->config = strdup(config);
	if (!out->config)
		return err_set(e, ERR_SETUP, ENOMEM, "read manifest.json");
	for (size_t i = 0; i < n; i++) {
		const char *name = text_of(json_object_array_get_idx(layers, i));

		if (!name)
			return err_set(e, ERR_REQUEST, 0, "manifest.json holds a malformed layer");
		if (layout_push(&out->layers, &out->nlayers, name, e) < 0)
			return -1;
	}
	return 0;
}

int manifest_saved(const char *text, size_t n, int64_t layers_max, struct saved *out, struct err *e)
{
	OWN_JSON *o = manifest_json(text, n, "manifest.json", e);

	memset(out, 0, sizeof *out);
	if (!o)
		return -1;
	if (!json_object_is_type(o, json_type_array) || json_object_array_length(o) != 1)
		return err_set(e, ERR_REQUEST, 0, "manifest.json must hold exactly one image");
	if (read_saved(json_object_array_get_idx(o, 0), layers_max, out, e) < 0) {
		saved_clear(out);
		return -1;
	}
	return 0;
}

void saved_clear(struct saved *s)
{
	for (size_t i = 0; i < s->nlayers; i++)
		free(s->layers[i]);
	free(s->layers);
	free(s->config);
	memset(s, 0, sizeof *s);
}

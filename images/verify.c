#include "images/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "images/check.h"
#include "images/digest.h"
#include "images/layout.h"
#include "images/pull.h"
#include "images/relist.h"
#include "images/uses.h"
#include "isolate/own.h"

/* One image with its names. */
struct subject {
	char id[65];
	char manifest[65];        /* of a name that has an origin, else of any; "" */
	char origin[REF_MAX + 1]; /* "" */
	struct names layers, bad_blobs, bad_layers;
	bool bad_record, bad;
};

static void subject_clear(struct subject *x)
{
	names_clear(&x->layers);
	names_clear(&x->bad_blobs);
	names_clear(&x->bad_layers);
}

struct run {
	struct verify *v;
	struct names good, bad; /* layers that were read */
	const char *layer;      /* which is being read */
};

static void damage(
	struct run *r, const char *what, const char *name, const char *path, const char *why)
{
	r->v->count++;
	r->v->damaged(r->v->arg, what, name, path, why);
}

/* 1: good, 0: damaged and told. */
static int check_blob(struct run *r, const char *hex, struct err *e)
{
	OWN_BUF text = BUF_INIT(MANIFEST_MAX);
	struct err own = {0};
	char name[128], got[65];

	snprintf(name, sizeof name, "blobs/sha256/%s", hex);
	if (layout_read(r->v->in->store, name, &text, &own) < 0) {
		damage(r, "blob", hex, "",
			own.kind == ERR_NOTFOUND ? "is missing" : "cannot be read");
		return 0;
	}
	if (digest_of(text.p ? text.p : "", text.len, got, e) < 0)
		return -1;
	if (!strcmp(got, hex))
		return 1;
	damage(r, "blob", hex, "", "has other contents");
	return 0;
}

static void layer_damage(void *arg, const char *path, const char *why)
{
	struct run *r = arg;

	damage(r, "layer", r->layer, path, why);
}

static int check_one_layer(struct run *r, const char *layer, struct subject *x, struct err *e)
{
	const struct ingest *in = r->v->in;
	long n;

	if (names_hold(&r->good, layer))
		return 0;
	if (!names_hold(&r->bad, layer)) {
		r->layer = layer;
		n = check_layer(
			in->store, layer, (unsigned)in->conf->pull_timeout_s, layer_damage, r, e);
		if (n < 0)
			return err_in(e, "layer %.12s", layer);
		if (n == 0)
			return layout_push(&r->good.list, &r->good.n, layer, e);
		if (layout_push(&r->bad.list, &r->bad.n, layer, e) < 0)
			return -1;
	}
	x->bad = true;
	return layout_push(&x->bad_layers.list, &x->bad_layers.n, layer, e);
}

static int note_blob(struct run *r, const char *hex, struct subject *x, struct err *e)
{
	int good = check_blob(r, hex, e);

	if (good != 0)
		return good < 0 ? -1 : 0;
	x->bad = true;
	return layout_push(&x->bad_blobs.list, &x->bad_blobs.n, hex, e);
}

/* What the config says and the record should: a record that can be read may be wrong, too. */
static bool record_fits(struct run *r, const struct record *have, const char *id)
{
	OWN_BUF text = BUF_INIT(MANIFEST_MAX), a = BUF_INIT(RECORD_MAX), b = BUF_INIT(RECORD_MAX);
	struct record want, copy = *have;
	char name[128];
	bool fits;

	snprintf(name, sizeof name, "blobs/sha256/%s", id);
	if (layout_read(r->v->in->store, name, &text, NULL) < 0 ||
		manifest_config(text.p ? text.p : "", text.len, RECORD_LAYERS_MAX, &want, NULL) < 0)
		return true; /* nothing to compare with */
	/* Layers have other ids where they depend on those below. */
	fits = have->nlayers <= want.nlayers;
	want.nlayers = copy.nlayers = 0;
	want.bytes = copy.bytes = 0;
	fits = fits && record_format(&want, &a) == 0 && record_format(&copy, &b) == 0 &&
	       !strcmp(a.p, b.p);
	record_clear(&want);
	return fits;
}

static int check_record(struct run *r, struct subject *x, struct err *e)
{
	struct record rec = {0};
	struct err own = {0};
	int ret = 0;

	if (layout_record(r->v->in->store, x->id, &rec, &own) < 0) {
		damage(r, "image", x->id, "", own.msg);
		x->bad = x->bad_record = true;
		return 0;
	}
	if (!names_hold(&x->bad_blobs, x->id) && !record_fits(r, &rec, x->id)) {
		damage(r, "image", x->id, "", "its record is not what its config says");
		x->bad = x->bad_record = true;
	}
	for (size_t i = 0; i < rec.nlayers && ret == 0; i++)
		if (!names_hold(&x->layers, rec.layers[i]))
			ret = layout_push(&x->layers.list, &x->layers.n, rec.layers[i], e);
	record_clear(&rec);
	return ret;
}

static int check_subject(struct run *r, struct subject *x, struct err *e)
{
	if (note_blob(r, x->id, x, e) < 0 ||
		(x->manifest[0] && note_blob(r, x->manifest, x, e) < 0) ||
		check_record(r, x, e) < 0)
		return -1;
	for (size_t i = 0; i < x->layers.n; i++)
		if (check_one_layer(r, x->layers.list[i], x, e) < 0)
			return -1;
	return 0;
}

static int no_source(void *arg, const struct descriptor *part, ingest_sink_fn *sink, void *sink_arg,
	struct err *e)
{
	(void)arg, (void)part, (void)sink, (void)sink_arg;
	return err_set(e, ERR_NOTFOUND, 0, "it was not pulled from a registry: import it again");
}

/* A record follows from the config and the layers, when those are good. */
static int rebuild(struct run *r, const struct subject *x, struct err *e)
{
	const struct source none = {.fetch = no_source};
	struct ingest *in = r->v->in;
	OWN_BUF text = BUF_INIT(MANIFEST_MAX);
	OWN_MEM struct descriptor *parts = NULL;
	struct record rec = {0};
	char name[128], id[65];
	int ret;

	snprintf(name, sizeof name, "blobs/sha256/%s", x->id);
	if (x->bad_blobs.n || x->bad_layers.n)
		return no_source(NULL, NULL, NULL, NULL, e);
	if (layout_read(in->store, name, &text, e) < 0 ||
		manifest_config(
			text.p ? text.p : "", text.len, in->conf->image_layers_max, &rec, e) < 0)
		return -1;
	parts = calloc(rec.nlayers, sizeof *parts);
	for (size_t i = 0; parts && i < rec.nlayers; i++)
		parts[i].size = -1;
	ret = parts ? ingest_layers(in, &none, &rec, parts, rec.nlayers, e)
		    : err_set(e, ERR_SETUP, ENOMEM, "rebuild an image");
	if (ret == 0)
		ret = ingest_record(in, text.p, text.len, &rec, id, e);
	record_clear(&rec);
	return ret;
}

/* Out of the way, so that the pull brings it in again: a layer without its mark is not whole. */
static int set_aside(struct run *r, const struct subject *x, struct err *e)
{
	const struct store *s = r->v->in->store;
	char name[160];

	for (size_t i = 0; i < x->bad_layers.n; i++) {
		OWN_FD held = -1;

		snprintf(name, sizeof name, "layers/%s", x->bad_layers.list[i]);
		held = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		/* What is put in its place would pull the files from under a sandbox. */
		if (held >= 0 && flock(held, LOCK_EX | LOCK_NB) < 0)
			return err_set(e, ERR_BUSY, 0, "layer %.12s is used by a sandbox",
				x->bad_layers.list[i]);
		snprintf(name, sizeof name, "layers/%s/done", x->bad_layers.list[i]);
		if (unlinkat(s->dir, name, 0) < 0 && errno != ENOENT)
			return err_set(e, ERR_SETUP, errno, "set layer %.12s aside",
				x->bad_layers.list[i]);
	}
	for (size_t i = 0; i < x->bad_blobs.n; i++) {
		snprintf(name, sizeof name, "blobs/sha256/%s", x->bad_blobs.list[i]);
		if (unlinkat(s->dir, name, 0) < 0 && errno != ENOENT)
			return err_set(
				e, ERR_SETUP, errno, "set blob %.12s aside", x->bad_blobs.list[i]);
	}
	return 0;
}

/* What cannot be had again: a list of what there is is better than none. */
static int relist(struct run *r, const struct subject *x, struct err *e)
{
	const struct ingest *in = r->v->in;

	for (size_t i = 0; i < x->bad_layers.n; i++)
		if (!relist_needed(in->store, x->bad_layers.list[i]))
			return no_source(NULL, NULL, NULL, NULL, e);
	for (size_t i = 0; i < x->bad_layers.n; i++)
		if (relist_layer(in->store, x->bad_layers.list[i],
			    (unsigned)in->conf->pull_timeout_s, e) < 0)
			return -1;
	return 0;
}

static int repair(struct run *r, const struct subject *x, struct err *e)
{
	char id[65];

	if (!x->origin[0] && x->bad_layers.n && !x->bad_blobs.n && !x->bad_record)
		return relist(r, x, e);
	if (!x->origin[0] || (!x->bad_blobs.n && !x->bad_layers.n))
		return rebuild(r, x, e);
	if (set_aside(r, x, e) < 0 ||
		pull_again(r->v->in, x->origin, x->manifest, r->v->for_client, id, e) < 0)
		return -1;
	return strcmp(id, x->id) ? err_set(e, ERR_REQUEST, 0, "the registry sent another image")
				 : 0;
}

static int verify_subject(struct run *r, struct subject *x, struct err *e)
{
	struct err why = {0};
	char text[300];

	if (check_subject(r, x, e) < 0)
		return -1;
	if (!x->bad)
		return 0;
	if (!r->v->repair) {
		r->v->left++;
		return 0;
	}
	if (repair(r, x, &why) < 0) {
		r->v->left++;
		r->v->repaired(r->v->arg, x->id, err_text(&why, text, sizeof text));
		return 0;
	}
	for (size_t i = 0; i < x->bad_layers.n; i++) /* of the next image, too */
		if (layout_push(&r->good.list, &r->good.n, x->bad_layers.list[i], e) < 0)
			return -1;
	r->v->repaired(r->v->arg, x->id, NULL);
	return 0;
}

/* Fills in what the names of an image tell. */
static int read_names(const struct run *r, struct subject *x, struct err *e)
{
	const struct store *s = r->v->in->store;
	OWN_NAMES refs = {0};

	if (names_list(s->dir, "refs", false, &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n; i++) {
		char file[REF_MAX + 16];
		struct named named;

		snprintf(file, sizeof file, "refs/%s", refs.list[i]);
		if (layout_named(s, file, &named, NULL) < 0)
			continue;
		if (strcmp(named.id, x->id) != 0 || x->origin[0] || !named.manifest[0])
			continue;
		memcpy(x->manifest, named.manifest, sizeof x->manifest);
		memcpy(x->origin, named.origin, sizeof x->origin);
	}
	return 0;
}

static int verify_id(struct run *r, const char *id, struct err *e)
{
	struct subject x = {.bad = false};
	int ret;

	snprintf(x.id, sizeof x.id, "%s", id);
	ret = read_names(r, &x, e);
	if (ret == 0)
		ret = verify_subject(r, &x, e);
	subject_clear(&x);
	return ret;
}

/* The ids of images and those that references name: a record may be missing. */
static int list_ids(struct run *r, struct names *ids, struct err *e)
{
	const struct store *s = r->v->in->store;
	OWN_NAMES refs = {0};

	if (names_list(s->dir, "images", false, ids, e) < 0 ||
		names_list(s->dir, "refs", false, &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n; i++) {
		char file[REF_MAX + 16];
		struct err own = {0};
		struct named named;

		snprintf(file, sizeof file, "refs/%s", refs.list[i]);
		if (layout_named(s, file, &named, &own) < 0) {
			if (own.kind == ERR_NOTFOUND)
				continue;
			damage(r, "reference", refs.list[i], "",
				"is damaged: pull or import it again");
			r->v->left++;
			continue;
		}
		if (!names_hold(ids, named.id) && layout_push(&ids->list, &ids->n, named.id, e) < 0)
			return -1;
	}
	return 0;
}

int verify_store(struct verify *v, const char *ref, struct err *e)
{
	struct run r = {.v = v};
	OWN_NAMES ids = {0};
	char id[72];
	int ret;

	v->count = v->left = 0;
	if (ref) {
		ret = layout_find(v->in->store, ref, id, e);
		if (ret == 0)
			ret = layout_push(&ids.list, &ids.n, id, e);
	} else {
		ret = list_ids(&r, &ids, e);
	}
	for (size_t i = 0; i < ids.n && ret == 0; i++)
		if (ref_is_hex(ids.list[i], 64))
			ret = verify_id(&r, ids.list[i], e);
	names_clear(&r.good);
	names_clear(&r.bad);
	return ret;
}

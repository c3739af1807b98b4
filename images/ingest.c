#include "images/ingest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images/digest.h"
#include "images/layout.h"
#include "images/rmtree.h"
#include "isolate/own.h"

static void own_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Removes what is below tmp/. The caller holds the exclusive lock, so nobody works there. */
static int sweep(const struct store *s, struct err *e)
{
	__attribute__((cleanup(own_dir))) DIR *d = NULL;
	OWN_FD fd = openat(s->dir, "tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *ent;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return err_set(e, ERR_SETUP, errno, "open the image store's tmp");
	take_fd(&fd);
	while ((ent = readdir(d)))
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0 &&
			rmtree_at(dirfd(d), ent->d_name, e) < 0)
			return err_in(e, "sweep the image store");
	return 0;
}

int ingest_open(
	struct ingest *in, struct store *s, const struct conf *c, struct progress *p, struct err *e)
{
	struct err busy;
	OWN_FD alone = layout_lock(s, LOCK_EX, true, &busy);

	*in = (struct ingest){.store = s, .conf = c, .progress = p, .lock = -1};
	if (alone >= 0 && sweep(s, e) < 0)
		return -1;
	own_close(&alone);
	in->lock = layout_lock(s, LOCK_SH, false, e);
	return in->lock < 0 ? -1 : 0;
}

void ingest_close(struct ingest *in)
{
	own_close(&in->lock);
}

struct layer_limits ingest_limits(const struct ingest *in, uint64_t spent)
{
	uint64_t max = (uint64_t)in->conf->image_max_bytes;

	return (struct layer_limits){.bytes_max = spent < max ? max - spent : 1,
		.entries_max = (uint64_t)in->conf->image_entries_max,
		.time_max_s = (unsigned)in->conf->pull_timeout_s,
		.lock = in->lock};
}

struct document {
	struct buf *out;
	struct digest *digest;
	int64_t left;
};

static int take_document(void *arg, const void *p, size_t n, struct err *e)
{
	struct document *d = arg;

	if ((int64_t)n > d->left)
		return err_set(e, ERR_REQUEST, 0, "a document is larger than its descriptor says");
	d->left -= (int64_t)n;
	digest_add(d->digest, p, n);
	return buf_add(d->out, p, n) < 0 ? err_set(e, ERR_LIMIT, 0, "a document is too large") : 0;
}

/* Compares what came with what was announced. */
static int check_digest(const struct descriptor *want, struct digest *d, struct err *e)
{
	char hex[65];

	if (digest_end(d, hex, e) < 0)
		return -1;
	if (want->digest[0] && strcmp(want->digest + strlen("sha256:"), hex) != 0)
		return err_set(e, ERR_REQUEST, 0, "%.19s is corrupt: its digest is sha256:%.12s",
			want->digest, hex);
	return 0;
}

int ingest_document(
	const struct source *src, const struct descriptor *want, struct buf *out, struct err *e)
{
	struct document d = {out, digest_new(e), want->size};
	int r = -1;

	if (!d.digest)
		return -1;
	if (src->fetch(src->arg, want, take_document, &d, e) == 0) {
		r = d.left == 0 ? check_digest(want, d.digest, e)
				: err_set(e, ERR_REQUEST, 0, "%.19s is cut short", want->digest);
	}
	digest_free(d.digest);
	return r;
}

struct transfer {
	struct ingest *in;
	struct layer *layer;
	struct digest *digest;
	const struct descriptor *want;
	uint64_t taken;
};

static int take_layer(void *arg, const void *p, size_t n, struct err *e)
{
	struct transfer *t = arg;

	t->taken += n;
	if (t->want->size >= 0 && t->taken > (uint64_t)t->want->size)
		return err_set(e, ERR_REQUEST, 0, "a layer is larger than its descriptor says");
	digest_add(t->digest, p, n);
	progress_add(t->in->progress, n);
	return layer_feed(t->layer, p, n, e);
}

static int run_transfer(
	struct transfer *t, const struct source *src, struct layer_result *out, struct err *e)
{
	if (src->fetch(src->arg, t->want, take_layer, t, e) < 0)
		return -1;
	if (t->want->size >= 0 && t->taken != (uint64_t)t->want->size)
		return err_set(e, ERR_REQUEST, 0, "layer %.19s is cut short", t->want->digest);
	/* The digest first: what the unpacker says about corrupt bytes is no help to anybody. */
	if (check_digest(t->want, t->digest, e) < 0)
		return -1;
	return layer_end(t->layer, out, e);
}

/* One layer of an image while it is brought in. */
struct wanted {
	const struct descriptor *part;
	const char *diff_id;  /* it must turn out to have; NULL: any */
	struct reroute links; /* of the layers below it */
	char links_id[65];    /* its id when the links matter */
	uint64_t spent;       /* bytes of the image so far */
};

/* Fetches and unpacks; the id under which it is in the store goes to id. */
static int bring_layer(struct ingest *in, const struct source *src, const struct wanted *w,
	struct layer_result *out, char id[65], struct err *e)
{
	const struct layer_limits lim = ingest_limits(in, w->spent);
	struct transfer t = {in, NULL, NULL, w->part, 0};
	int r = -1;

	t.digest = digest_new(e);
	if (t.digest)
		t.layer = layer_begin(in->store, &lim, &w->links, e);
	if (t.layer && run_transfer(&t, src, out, e) == 0) {
		memcpy(id, out->rerouted ? w->links_id : out->diff_id, 65);
		if (w->diff_id && strcmp(out->diff_id, w->diff_id) != 0)
			err_set(e, ERR_REQUEST, 0, "layer unpacks to diff_id %.12s, not %.12s",
				out->diff_id, w->diff_id);
		else
			r = layer_commit(t.layer, id, e);
	}
	layer_free(t.layer);
	digest_free(t.digest);
	return r;
}

/* The id of a layer that is here and right above these links, or NULL. */
static const char *find_layer(const struct ingest *in, const struct wanted *w)
{
	if (layer_present(in->store, w->diff_id) && layer_fits(in->store, w->diff_id, &w->links))
		return w->diff_id;
	return w->links.nlinks && layer_present(in->store, w->links_id) ? w->links_id : NULL;
}

static int one_layer(
	struct ingest *in, const struct source *src, struct wanted *w, char id[65], struct err *e)
{
	const char *found = find_layer(in, w);
	struct layer_result result;
	OWN_FD lock = -1;

	progress_start(in->progress, w->diff_id, w->part->size > 0 ? (uint64_t)w->part->size : 0);
	in->progress->label[12] = '\0';
	if (!found) {
		lock = layer_lock(in->store, w->diff_id, e);
		if (lock < 0)
			return -1;
		found = find_layer(in, w); /* perhaps since we waited for the lock */
	}
	if (found) {
		w->spent += layer_bytes(in->store, found);
		memcpy(id, found, 65);
		progress_end(in->progress, "already here");
		return 0;
	}
	if (bring_layer(in, src, w, &result, id, e) < 0) {
		progress_end(in->progress, "failed");
		return -1;
	}
	w->spent += result.bytes;
	progress_end(in->progress, "done");
	return 0;
}

/* Notes the links at the top of one layer whose names no layer above it (seen) has. */
static int note_links(const struct ingest *in, const char *layer, struct wanted *w,
	struct buf *seen, struct err *e)
{
	__attribute__((cleanup(own_dir))) DIR *d = NULL;
	char path[PATH_MAX], target[PATH_MAX], mark[300];
	struct dirent *ent;
	ssize_t n;

	snprintf(path, sizeof path, "%s/layers/%s/fs", in->store->path, layer);
	d = opendir(path);
	if (!d)
		return err_set(e, ERR_SETUP, errno, "list layer %.12s", layer);
	while ((ent = readdir(d))) {
		snprintf(mark, sizeof mark, "/%s/", ent->d_name); /* no name holds a slash */
		if (seen->p && strstr(seen->p, mark))
			continue;
		buf_adds(seen, mark);
		n = readlinkat(dirfd(d), ent->d_name, target, sizeof target - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		reroute_add(&w->links, ent->d_name, target);
	}
	return 0;
}

/* Fills links and links_id from the layers below, topmost first. */
static int gather_links(
	const struct ingest *in, struct wanted *w, char (*below)[65], size_t n, struct err *e)
{
	OWN_BUF seen = BUF_INIT(1 << 24), text = BUF_INIT(1 << 16);

	memset(&w->links, 0, sizeof w->links);
	for (size_t i = 0; i < n; i++)
		if (note_links(in, below[i], w, &seen, e) < 0)
			return -1;
	reroute_sort(&w->links);
	buf_addf(&text, "cgibox layer above links 1\n%s\n", w->diff_id);
	for (size_t i = 0; i < w->links.nlinks; i++)
		buf_addf(&text, "%s %s\n", w->links.links[i].name, w->links.links[i].target);
	if (!buf_ok(&seen) || !buf_ok(&text))
		return err_set(e, ERR_LIMIT, 0, "the layers have too many names at their top");
	return digest_of(text.p, text.len, w->links_id, e);
}

int ingest_layers(struct ingest *in, const struct source *src, struct record *r,
	const struct descriptor *parts, size_t nparts, struct err *e)
{
	struct wanted w = {0};
	char id[65];

	if (nparts != r->nlayers)
		return err_set(e, ERR_REQUEST, 0,
			"manifest and config disagree: %zu and %zu layers", nparts, r->nlayers);
	for (size_t i = 0; i < nparts; i++) {
		size_t at = nparts - 1 - i; /* below it, at + 1 ..., is what is here already */

		w.part = &parts[i];
		w.diff_id = r->layers[at];
		if (gather_links(in, &w, r->layers + at + 1, i, e) < 0 ||
			one_layer(in, src, &w, id, e) < 0)
			return -1;
		memcpy(r->layers[at], id, sizeof id);
		if (w.spent > (uint64_t)in->conf->image_max_bytes)
			return err_set(e, ERR_LIMIT, 0,
				"the image is larger than image_max_bytes (%lld)",
				(long long)in->conf->image_max_bytes);
	}
	return 0;
}

int ingest_archive(
	struct ingest *in, const struct source *src, struct layer_result *out, struct err *e)
{
	const struct descriptor any = {.size = -1};
	const struct wanted w = {.part = &any};
	char id[65];
	int r;

	progress_start(in->progress, "archive", 0);
	r = bring_layer(in, src, &w, out, id, e);
	progress_end(in->progress, r < 0 ? "failed" : "done");
	return r;
}

static int write_blob(struct ingest *in, const char *text, size_t n, char hex[65], struct err *e)
{
	char name[128];

	if (digest_of(text, n, hex, e) < 0)
		return -1;
	snprintf(name, sizeof name, "blobs/sha256/%s", hex);
	return layout_write(in->store, name, text, n, e);
}

/* Overlay does not look for this mark on a lower's root: what such a layer hides is left out. */
static void cut_below_opaque(const struct store *s, struct record *r)
{
	char path[PATH_MAX], value[4];

	for (size_t i = 0; i < r->nlayers; i++) {
		snprintf(path, sizeof path, "%s/layers/%s/fs", s->path, r->layers[i]);
		if (lgetxattr(path, "user.overlay.opaque", value, sizeof value) > 0)
			r->nlayers = i + 1;
	}
}

int ingest_record(struct ingest *in, const char *config, size_t n, struct record *r, char id[65],
	struct err *e)
{
	OWN_BUF text = BUF_INIT(RECORD_MAX);
	char name[96];

	cut_below_opaque(in->store, r);
	r->bytes = 0;
	for (size_t i = 0; i < r->nlayers; i++)
		r->bytes += layer_bytes(in->store, r->layers[i]);
	if (record_format(r, &text) < 0)
		return err_set(e, ERR_LIMIT, 0, "the image's environment is too large");
	if (write_blob(in, config, n, id, e) < 0)
		return -1;
	snprintf(name, sizeof name, "images/%s", id);
	return layout_write(in->store, name, text.p, text.len, e);
}

int ingest_refer(struct ingest *in, const char *ref, const char id[65], struct err *e)
{
	char name[REF_MAX + 16], line[80];
	int n = snprintf(line, sizeof line, "%s\n", id);

	layout_ref_name(ref, name, sizeof name);
	if (layout_write(in->store, name, line, (size_t)n, e) < 0)
		return -1;
	/* The directory entries of all that was renamed: the reference is the last of them. */
	if (syncfs(in->store->dir) < 0)
		return err_set(e, ERR_SETUP, errno, "sync the image store");
	return 0;
}

static int ingest_manifest(struct ingest *in, const struct source *src, const char *text, size_t n,
	char id[65], struct err *e)
{
	OWN_BUF config = BUF_INIT(MANIFEST_MAX);
	struct manifest m;
	struct record r = {0};
	char hex[65];
	int ret;

	if (manifest_parse(text, n, in->conf->image_layers_max, &m, e) < 0)
		return -1;
	ret = ingest_document(src, &m.config, &config, e);
	if (ret == 0)
		ret = manifest_config(
			config.p ? config.p : "", config.len, in->conf->image_layers_max, &r, e);
	if (ret == 0)
		ret = ingest_layers(in, src, &r, m.layers, m.nlayers, e);
	if (ret == 0)
		ret = write_blob(in, text, n, hex, e);
	if (ret == 0)
		ret = ingest_record(in, config.p, config.len, &r, id, e);
	record_clear(&r);
	manifest_clear(&m);
	return ret;
}

int ingest_image(struct ingest *in, const struct source *src, const char *text, size_t n,
	char id[65], struct err *e)
{
	OWN_BUF child = BUF_INIT(MANIFEST_MAX);
	struct descriptor d;

	if (manifest_kind(text, n) != MEDIA_INDEX)
		return ingest_manifest(in, src, text, n, id, e);
	if (manifest_pick(text, n, &d, e) < 0 || ingest_document(src, &d, &child, e) < 0)
		return -1;
	return ingest_manifest(in, src, child.p ? child.p : "", child.len, id, e);
}

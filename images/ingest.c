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

#include "images/collect.h"
#include "images/crew.h"
#include "images/digest.h"
#include "images/layout.h"
#include "images/rmtree.h"
#include "isolate/own.h"

/* Removes what is below tmp/. The caller holds the exclusive lock, so nobody works there. */
static int sweep(const struct store *s, struct err *e)
{
	OWN_DIR d = NULL;
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
	platform_own(&in->platform);
	own_close(&alone);
	in->lock = layout_lock(s, LOCK_SH, false, e);
	return in->lock < 0 ? -1 : 0;
}

void ingest_close(struct ingest *in)
{
	struct err ignored;
	OWN_FD alone = -1;

	own_close(&in->lock);
	free(in->brought);
	in->brought = NULL;
	alone = layout_lock(in->store, LOCK_EX, true, &ignored);
	if (alone >= 0)
		sweep(in->store, &ignored); /* else the next writer does */
}

void ingest_abandon(struct ingest *in, const struct err *e)
{
	const struct collect c = {.store = in->store};
	struct err ignored; /* such as ERR_BUSY: `image gc` will find them */

	own_close(&in->lock);
	if (in->brought && e->kind != ERR_SETUP && e->kind != ERR_BUSY)
		collect_layers(&c, in->brought, in->nbrought, &ignored);
	ingest_close(in);
}

struct layer_limits ingest_limits(const struct ingest *in, uint64_t spent)
{
	uint64_t max = (uint64_t)in->conf->image_max_bytes;

	return (struct layer_limits){.bytes_max = spent < max ? max - spent : 1,
		.entries_max = (uint64_t)in->conf->image_entries_max,
		.ratio_max = (uint64_t)in->conf->image_ratio_max,
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

int ingest_document(
	const struct source *src, const struct descriptor *want, struct buf *out, struct err *e)
{
	struct document d = {out, digest_new(e), want->size};
	int r = -1;

	if (!d.digest)
		return -1;
	if (src->fetch(src->arg, want, take_document, &d, e) == 0) {
		r = d.left == 0 ? digest_check(d.digest, want->digest, e)
				: err_set(e, ERR_REQUEST, 0, "%.19s is cut short", want->digest);
	}
	digest_free(d.digest);
	return r;
}

int ingest_archive(
	struct ingest *in, const struct source *src, struct layer_result *out, struct err *e)
{
	const struct descriptor any = {.size = -1};
	struct job j = {.part = &any};

	if (crew_run(in, src, &j, 1, 0, e) < 0)
		return -1;
	*out = j.result;
	return 0;
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

int ingest_refer(
	struct ingest *in, const char *ref, const char *origin, const char id[65], struct err *e)
{
	struct named named = {0};

	memcpy(named.id, id, sizeof named.id);
	memcpy(named.manifest, in->manifest, sizeof named.manifest);
	if (origin)
		snprintf(named.origin, sizeof named.origin, "%s", origin);
	if (layout_name(in->store, ref, &named, e) < 0)
		return -1;
	/* The directory entries of all that was renamed: the reference is the last of them. */
	if (syncfs(in->store->dir) < 0)
		return err_set(e, ERR_SETUP, errno, "sync the image store");
	return 0;
}

int ingest_platform(const struct ingest *in, const char *config, size_t n, struct err *e)
{
	char is[PLATFORM_TEXT], want[PLATFORM_TEXT], shown[2 * PLATFORM_TEXT], text[320];
	struct platform p;

	if (!manifest_platform(config, n, &p) ||
		platform_score(&in->platform, p.os, p.arch, p.variant) > 0)
		return 0;
	platform_format(&p, is);
	quote(is, strlen(is), shown, sizeof shown);
	platform_format(&in->platform, want);
	if (in->platform_asked)
		return err_set(e, ERR_REQUEST, 0, "the image is for %s, not for %s", shown, want);
	snprintf(text, sizeof text, "the image is for %s, this machine is %s", shown, want);
	progress_warn(in->progress, text);
	return 0;
}

static int ingest_manifest(struct ingest *in, const struct source *src, const char *text, size_t n,
	bool indexed, char id[65], struct err *e)
{
	OWN_BUF config = BUF_INIT(MANIFEST_MAX);
	struct manifest m;
	struct record r = {0};
	int ret;

	if (manifest_parse(text, n, in->conf->image_layers_max, &m, e) < 0)
		return -1;
	ret = ingest_document(src, &m.config, &config, e);
	if (ret == 0)
		ret = manifest_config(
			config.p ? config.p : "", config.len, in->conf->image_layers_max, &r, e);
	if (ret == 0 && !indexed) /* what no index says the config does */
		ret = ingest_platform(in, config.p, config.len, e);
	if (ret == 0)
		ret = ingest_layers(in, src, &r, m.layers, m.nlayers, e);
	if (ret == 0)
		ret = write_blob(in, text, n, in->manifest, e);
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
		return ingest_manifest(in, src, text, n, false, id, e);
	if (manifest_pick(text, n, &in->platform, &d, e) < 0 ||
		ingest_document(src, &d, &child, e) < 0)
		return -1;
	return ingest_manifest(in, src, child.p ? child.p : "", child.len, true, id, e);
}

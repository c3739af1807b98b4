#include "images/export.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/layout.h"
#include "images/pack.h"
#include "images/rmtree.h"
#include "images/uses.h"
#include "isolate/own.h"
#include "images/own_json.h"

/* One export: a layout in the directory dir. */
struct export
{
	struct store *store;
	const struct conf *conf;
	int dir;
	char id[72];
	struct record record;
	struct packed *layers; /* bottom first */
	const char *tag;
	struct err *e;
};

static int write_all(int fd, const char *p, size_t n)
{
	ssize_t w;

	for (; n; p += w, n -= (size_t)w) {
		w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			w = 0;
		else if (w <= 0)
			return -1;
	}
	return 0;
}

static int write_file(struct export *x, const char *name, const char *p, size_t n)
{
	OWN_FD fd = openat(
		x->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0 || write_all(fd, p, n) < 0)
		return err_set(x->e, ERR_SETUP, errno, "write \"%.80s\"", name);
	return 0;
}

/* Writes a document as a blob and returns its descriptor. */
static struct json_object *put_document(struct export *x, const char *type, const char *text)
{
	struct json_object *d;
	char hex[65], name[96], digest[80];
	size_t n = strlen(text);

	if (digest_of(text, n, hex, x->e) < 0)
		return NULL;
	snprintf(name, sizeof name, "blobs/sha256/%s", hex);
	if (write_file(x, name, text, n) < 0)
		return NULL;
	snprintf(digest, sizeof digest, "sha256:%s", hex);
	d = json_object_new_object();
	json_object_object_add(d, "mediaType", json_object_new_string(type));
	json_object_object_add(d, "digest", json_object_new_string(digest));
	json_object_object_add(d, "size", json_object_new_int64((int64_t)n));
	return d;
}

static int put_layer(struct export *x, size_t i)
{
	const char *layer = x->record.layers[x->record.nlayers - 1 - i];
	OWN_FD fd = openat(
		x->dir, "blobs/sha256/layer", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	char name[96];

	if (fd < 0)
		return err_set(x->e, ERR_SETUP, errno, "write a layer");
	if (pack_layer(x->store, layer, (unsigned)x->conf->pull_timeout_s, fd, &x->layers[i],
		    x->e) < 0)
		return err_in(x->e, "layer %.12s", layer);
	snprintf(name, sizeof name, "blobs/sha256/%s", x->layers[i].digest);
	if (renameat(x->dir, "blobs/sha256/layer", x->dir, name) < 0)
		return err_set(x->e, ERR_SETUP, errno, "write a layer");
	return 0;
}

static size_t steps_with_layer(struct json_object *history)
{
	struct json_object *empty;
	size_t n = 0;

	for (size_t i = 0; i < json_object_array_length(history); i++)
		n += !json_object_object_get_ex(
			     json_object_array_get_idx(history, i), "empty_layer", &empty) ||
		     !json_object_get_boolean(empty);
	return n;
}

/* The config as it came, with the layers that there are now. */
static struct json_object *make_config(struct export *x)
{
	OWN_BUF text = BUF_INIT(MANIFEST_MAX);
	struct json_object *o, *history, *rootfs, *ids;
	char name[128];

	snprintf(name, sizeof name, "blobs/sha256/%s", x->id);
	if (layout_read(x->store, name, &text, x->e) < 0)
		return NULL;
	o = manifest_json(text.p ? text.p : "", text.len, "image config", x->e);
	if (!o)
		return NULL;
	rootfs = json_object_new_object();
	ids = json_object_new_array();
	for (size_t i = 0; i < x->record.nlayers; i++) {
		char id[80];

		snprintf(id, sizeof id, "sha256:%s", x->layers[i].diff_id);
		json_object_array_add(ids, json_object_new_string(id));
	}
	json_object_object_add(rootfs, "type", json_object_new_string("layers"));
	json_object_object_add(rootfs, "diff_ids", ids);
	json_object_object_add(o, "rootfs", rootfs);
	/* Readers insist on as many steps as layers. */
	if (json_object_object_get_ex(o, "history", &history) &&
		(!json_object_is_type(history, json_type_array) ||
			steps_with_layer(history) != x->record.nlayers))
		json_object_object_del(o, "history");
	if (!json_object_object_get_ex(o, "architecture", NULL)) {
		struct platform own;

		platform_own(&own);
		json_object_object_add(o, "architecture", json_object_new_string(own.arch));
	}
	return o;
}

static struct json_object *put_config(struct export *x)
{
	OWN_JSON *o = make_config(x);

	return o ? put_document(x, "application/vnd.oci.image.config.v1+json",
			   json_object_to_json_string_ext(
				   o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE))
		 : NULL;
}

static struct json_object *layer_list(const struct export *x)
{
	struct json_object *list = json_object_new_array(), *d;
	char digest[80];

	for (size_t i = 0; i < x->record.nlayers; i++) {
		snprintf(digest, sizeof digest, "sha256:%s", x->layers[i].digest);
		d = json_object_new_object();
		json_object_object_add(d, "mediaType",
			json_object_new_string("application/vnd.oci.image.layer.v1.tar+gzip"));
		json_object_object_add(d, "digest", json_object_new_string(digest));
		json_object_object_add(
			d, "size", json_object_new_int64((int64_t)x->layers[i].size));
		json_object_array_add(list, d);
	}
	return list;
}

static struct json_object *put_manifest(struct export *x, struct json_object *config)
{
	static const char type[] = "application/vnd.oci.image.manifest.v1+json";
	OWN_JSON *o = json_object_new_object();

	json_object_object_add(o, "schemaVersion", json_object_new_int(2));
	json_object_object_add(o, "mediaType", json_object_new_string(type));
	json_object_object_add(o, "config", config);
	json_object_object_add(o, "layers", layer_list(x));
	return put_document(x, type,
		json_object_to_json_string_ext(
			o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* index.json is last: a directory without it is no layout. */
static int put_index(struct export *x, struct json_object *manifest)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	OWN_JSON *o = json_object_new_object();
	struct json_object *list = json_object_new_array(), *notes = json_object_new_object();
	const char *text;

	json_object_object_add(
		notes, "org.opencontainers.image.ref.name", json_object_new_string(x->tag));
	json_object_object_add(manifest, "annotations", notes);
	json_object_array_add(list, manifest);
	json_object_object_add(o, "schemaVersion", json_object_new_int(2));
	json_object_object_add(o, "manifests", list);
	text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (write_file(x, "oci-layout", layout, strlen(layout)) < 0)
		return -1;
	return write_file(x, "index.json", text, strlen(text));
}

static int write_layout(struct export *x)
{
	struct json_object *d;

	if (mkdirat(x->dir, "blobs", 0755) < 0 || mkdirat(x->dir, "blobs/sha256", 0755) < 0)
		return err_set(x->e, ERR_SETUP, errno, "make the directories of the layout");
	for (size_t i = 0; i < x->record.nlayers; i++)
		if (put_layer(x, i) < 0)
			return -1;
	d = put_config(x);
	d = d ? put_manifest(x, d) : NULL;
	return d ? put_index(x, d) : -1;
}

/* --- where it goes */

/* A directory must be new or empty. */
static int open_target(const char *path, struct err *e)
{
	OWN_NAMES there = {0};
	OWN_FD dir = -1;

	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make \"%.150s\"", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open \"%.150s\"", path);
	if (names_list(dir, ".", true, &there, e) < 0)
		return -1;
	if (there.n)
		return err_set(e, ERR_REQUEST, 0, "\"%.150s\" is not empty", path);
	return take_fd(&dir);
}

static int add_file(
	struct archive *a, struct archive_entry *en, int dir, const char *name, struct err *e)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char block[65536];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "open \"%.80s\"", name);
	archive_entry_clear(en);
	archive_entry_copy_pathname(en, name);
	archive_entry_set_filetype(en, S_ISDIR(st.st_mode) ? AE_IFDIR : AE_IFREG);
	archive_entry_set_perm(en, S_ISDIR(st.st_mode) ? 0755 : 0644);
	archive_entry_set_size(en, S_ISDIR(st.st_mode) ? 0 : st.st_size);
	if (archive_write_header(a, en) != ARCHIVE_OK)
		return err_set(e, ERR_SETUP, archive_errno(a), "write the archive");
	while (S_ISREG(st.st_mode) && (n = read(fd, block, sizeof block)) != 0)
		if (n < 0 || archive_write_data(a, block, (size_t)n) != n)
			return err_set(e, ERR_SETUP, n < 0 ? errno : archive_errno(a),
				"write the archive");
	return 0;
}

static int add_all(struct archive *a, struct archive_entry *en, int dir, struct err *e)
{
	static const char *const first[] = {"oci-layout", "index.json", "blobs", "blobs/sha256"};
	OWN_NAMES blobs = {0};

	if (names_list(dir, "blobs/sha256", false, &blobs, e) < 0)
		return -1;
	for (size_t i = 0; i < NELEM(first); i++)
		if (add_file(a, en, dir, first[i], e) < 0)
			return -1;
	for (size_t i = 0; i < blobs.n; i++) {
		char name[300];

		snprintf(name, sizeof name, "blobs/sha256/%s", blobs.list[i]);
		if (add_file(a, en, dir, name, e) < 0)
			return -1;
	}
	return 0;
}

static int write_archive(int dir, int fd, struct err *e)
{
	struct archive *a = archive_write_new();
	struct archive_entry *en = archive_entry_new();
	int r = -1;

	if (!a || !en || archive_write_set_format_pax_restricted(a) != ARCHIVE_OK ||
		archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
		archive_write_open_fd(a, fd) != ARCHIVE_OK)
		err_set(e, ERR_SETUP, ENOMEM, "write the archive");
	else
		r = add_all(a, en, dir, e);
	if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
		r = err_set(e, ERR_SETUP, archive_errno(a), "write the archive");
	archive_entry_free(en);
	archive_write_free(a);
	return r;
}

/* The layout of an archive is made in the store first: its sizes stand before its contents. */
static int export_archive(struct export *x, int fd)
{
	OWN_FD lock = layout_lock(x->store, LOCK_SH, false, x->e);
	char tmp[128];
	int r = -1;

	if (lock < 0)
		return -1;
	layout_tmp_name(tmp, sizeof tmp, "export");
	if (mkdirat(x->store->dir, tmp, 0700) < 0)
		return err_set(x->e, ERR_SETUP, errno, "make \"%s\" in the image store", tmp);
	x->dir = openat(x->store->dir, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (x->dir < 0)
		err_set(x->e, ERR_SETUP, errno, "open \"%s\" in the image store", tmp);
	else if (write_layout(x) == 0)
		r = write_archive(x->dir, fd, x->e);
	own_close(&x->dir);
	rmtree_at(x->store->dir, tmp, NULL);
	return r;
}

/* Under another name until it is whole. */
static int export_file(struct export *x, const char *path)
{
	OWN_MEM char *tmp = NULL;
	OWN_FD fd = -1;
	int r;

	if (asprintf(&tmp, "%s.%ld.part", path, (long)getpid()) < 0)
		return err_set(x->e, ERR_SETUP, ENOMEM, "export an image");
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(x->e, ERR_SETUP, errno, "create \"%.150s\"", tmp);
	r = export_archive(x, fd);
	if (r == 0 && (fsync(fd) < 0 || rename(tmp, path) < 0))
		r = err_set(x->e, ERR_SETUP, errno, "write \"%.150s\"", path);
	if (r < 0)
		unlink(tmp);
	return r;
}

static int export_to(struct export *x, const char *path)
{
	size_t n = strlen(path);
	bool directory = n && path[n - 1] == '/', there;
	struct stat st;
	int r;

	if (!strcmp(path, "-"))
		return isatty(STDOUT_FILENO) == 1
			       ? err_set(x->e, ERR_REQUEST, 0,
					 "an archive is not written to a terminal")
			       : export_archive(x, STDOUT_FILENO);
	there = !directory && stat(path, &st) == 0;
	if (!directory && (!there || S_ISREG(st.st_mode)))
		return export_file(x, path);
	if (there && !S_ISDIR(st.st_mode))
		return err_set(x->e, ERR_REQUEST, 0, "\"%.150s\" is no file", path);
	x->dir = open_target(path, x->e);
	r = x->dir < 0 ? -1 : write_layout(x);
	own_close(&x->dir);
	return r;
}

int export_image(
	struct store *s, const struct conf *c, const char *ref, const char *path, struct err *e)
{
	struct export x = {.store = s, .conf = c, .dir = -1, .tag = "latest", .e = e};
	struct image im = {.npins = 0};
	struct ref r;
	int ret;

	if (!strcmp(ref, "host"))
		return err_set(e, ERR_REQUEST, 0, "the built-in image \"host\" cannot be exported");
	if (store_resolve(s, ref, &im, e) < 0) /* holds the layers */
		return -1;
	memcpy(x.id, im.id, sizeof x.id);
	if (ref_parse(ref, &r) && r.tag[0])
		x.tag = r.tag;
	ret = layout_record(s, x.id, &x.record, e);
	x.layers = ret < 0 ? NULL : calloc(x.record.nlayers + 1, sizeof *x.layers);
	if (x.layers)
		ret = export_to(&x, path);
	else if (ret == 0)
		ret = err_set(e, ERR_SETUP, ENOMEM, "export an image");
	free(x.layers);
	record_clear(&x.record);
	image_clear(&im);
	return ret;
}

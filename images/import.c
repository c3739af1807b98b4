#include "images/import.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "images/layout.h"
#include "images/sniff.h"
#include "images/tag.h"
#include "isolate/beneath.h"
#include "isolate/own.h"

enum { BLOCK = 256 << 10 };

/* Gives a whole file to a sink. */
static int pour(int fd, ingest_sink_fn *sink, void *sink_arg, struct err *e)
{
	static const size_t size = BLOCK;
	OWN_MEM char *block = malloc(size);
	ssize_t n;

	if (!block)
		return err_set(e, ERR_SETUP, ENOMEM, "read a file");
	while ((n = read(fd, block, size)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read a file");
		if (sink(sink_arg, block, (size_t)n, e) < 0)
			return -1;
	}
	return 0;
}

/* A regular file below a directory that a stranger filled; links inside it are followed. */
static int open_inside(int dir, const char *name, struct err *e)
{
	char shown[120];
	OWN_FD fd = beneath_open(dir, name, O_RDONLY | O_NONBLOCK, BENEATH_LINKS);
	struct stat st;

	quote(name, strlen(name), shown, sizeof shown);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_REQUEST, errno, "open %s in the image", shown);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_REQUEST, 0, "%s in the image is not a file", shown);
	return take_fd(&fd);
}

static int read_inside(int dir, const char *name, struct buf *out, struct err *e)
{
	OWN_FD fd = open_inside(dir, name, e);
	char block[16384];
	ssize_t n;

	if (fd < 0)
		return -1;
	while ((n = read(fd, block, sizeof block)) != 0)
		if (n < 0 || buf_add(out, block, (size_t)n) < 0)
			return err_set(
				e, ERR_REQUEST, n < 0 ? errno : EFBIG, "read \"%.60s\"", name);
	return buf_add(out, "", 0);
}

/* source.fetch of an OCI layout: arg points at its directory descriptor. */
static int fetch_blob(void *arg, const struct descriptor *part, ingest_sink_fn *sink,
	void *sink_arg, struct err *e)
{
	const int *dir = arg;
	char name[96];
	OWN_FD fd = -1;

	snprintf(name, sizeof name, "blobs/sha256/%s", part->digest + strlen("sha256:"));
	fd = open_inside(*dir, name, e);
	return fd < 0 ? -1 : pour(fd, sink, sink_arg, e);
}

static int import_layout(struct ingest *in, int dir, char id[65], struct err *e)
{
	const struct source src = {.fetch = fetch_blob, .arg = &dir};
	OWN_BUF index = BUF_INIT(MANIFEST_MAX), doc = BUF_INIT(MANIFEST_MAX);
	struct descriptor d;

	if (read_inside(dir, "index.json", &index, e) < 0 ||
		manifest_pick(index.p, index.len, &in->platform, &d, e) < 0 ||
		ingest_document(&src, &d, &doc, e) < 0)
		return -1;
	return ingest_image(in, &src, doc.p ? doc.p : "", doc.len, id, e);
}

struct saved_source {
	int dir;
	const struct saved *saved;
	const struct descriptor *parts;
};

/* source.fetch of a `docker save` tree: parts have no digests, so their place tells the name. */
static int fetch_saved(void *arg, const struct descriptor *part, ingest_sink_fn *sink,
	void *sink_arg, struct err *e)
{
	const struct saved_source *s = arg;
	OWN_FD fd = open_inside(s->dir, s->saved->layers[part - s->parts], e);

	return fd < 0 ? -1 : pour(fd, sink, sink_arg, e);
}

static int take_saved(
	struct ingest *in, int dir, const struct saved *saved, char id[65], struct err *e)
{
	OWN_MEM struct descriptor *parts = calloc(saved->nlayers, sizeof *parts);
	struct saved_source arg = {dir, saved, parts};
	const struct source src = {.fetch = fetch_saved, .arg = &arg};
	OWN_BUF config = BUF_INIT(MANIFEST_MAX);
	struct record r = {0};
	int ret;

	if (!parts)
		return err_set(e, ERR_SETUP, ENOMEM, "read manifest.json");
	for (size_t i = 0; i < saved->nlayers; i++)
		parts[i].size = -1;
	if (read_inside(dir, saved->config, &config, e) < 0)
		return -1;
	ret = manifest_config(config.p, config.len, in->conf->image_layers_max, &r, e);
	if (ret == 0)
		ret = ingest_platform(in, config.p, config.len, e);
	if (ret == 0)
		ret = ingest_layers(in, &src, &r, parts, saved->nlayers, e);
	if (ret == 0)
		ret = ingest_record(in, config.p, config.len, &r, id, e);
	record_clear(&r);
	return ret;
}

static int import_saved(struct ingest *in, int dir, char id[65], struct err *e)
{
	OWN_BUF text = BUF_INIT(MANIFEST_MAX);
	struct saved saved;
	int r;

	if (read_inside(dir, "manifest.json", &text, e) < 0 ||
		manifest_saved(text.p, text.len, in->conf->image_layers_max, &saved, e) < 0)
		return -1;
	r = take_saved(in, dir, &saved, id, e);
	saved_clear(&saved);
	return r;
}

/* source.fetch of one file: arg points at its descriptor. */
static int fetch_file(void *arg, const struct descriptor *part, ingest_sink_fn *sink,
	void *sink_arg, struct err *e)
{
	(void)part;
	return pour(*(const int *)arg, sink, sink_arg, e);
}

static int feed_layer(void *arg, const void *p, size_t n, struct err *e)
{
	return layer_feed(arg, p, n, e);
}

/* Unpacks an archive that holds an image and goes on in the tree. */
static int import_packed(struct ingest *in, int fd, int kind, char id[65], struct err *e)
{
	struct layer_limits lim = ingest_limits(in, 0);
	struct layer_result ignored;
	struct layer *l;
	OWN_FD dir = -1;
	int r = -1;

	lim.plain = true;
	l = layer_begin(in->store, &lim, NULL, e);
	if (l && pour(fd, feed_layer, l, e) == 0 && layer_end(l, &ignored, e) == 0)
		dir = layer_tree(l, e);
	if (dir >= 0)
		r = kind == SNIFF_LAYOUT ? import_layout(in, dir, id, e)
					 : import_saved(in, dir, id, e);
	layer_free(l);
	return r;
}

struct pack {
	ingest_sink_fn *sink;
	void *sink_arg;
	struct err *e;
};

static la_ssize_t pack_out(struct archive *a, void *arg, const void *p, size_t n)
{
	struct pack *k = arg;

	if (k->sink(k->sink_arg, p, n, k->e) == 0)
		return (la_ssize_t)n;
	archive_set_error(a, EIO, "stopped");
	return -1;
}

/* The directory may be somebody else's who changes it while we read: no link is followed. */
static int pack_contents(struct archive *out, int top, const char *name, struct err *e)
{
	OWN_FD fd = beneath_open_file(top, name, O_RDONLY, BENEATH_NO_LINKS);
	char block[65536];
	ssize_t n;

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open \"%.150s\"", name);
	while ((n = read(fd, block, sizeof block)) != 0)
		if (n < 0 || archive_write_data(out, block, (size_t)n) < 0)
			return err_set(e, ERR_SETUP, n < 0 ? errno : 0, "read \"%.150s\"", name);
	return 0;
}

/* One object of the directory as an archive entry; name is what it is called inside. */
static int pack_entry(struct archive *in, struct archive *out, struct archive_entry *en, int top,
	const char *below, struct err *e)
{
	OWN_MEM char *name = strdup(below);
	mode_t type = archive_entry_filetype(en);

	if (!name)
		return err_set(e, ERR_SETUP, ENOMEM, "read a directory");
	if (archive_read_disk_can_descend(in))
		archive_read_disk_descend(in);
	if (!*name || (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK))
		return 0;
	archive_entry_copy_pathname(en, name);
	archive_entry_set_hardlink(en, NULL); /* a linked file is stored as often as it is named */
	if (archive_write_header(out, en) < ARCHIVE_WARN)
		return e->kind ? -1 : err_set(e, ERR_SETUP, 0, "pack \"%.150s\"", name);
	return type == AE_IFREG && archive_entry_size(en) > 0 ? pack_contents(out, top, name, e)
							      : 0;
}

static int pack_tree(struct archive *in, struct archive *out, const char *top, struct err *e)
{
	OWN_FD dir = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	size_t skip = strlen(top);
	struct archive_entry *en = archive_entry_new();
	int r = -1, got = ARCHIVE_FATAL;

	while (en && (got = archive_read_next_header2(in, en)) == ARCHIVE_OK) {
		const char *name = archive_entry_sourcepath(en) + skip;

		name += strspn(name, "/");
		r = pack_entry(in, out, en, dir, name, e);
		archive_entry_clear(en);
		if (r < 0)
			break;
	}
	archive_entry_free(en);
	if (got == ARCHIVE_EOF)
		return 0;
	if (r == 0 || !e->kind)
		err_set(e, ERR_SETUP, 0, "read the directory: %.150s", archive_error_string(in));
	return -1;
}

/* source.fetch of a root file system in a directory: packs it on the way; arg is its path. */
static int fetch_tree(void *arg, const struct descriptor *part, ingest_sink_fn *sink,
	void *sink_arg, struct err *e)
{
	struct err own = {0};
	struct pack k = {sink, sink_arg, &own};
	struct archive *in = archive_read_disk_new(), *out = archive_write_new();
	int r = -1;

	(void)part;
	if (!in || !out || archive_read_disk_set_symlink_physical(in) != ARCHIVE_OK ||
		archive_read_disk_set_behavior(
			in, ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS |
				    ARCHIVE_READDISK_NO_XATTR) != ARCHIVE_OK ||
		archive_write_set_format_pax_restricted(out) != ARCHIVE_OK ||
		archive_write_open(out, &k, NULL, pack_out, NULL) != ARCHIVE_OK ||
		archive_read_disk_open(in, arg) != ARCHIVE_OK)
		err_set(&own, ERR_SETUP, 0, "open the directory \"%.150s\"", (char *)arg);
	else
		r = pack_tree(in, out, arg, &own);
	if (r == 0 && archive_write_close(out) != ARCHIVE_OK)
		r = own.kind ? -1 : err_set(&own, ERR_SETUP, 0, "pack the directory");
	archive_write_free(out);
	archive_read_free(in);
	if (r < 0)
		*e = own;
	return r;
}

/* created: of the file or directory, so that the same one twice is the same image. */
static int import_rootfs(
	struct ingest *in, const struct source *src, time_t created, char id[65], struct err *e)
{
	struct layer_result result;
	struct record r = {0};
	char config[320], when[32] = "1970-01-01T00:00:00Z";
	struct tm tm;
	int n, ret;

	if (ingest_archive(in, src, &result, e) < 0)
		return -1;
	if (gmtime_r(&created, &tm) && tm.tm_year < 8000)
		strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	n = snprintf(config, sizeof config,
		"{\"created\":\"%s\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":"
		"[\"sha256:%s\"]}}",
		when, result.diff_id);
	ret = record_add_layer(&r, result.diff_id, e);
	if (ret == 0)
		ret = ingest_record(in, config, (size_t)n, &r, id, e);
	record_clear(&r);
	return ret;
}

struct spool {
	int fd;
	int64_t left;
};

static int take_spool(void *arg, const void *p, size_t n, struct err *e)
{
	struct spool *s = arg;
	const char *from = p;
	ssize_t w;

	s->left -= (int64_t)n;
	if (s->left < 0)
		return err_set(e, ERR_LIMIT, 0, "standard input is larger than image_max_bytes");
	for (; n; from += w, n -= (size_t)w) {
		w = write(s->fd, from, n);
		if (w < 0 && errno == EINTR)
			w = 0;
		else if (w <= 0)
			return err_set(e, ERR_SETUP, errno, "keep what comes from standard input");
	}
	return 0;
}

/* What comes through a pipe is kept in a file without a name: it is read twice. */
static int spool_stdin(const struct ingest *in, struct err *e)
{
	OWN_FD fd = openat(in->store->dir, "tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	struct spool s = {fd, in->conf->image_max_bytes};

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "make a file in the image store");
	if (isatty(STDIN_FILENO) == 1)
		return err_set(e, ERR_REQUEST, 0, "standard input is a terminal");
	if (pour(STDIN_FILENO, take_spool, &s, e) < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_set(e, ERR_SETUP, errno, "rewind standard input");
	return take_fd(&fd);
}

static int import_path(struct ingest *in, const char *path, char id[65], struct err *e)
{
	bool piped = !strcmp(path, "-");
	OWN_FD fd = piped ? spool_stdin(in, e) : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	const struct source file = {.fetch = fetch_file, .arg = &fd};
	const struct source tree = {.fetch = fetch_tree, .arg = (void *)path};
	struct stat st;
	int kind;

	if (fd < 0 && piped)
		return -1;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_NOTFOUND, errno, "open \"%.200s\"", path);
	if (S_ISDIR(st.st_mode)) {
		kind = sniff_directory(fd);
		return kind == SNIFF_LAYOUT  ? import_layout(in, fd, id, e)
		       : kind == SNIFF_SAVED ? import_saved(in, fd, id, e)
					     : import_rootfs(in, &tree, st.st_mtime, id, e);
	}
	if (!S_ISREG(st.st_mode))
		return err_set(
			e, ERR_REQUEST, 0, "\"%.200s\" is neither a file nor a directory", path);
	kind = sniff_archive(in->store, fd, in->conf, e);
	if (kind < 0)
		return -1;
	return kind == SNIFF_ROOTFS ? import_rootfs(in, &file, st.st_mtime, id, e)
				    : import_packed(in, fd, kind, id, e);
}

int import_image(struct ingest *in, const char *name, const char *path, char id[65], struct err *e)
{
	char ref[REF_MAX + 1];

	if (tag_name(name, ref, sizeof ref, e) < 0)
		return -1;
	if (import_path(in, path, id, e) < 0)
		return err_in(e, "import \"%.60s\"", name);
	return ingest_refer(in, ref, NULL, id, e);
}

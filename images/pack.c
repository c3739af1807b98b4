#include "images/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "images/attrs.h"
#include "images/reader.h"
#include "isolate/own.h"

enum { BLOCK = 1 << 17 };

/* The child's side: the tree as plain tar. */
struct pack {
	int dir;
	struct archive *a;
	struct archive_entry *en;
	struct err *e;
	char *block; /* BLOCK bytes */
};

static int bad(struct pack *p)
{
	const char *why = archive_error_string(p->a);

	return err_set(p->e, ERR_SETUP, archive_errno(p->a), "pack a layer: %.120s",
		why ? why : "libarchive failed");
}

static int put_header(struct pack *p)
{
	return archive_write_header(p->a, p->en) < ARCHIVE_WARN ? bad(p) : 0;
}

static mode_t type_of(char type)
{
	switch (type) {
	case 'd':
		return AE_IFDIR;
	case 'l':
		return AE_IFLNK;
	case 'b':
		return AE_IFBLK;
	case 'c':
		return AE_IFCHR;
	case 'p':
		return AE_IFIFO;
	default:
		return AE_IFREG;
	}
}

static void fill(struct pack *p, const struct tree_entry *t)
{
	archive_entry_clear(p->en);
	archive_entry_copy_pathname(p->en, t->path);
	archive_entry_set_filetype(p->en, type_of(t->type));
	archive_entry_set_perm(p->en, t->mode);
	archive_entry_set_uid(p->en, t->uid);
	archive_entry_set_gid(p->en, t->gid);
	archive_entry_set_mtime(p->en, t->sec, (long)t->nsec);
	archive_entry_set_size(p->en, t->type == 'f' ? (int64_t)t->size : 0);
	if (t->type == 'l')
		archive_entry_copy_symlink(p->en, t->link);
	else if (t->type == 'h')
		archive_entry_copy_hardlink(p->en, t->link);
	else if (t->type == 'b' || t->type == 'c')
		archive_entry_set_rdev(p->en, makedev(t->major, t->minor));
}

/* A marker of the image format: an empty file beside what it is about, or inside it. */
static int put_marker(struct pack *p, const char *dir, size_t n, const char *base)
{
	char name[2 * ENTRY_NAME_MAX];

	snprintf(name, sizeof name, "%.*s%s.wh.%s", (int)n, dir, n ? "/" : "", base);
	archive_entry_clear(p->en);
	archive_entry_copy_pathname(p->en, name);
	archive_entry_set_filetype(p->en, AE_IFREG);
	archive_entry_set_perm(p->en, 0644);
	archive_entry_set_size(p->en, 0);
	archive_entry_set_mtime(p->en, 0, 0);
	return put_header(p);
}

static int put_whiteout(struct pack *p, const char *path)
{
	const char *slash = strrchr(path, '/');

	return put_marker(p, path, slash ? (size_t)(slash - path) : 0, slash ? slash + 1 : path);
}

static int put_attr(void *arg, const char *name, const void *value, size_t n)
{
	struct pack *p = arg;

	archive_entry_xattr_add_entry(p->en, name, value, n);
	return 0;
}

static int put_file(struct pack *p, const struct tree_entry *t)
{
	OWN_FD fd = openat(p->dir, t->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t left = t->size;
	ssize_t n;

	if (fd < 0)
		return err_set(p->e, ERR_SETUP, errno, "open a file of the layer");
	if (attrs_each(fd, put_attr, p) < 0)
		return err_set(p->e, ERR_SETUP, errno, "read the attributes of a file");
	if (put_header(p) < 0)
		return -1;
	while (left > 0) {
		n = read(fd, p->block, left < BLOCK ? (size_t)left : BLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(p->e, ERR_SETUP, n < 0 ? errno : 0,
				"read a file of the layer; try image verify");
		if (archive_write_data(p->a, p->block, (size_t)n) != n)
			return bad(p);
		left -= (uint64_t)n;
	}
	return 0;
}

static int put_entry(struct pack *p, const struct tree_entry *t)
{
	bool root = !strcmp(t->path, ".");

	if (t->type == 'w')
		return put_whiteout(p, t->path);
	fill(p, t);
	if (root)
		archive_entry_copy_pathname(p->en, "./");
	if (t->type == 'f')
		return put_file(p, t);
	if (put_header(p) < 0)
		return -1;
	return t->opaque ? put_marker(p, t->path, root ? 0 : strlen(t->path), ".wh..opq") : 0;
}

static int pack_tree(struct pack *p, struct treefile *t, int out)
{
	int r;

	if (archive_write_set_format_pax_restricted(p->a) != ARCHIVE_OK ||
		archive_write_open_fd(p->a, out) != ARCHIVE_OK)
		return bad(p);
	while ((r = treefile_next(t, p->e)) > 0)
		if (put_entry(p, &t->en) < 0)
			return -1;
	if (r < 0)
		return -1;
	return archive_write_close(p->a) == ARCHIVE_OK ? 0 : bad(p);
}

static int child_pack(int dir, struct treefile *t, int out, struct err *e)
{
	struct pack p = {.dir = dir,
		.a = archive_write_new(),
		.en = archive_entry_new(),
		.e = e,
		.block = malloc(BLOCK)};

	if (!p.a || !p.en || !p.block)
		return err_set(e, ERR_SETUP, ENOMEM, "pack a layer");
	return pack_tree(&p, t, out);
}

/* The parent's side: digests and compression. */
struct squeeze {
	int fd;
	struct digest *plain, *packed;
	uint64_t size;
	struct err *e;
};

static la_ssize_t write_packed(struct archive *a, void *arg, const void *p, size_t n)
{
	struct squeeze *q = arg;
	const char *from = p;
	ssize_t w;

	digest_add(q->packed, p, n);
	q->size += n;
	for (size_t left = n; left; left -= (size_t)w, from += w) {
		w = write(q->fd, from, left);
		if (w < 0 && errno == EINTR)
			w = 0;
		else if (w <= 0) {
			err_set(q->e, ERR_SETUP, errno, "write a layer");
			archive_set_error(a, EIO, "stopped");
			return -1;
		}
	}
	return (la_ssize_t)n;
}

static int open_gzip(struct archive *a, struct archive_entry *en, struct squeeze *q)
{
	archive_entry_set_filetype(en, AE_IFREG);
	archive_entry_copy_pathname(en, "layer");
	if (archive_write_set_format_raw(a) != ARCHIVE_OK ||
		archive_write_add_filter_gzip(a) != ARCHIVE_OK ||
		archive_write_set_options(a, "gzip:!timestamp") != ARCHIVE_OK ||
		archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
		archive_write_open(a, q, NULL, write_packed, NULL) != ARCHIVE_OK ||
		archive_write_header(a, en) != ARCHIVE_OK)
		return err_set(
			q->e, ERR_SETUP, 0, "compress a layer: %.120s", archive_error_string(a));
	return 0;
}

static int squeeze(struct squeeze *q, struct archive *a, int in)
{
	static const size_t size = BLOCK;
	OWN_MEM char *block = malloc(size);
	ssize_t n;

	if (!block)
		return err_set(q->e, ERR_SETUP, ENOMEM, "compress a layer");
	while ((n = read(in, block, size)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(q->e, ERR_SETUP, errno, "read a layer");
		digest_add(q->plain, block, (size_t)n);
		if (archive_write_data(a, block, (size_t)n) != n)
			return q->e->kind ? -1 : err_set(q->e, ERR_SETUP, 0, "compress a layer");
	}
	if (archive_write_close(a) != ARCHIVE_OK)
		return q->e->kind ? -1 : err_set(q->e, ERR_SETUP, 0, "compress a layer");
	return 0;
}

static int squeeze_all(struct squeeze *q, int in)
{
	struct archive *a = archive_write_new();
	struct archive_entry *en = archive_entry_new();
	int r = -1;

	if (!a || !en)
		err_set(q->e, ERR_SETUP, ENOMEM, "compress a layer");
	else if (open_gzip(a, en, q) == 0)
		r = squeeze(q, a, in);
	archive_entry_free(en);
	archive_write_free(a);
	return r;
}

int pack_layer(const struct store *s, const char *layer, unsigned time_max_s, int fd,
	struct packed *out, struct err *e)
{
	struct err own = {0}, ended = {0};
	struct squeeze q = {.fd = fd, .plain = digest_new(e), .packed = digest_new(e), .e = &own};
	struct reader r;
	int ret = q.plain && q.packed ? 0 : -1;

	if (ret == 0)
		ret = reader_start(&r, s, layer, child_pack, time_max_s, e);
	if (ret == 0) {
		ret = squeeze_all(&q, r.out);
		if (reader_end(&r, &ended) < 0 && !(ret < 0 && own.kind)) {
			own = ended;
			ret = -1;
		}
		if (ret < 0 && e)
			*e = own;
	}
	out->size = q.size;
	if (ret == 0 && (digest_end(q.plain, out->diff_id, e) < 0 ||
				digest_end(q.packed, out->digest, e) < 0))
		ret = -1;
	digest_free(q.plain);
	digest_free(q.packed);
	return ret;
}

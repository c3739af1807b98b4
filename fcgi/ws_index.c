#include "fcgi/ws_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "fcgi/patch_name.h"

static const char magic[8] = "CGBXIDX1";

struct head {
	char magic[8];
	uint64_t count, bytes; /* entries; of the whole file */
	int64_t time_ns;
};

/* Followed by len bytes of path and a NUL. The machine's byte order: the file never travels. */
struct record {
	uint64_t size, inode;
	int64_t ctime_ns, mtime_ns, at;
	uint32_t mode, len;
};

int ws_index_begin(struct buf *out, struct err *e)
{
	static const struct head none;

	*out = BUF_INIT(WS_INDEX_MAX_BYTES);
	return buf_add(out, &none, sizeof none) < 0
		       ? err_set(e, ERR_SETUP, ENOMEM, "index the archive")
		       : 0;
}

int ws_index_add(struct buf *out, const struct ws_entry *en, struct err *e)
{
	const struct record r = {
		en->size, en->inode, en->ctime_ns, en->mtime_ns, en->at, en->mode, en->len};
	struct head h;

	buf_add(out, &r, sizeof r);
	buf_add(out, en->path, en->len);
	if (buf_addc(out, '\0') < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "index the archive");
	memcpy(&h, out->p, sizeof h);
	h.count++;
	memcpy(out->p, &h, sizeof h);
	return 0;
}

int ws_index_end(struct buf *out, int64_t time_ns, struct err *e)
{
	struct head h;

	if (!buf_ok(out))
		return err_set(e, ERR_SETUP, ENOMEM, "index the archive");
	memcpy(&h, out->p, sizeof h);
	memcpy(h.magic, magic, sizeof magic);
	h.bytes = out->len;
	h.time_ns = time_ns;
	memcpy(out->p, &h, sizeof h);
	return 0;
}

static int64_t ns(struct timespec t)
{
	int64_t v;

	if (__builtin_mul_overflow((int64_t)t.tv_sec, 1000000000, &v) ||
		__builtin_add_overflow(v, (int64_t)t.tv_nsec, &v))
		return INT64_MIN; /* a time that a tenant made up */
	return v;
}

void ws_entry_set(struct ws_entry *en, const struct stat *st)
{
	en->mode = st->st_mode;
	en->size = (uint64_t)st->st_size;
	en->inode = st->st_ino;
	en->ctime_ns = ns(st->st_ctim);
	en->mtime_ns = ns(st->st_mtim);
}

bool ws_entry_unchanged(const struct ws_index *x, const struct ws_entry *en, const struct stat *st)
{
	return en->inode == st->st_ino && en->size == (uint64_t)st->st_size &&
	       en->mode == st->st_mode && en->ctime_ns == ns(st->st_ctim) &&
	       en->mtime_ns == ns(st->st_mtim) &&
	       /* Not "within": a clock that was set back must not make the times trusted. */
	       en->ctime_ns < x->time_ns;
}

static uint64_t hash(const struct ws_index *x, const char *p, size_t n)
{
	uint64_t h = x->seed ^ 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
	return h ^ h >> 29;
}

/* The slot that holds, or would hold, the file path. */
static uint32_t *file_slot(const struct ws_index *x, const char *path, size_t n)
{
	for (size_t i = hash(x, path, n);; i++) {
		uint32_t *k = &x->files[i & x->file_mask];
		const struct ws_entry *en = *k ? &x->v[*k - 1] : NULL;

		if (!en || (en->len == n && !memcmp(en->path, path, n)))
			return k;
	}
}

struct ws_entry *ws_index_find(const struct ws_index *x, const char *path, size_t n)
{
	uint32_t k = *file_slot(x, path, n);

	return k ? &x->v[k - 1] : NULL;
}

/* The slot that holds, or would hold, the directory path. */
static struct ws_index_dir *dir_slot(const struct ws_index *x, const char *path, size_t n)
{
	for (size_t i = hash(x, path, n);; i++) {
		struct ws_index_dir *d = &x->dirs[i & x->dir_mask];

		if (!d->entry || (d->len == n && !memcmp(x->v[d->entry - 1].path, path, n)))
			return d;
	}
}

bool ws_index_has_dir(const struct ws_index *x, const char *path, size_t n)
{
	return dir_slot(x, path, n)->entry != 0;
}

/* Notes the directories above entry k, from the lowest up to the first that is known. */
static void note_dirs(struct ws_index *x, size_t k)
{
	const char *path = x->v[k].path;
	const char *slash = memrchr(path, '/', x->v[k].len);

	while (slash) {
		size_t n = (size_t)(slash - path);
		struct ws_index_dir *d = dir_slot(x, path, n);

		if (d->entry)
			return;
		*d = (struct ws_index_dir){(uint32_t)k + 1, (uint32_t)n};
		slash = memrchr(path, '/', n);
	}
}

/* At least the number of directories that hold entries; exact when the entries are sorted. */
static size_t count_dirs(const struct ws_index *x)
{
	size_t n = 0;

	for (size_t i = 0; i < x->n; i++) {
		const char *p = x->v[i].path, *before = i ? x->v[i - 1].path : "";

		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): an entry has a path */
		while (*p && *p == *before)
			p++, before++;
		for (p = strchr(p, '/'); p; p = strchr(p + 1, '/'))
			n++;
	}
	return n;
}

static size_t table_mask(size_t entries)
{
	size_t slots = 16;

	while (slots < 2 * entries)
		slots *= 2;
	return slots - 1;
}

static int build_tables(struct ws_index *x, struct err *e)
{
	x->file_mask = table_mask(x->n);
	x->dir_mask = table_mask(count_dirs(x));
	x->files = calloc(x->file_mask + 1, sizeof *x->files);
	x->dirs = calloc(x->dir_mask + 1, sizeof *x->dirs);
	if (!x->files || !x->dirs)
		return err_set(e, ERR_SETUP, ENOMEM, "read the index of the archive");
	/* Names are a tenant's: without a secret they could be chosen to collide. */
	if (getrandom(&x->seed, sizeof x->seed, GRND_NONBLOCK) != sizeof x->seed)
		x->seed = (uint64_t)(uintptr_t)x->files;
	for (size_t k = 0; k < x->n; k++) {
		uint32_t *slot = file_slot(x, x->v[k].path, x->v[k].len);

		if (*slot)
			return err_set(
				e, ERR_SETUP, 0, "the index of the archive has a path twice");
		*slot = (uint32_t)k + 1;
		if (!S_ISDIR(x->v[k].mode))
			note_dirs(x, k);
	}
	return 0;
}

/* One record at p. Returns the bytes it takes, 0 when it is damaged. */
static size_t parse_record(struct ws_entry *en, const char *p, size_t n, bool rest)
{
	struct record r;

	if (n < sizeof r)
		return 0;
	memcpy(&r, p, sizeof r);
	p += sizeof r;
	n -= sizeof r;
	if (r.len > PATCH_PATH_MAX || n <= r.len || p[r.len] != '\0' || strlen(p) != r.len)
		return 0;
	if (!rest && patch_path_refused(p) && !(r.len == 0 && S_ISDIR(r.mode))) /* "" is the root */
		return 0;
	if ((!S_ISREG(r.mode) && !S_ISLNK(r.mode) && !S_ISDIR(r.mode)) || r.at < 0 ||
		r.size > INT64_MAX)
		return 0;
	*en = (struct ws_entry){.path = p,
		.len = r.len,
		.mode = r.mode,
		.size = r.size,
		.inode = r.inode,
		.ctime_ns = r.ctime_ns,
		.mtime_ns = r.mtime_ns,
		.at = r.at};
	return sizeof r + r.len + 1;
}

static int parse_all(struct ws_index *x, size_t n, struct err *e)
{
	size_t at = sizeof(struct head);
	struct head h;

	if (n < sizeof h)
		return err_set(e, ERR_SETUP, 0, "the index of the archive is cut short");
	memcpy(&h, x->bytes, sizeof h);
	if (memcmp(h.magic, magic, sizeof magic) != 0 || h.bytes != n ||
		h.count > (n - sizeof h) / sizeof(struct record) || h.count >= UINT32_MAX ||
		h.time_ns <= 0)
		return err_set(e, ERR_SETUP, 0, "the index of the archive is damaged");
	x->time_ns = h.time_ns;
	x->v = calloc(h.count + 1, sizeof *x->v);
	if (!x->v)
		return err_set(e, ERR_SETUP, ENOMEM, "read the index of the archive");
	while (x->n < h.count) {
		size_t used = parse_record(&x->v[x->n], x->bytes + at, n - at, x->rest);

		if (!used)
			return err_set(e, ERR_SETUP, 0, "the index of the archive is damaged");
		at += used;
		x->n++;
	}
	return at == n ? 0 : err_set(e, ERR_SETUP, 0, "the index of the archive is damaged");
}

static int parse(struct ws_index *x, char *bytes, size_t n, bool rest, struct err *e)
{
	memset(x, 0, sizeof *x);
	x->bytes = bytes;
	x->rest = rest;
	if (parse_all(x, n, e) < 0 || build_tables(x, e) < 0) {
		ws_index_clear(x);
		return -1;
	}
	return 0;
}

int ws_index_parse(struct ws_index *x, char *bytes, size_t n, struct err *e)
{
	return parse(x, bytes, n, false, e);
}

int ws_index_parse_rest(struct ws_index *x, char *bytes, size_t n, struct err *e)
{
	return parse(x, bytes, n, true, e);
}

void ws_index_clear(struct ws_index *x)
{
	free(x->v);
	free(x->bytes);
	free(x->files);
	free(x->dirs);
	memset(x, 0, sizeof *x);
}

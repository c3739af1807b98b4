/* Directories as archives, out and in. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/files_int.h"
#include "fcgi/files_zip.h"
#include "fcgi/utf8.h"
#include "fcgi/ws_merge.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "images/unpack.h"

enum { STEP = 1 << 16, DEPTH_MAX = 128 };

struct pack {
	struct files_job *j;
	int64_t max; /* bytes */
	bool changed_only;
	struct archive *a;
	struct archive_entry *en;
	char step[STEP];
	bool full;
	locale_t bytes; /* zip: for names that are no UTF-8; 0: a tar */
	struct err *e;
};

static int bad(struct pack *k)
{
	const char *why = archive_error_string(k->a);

	return err_set(k->e, ERR_SETUP, archive_errno(k->a), "pack a directory: %.120s",
		why ? why : "libarchive failed");
}

static int put_header(struct pack *k, const char *path, const struct stat *st, const char *link)
{
	bool foreign = k->bytes && !utf8_valid(path, strlen(path));
	locale_t old = (locale_t)0;
	int ret;

	archive_entry_clear(k->en);
	archive_entry_copy_pathname(k->en, path);
	archive_entry_set_filetype(k->en, st->st_mode & S_IFMT);
	archive_entry_set_perm(k->en, st->st_mode & 0777);
	archive_entry_set_mtime(k->en, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	archive_entry_set_size(k->en, S_ISREG(st->st_mode) ? st->st_size : 0);
	if (link)
		archive_entry_copy_symlink(k->en, link);
	if (foreign) /* else libarchive marks them as UTF-8 */
		old = uselocale(k->bytes);
	ret = archive_write_header(k->a, k->en);
	if (foreign)
		uselocale(old);
	return ret < ARCHIVE_WARN ? bad(k) : 0;
}

/* Nobody inside can set it, and whatever changes a file does. */
static int64_t changed_ns(const struct stat *st)
{
	return (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

/* What a file that shrank lacks is zeros: the archive's header has promised its size. */
static int put_file(struct pack *k, const struct ws_visit *v)
{
	OWN_FD fd = openat(
		v->dirfd, v->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int64_t left;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || files_alien(fd)) {
		k->j->r->n[0]++;
		return 0;
	}
	if (k->changed_only && changed_ns(&st) < k->j->o->offset)
		return 0;
	k->j->r->records++;
	k->j->scanned += 1024;
	/* by subtraction: a sparse file may be as long as the type goes */
	if (st.st_size > k->max - k->j->scanned) {
		k->full = true;
		return 0;
	}
	k->j->scanned += st.st_size;
	if (put_header(k, v->path, &st, NULL) < 0)
		return -1;
	for (left = st.st_size; left > 0;) {
		ssize_t n = read(fd, k->step, left < STEP ? (size_t)left : STEP);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(k->e, ERR_SETUP, errno, "read a file");
		if (n == 0) {
			k->j->r->flags |= FILES_UNSTABLE;
			break;
		}
		if (archive_write_data(k->a, k->step, (size_t)n) != n)
			return bad(k);
		left -= n;
	}
	return 0;
}

static int pack_visit(void *arg, const struct ws_visit *v, struct err *e)
{
	struct pack *k = arg;
	OWN_MEM char *link = NULL;
	struct stat st;

	(void)e;
	if (k->full)
		return 0;
	if (k->changed_only && v->name[0] == '.')
		return 0;
	if (v->type == S_IFREG)
		return put_file(k, v);
	if (k->changed_only)
		return v->type == S_IFDIR;
	if (fstatat(v->dirfd, v->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	k->j->scanned += 1024;
	if (S_ISLNK(st.st_mode))
		link = ws_readlink(v->dirfd, v->name, PATH_MAX);
	if (!S_ISDIR(st.st_mode) && !link) {
		k->j->r->n[0]++; /* FIFOs, sockets, devices: left out and counted */
		return 0;
	}
	if (put_header(k, v->path, &st, link) < 0)
		return -1;
	return S_ISDIR(st.st_mode);
}

static la_ssize_t pack_out(struct archive *a, void *arg, const void *p, size_t n)
{
	struct pack *k = arg;

	(void)a;
	return files_emit(k->j, p, n, k->e) < 0 ? -1 : (la_ssize_t)n;
}

static int set_format(struct pack *k)
{
	if (!(k->j->o->flags & FILES_ZIP))
		return archive_write_set_format_pax_restricted(k->a);
	k->bytes = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
	return k->bytes ? archive_write_set_format_zip(k->a) : ARCHIVE_FATAL;
}

static int pack_tree(struct pack *k, int dir)
{
	if (!k->a || !k->en)
		return err_set(k->e, ERR_SETUP, ENOMEM, "pack a directory");
	if (set_format(k) != ARCHIVE_OK ||
		archive_write_set_bytes_in_last_block(k->a, 1) != ARCHIVE_OK ||
		(k->changed_only && archive_write_add_filter_gzip(k->a) != ARCHIVE_OK) ||
		archive_write_open(k->a, k, NULL, pack_out, NULL) != ARCHIVE_OK)
		return bad(k);
	if (files_walk(dir, pack_visit, k, k->e) < 0)
		return -1;
	if (k->full)
		return files_code_why(k->j, FILES_TOO_LARGE, "more than %lld bytes at once%s",
			(long long)k->max,
			k->max < k->j->lim->transfer_max_bytes ? "" : " (download_max_bytes)");
	return archive_write_close(k->a) == ARCHIVE_OK ? files_code(k->j, FILES_OK) : bad(k);
}

/* The first text's directory, opened. -2: the code is set. */
static int open_directory(struct files_job *j, bool make, struct err *e)
{
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, make, &p, e);

	if (got <= 0)
		return got < 0 ? -1 : -2;
	if (make && !p.there) {
		if (mkdirat(p.dir, p.name, 0755) < 0 && errno != EEXIST)
			return files_errno(j, errno, "make a directory", e) < 0 ? -1 : -2;
		p.there = fstatat(p.dir, p.name, &p.st, AT_SYMLINK_NOFOLLOW) == 0;
	}
	return files_open_dir(j, &p, e);
}

int files_pack(struct files_job *j, struct err *e)
{
	OWN_MEM struct pack *k = NULL;
	int got = open_directory(j, false, e), ret;
	OWN_FD dir = got;

	if (got < 0)
		return got == -2 ? 0 : -1;
	k = calloc(1, sizeof *k);
	if (!k)
		return err_set(e, ERR_SETUP, ENOMEM, "pack a directory");
	k->j = j;
	k->e = e;
	k->changed_only = j->o->flags & FILES_CHANGED_ONLY;
	k->max = j->lim->transfer_max_bytes;
	if (k->changed_only && j->o->limit > 0 && j->o->limit < k->max)
		k->max = j->o->limit;
	k->a = archive_write_new();
	k->en = archive_entry_new();
	ret = pack_tree(k, dir);
	archive_entry_free(k->en);
	archive_write_free(k->a);
	if (k->bytes)
		freelocale(k->bytes);
	return ret;
}

static int refused(struct files_job *j, const struct err *e)
{
	if (e->kind == ERR_REQUEST)
		return files_code_why(j, FILES_BAD_ARCHIVE, "%s", e->msg);
	if (e->kind == ERR_LIMIT)
		return files_code_why(j, FILES_TOO_LARGE, "%s", e->msg);
	return e->errnum == ENOSPC || e->errnum == EDQUOT ? files_code(j, FILES_NO_SPACE) : -1;
}

/* Unpacked aside and laid over the directory only when it is whole. in: the archive, a tar. */
static int unpack_aside(struct files_job *j, int in, const char *name, struct err *e)
{
	struct unpack_stats stats = {0};
	OWN_FD dir = -1;
	struct unpack_plan plan = {.in_fd = in,
		.raw_fd = -1,
		.policy = {.packed_max_bytes = INT64_MAX,
			.unpacked_max_bytes = j->lim->unpacked_max_bytes,
			.entries_max = j->lim->unpacked_entries_max,
			.ratio_max = j->lim->ratio_max,
			.name_max_bytes = WS_PATH_MAX,
			.depth_max = DEPTH_MAX}};

	if (mkdir(name, 0755) < 0)
		return files_errno(j, errno, "make a directory for the archive", e);
	dir = ws_open(AT_FDCWD, name, O_RDONLY | O_DIRECTORY);
	if (dir < 0 || lseek(in, 0, SEEK_SET) < 0)
		return err_set(e, ERR_SETUP, errno, "open a directory for the archive");
	plan.dir_fd = dir;
	if (unpack(&plan, &stats, e) < 0)
		return refused(j, e);
	j->r->records = (uint32_t)stats.entries;
	j->r->n[0] = (int64_t)stats.skipped;
	if (ws_merge(name, ".", e) < 0)
		return refused(j, e);
	return files_code(j, FILES_OK);
}

int files_unpack(struct files_job *j, struct err *e)
{
	int got = open_directory(j, true, e), ret;
	struct err worse = {0};
	OWN_FD dir = got, tar = -1;
	int64_t left_out = 0;
	struct aside a;
	struct place here = {.dir = dir};

	if (got < 0)
		return got == -2 ? 0 : -1;
	/* its name nobody can have guessed, and a zip becomes a tar in it */
	ret = files_aside(j, &here, &a, e);
	if (ret <= 0)
		return ret;
	tar = take_fd(&a.fd);
	if (unlinkat(dir, a.name, 0) < 0 || fchdir(dir) < 0)
		return err_set(e, ERR_SETUP, errno, "enter a directory");
	if (!files_is_zip(j->data))
		ret = unpack_aside(j, j->data, a.name, e);
	else if (files_unzip(j->data, tar, j->lim->unpacked_max_bytes, j->lim->unpacked_entries_max,
			 &left_out, e) < 0)
		ret = refused(j, e);
	else {
		ret = unpack_aside(j, tar, a.name, e);
		j->r->n[0] += left_out;
	}
	if (rmtree_at(AT_FDCWD, a.name, &worse) < 0 && ret == 0 && j->r->code == FILES_OK) {
		*e = worse;
		return -1;
	}
	return ret;
}

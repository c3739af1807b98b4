/*
 * Two readers in a row. The first one (plain.h, ahead.h) undoes at most one compression and hands on
 * plain bytes, which is where they are counted and digested; the second one is libarchive's, knows
 * tar and nothing else, and sees only those bytes. So no limit depends on how a parser behaves.
 */
#include "images/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images/ahead.h"
#include "images/archive_error.h"
#include "images/attrs.h"
#include "images/entry.h"
#include "images/inventory.h"
#include "images/offsets.h"
#include "images/place.h"
#include "images/plain.h"
#include "images/reroute.h"
#include "isolate/own.h"

enum {
	RATIO_FROM = 16 << 20,    /* bytes: small archives of zeros are nobody's bomb */
	ENTRY_OVERHEAD = 4 << 10, /* bytes of headers and padding allowed for an entry */
	ENTRY_COST = 4 << 10      /* bytes of disk that an entry is worth in a ratio: its inode */
};

struct job {
	const struct unpack_plan *plan;
	struct unpack_stats *stats;
	struct err *e; /* filled by our callbacks below libarchive; kind != 0 wins */
	struct plain *packed;
	struct ahead *blocks; /* of what comes of it */
	struct archive *inner;
	struct place place;
	struct offsets offsets;
	struct entry entry; /* of the current entry; too large for the stack */
	int raw_fd;         /* the plan's, -1 when it is not wanted any more */
	int64_t raw_end;    /* bytes in it */
	uint64_t plain;     /* bytes of tar */
	bool ended;         /* there are no more blocks */
};

static const char *limit_name(const struct job *j, const char *archive, const char *image)
{
	return j->plan->policy.layer ? image : archive;
}

static const char *memory_limit(const struct job *j)
{
	return limit_name(j, "archive_memory_max_bytes", "the unpacker's limit");
}

static int archive_bad(struct job *j)
{
	return archive_error_set(j->inner, memory_limit(j), j->e);
}

static int check_packed(struct job *j)
{
	const struct unpack_policy *pol = &j->plan->policy;

	if (j->stats->packed_bytes > (uint64_t)pol->packed_max_bytes)
		return err_set(j->e, ERR_LIMIT, 0, "Archive is larger than %s (%lld bytes)",
			limit_name(j, "archive_max_bytes", "image_max_bytes"),
			(long long)pol->packed_max_bytes);
	return 0;
}

/*
 * unpacked: bytes that come of what was read so far. A bomb of files that are empty is one, too,
 * though its plain form is not that much larger: hence what entries cost.
 */
static int check_ratio(struct job *j, uint64_t unpacked)
{
	uint64_t ratio = (uint64_t)j->plan->policy.ratio_max, packed = j->stats->packed_bytes;

	unpacked += j->stats->entries * ENTRY_COST;
	if (ratio == 0 || unpacked < RATIO_FROM || unpacked / ratio <= packed)
		return 0;
	return err_set(j->e, ERR_LIMIT, 0, "Archive unpacks to more than %s (%lld) times its size",
		limit_name(j, "archive_ratio_max", "image_ratio_max"), (long long)ratio);
}

static int check_plain(struct job *j)
{
	const struct unpack_policy *pol = &j->plan->policy;
	uint64_t max = (uint64_t)pol->unpacked_max_bytes +
		       (uint64_t)pol->entries_max * ENTRY_OVERHEAD;

	if (j->plain > max)
		return err_set(j->e, ERR_LIMIT, 0, "Archive unpacks to more than %s (%lld bytes)",
			limit_name(j, "archive_unpacked_max_bytes", "image_max_bytes"),
			(long long)pol->unpacked_max_bytes);
	return check_ratio(j, j->plain);
}

static int check_contents(struct job *j, uint64_t more)
{
	uint64_t max = (uint64_t)j->plan->policy.unpacked_max_bytes;

	if (more > max || j->stats->unpacked_bytes > max - more)
		return err_set(j->e, ERR_LIMIT, 0, "Archive unpacks to more than %s (%lld bytes)",
			limit_name(j, "archive_unpacked_max_bytes", "image_max_bytes"),
			(long long)max);
	j->stats->unpacked_bytes += more;
	return 0;
}

/* One block of plain tar: bytes, 0 at the end, -1 with e. */
static ssize_t next_block(struct job *j, const void **p)
{
	ssize_t n;

	if (j->ended)
		return 0;
	n = ahead_next(j->blocks, p, &j->stats->packed_bytes, j->e);
	if (n < 0)
		return -1;
	if (n == 0)
		j->ended = true;
	j->plain += (uint64_t)n;
	if (check_packed(j) < 0 || check_plain(j) < 0)
		return -1;
	return n;
}

static la_ssize_t feed_inner(struct archive *a, void *arg, const void **p)
{
	ssize_t n = next_block(arg, p);

	if (n < 0)
		archive_set_error(a, EIO, "stopped");
	return n;
}

static int open_readers(struct job *j)
{
	j->packed = plain_open(j->plan->in_fd, memory_limit(j), j->e);
	if (!j->packed)
		return -1;
	j->blocks = ahead_new(j->packed, j->plan->bytes, j->plan->arg);
	if (!j->blocks)
		return err_set(j->e, ERR_SETUP, ENOMEM, "open the archive");
	if (archive_read_support_format_tar(j->inner) != ARCHIVE_OK ||
		archive_read_open(j->inner, j, NULL, feed_inner, NULL) != ARCHIVE_OK)
		return archive_bad(j);
	return 0;
}

static int write_all(int fd, const char *p, size_t n, int64_t at, struct err *e)
{
	ssize_t w;

	for (; n; p += w, n -= (size_t)w, at += w) {
		w = pwrite(fd, p, n, at);
		if (w < 0 && errno == EINTR)
			w = 0;
		else if (w <= 0)
			return err_set(e, errno == EFBIG ? ERR_LIMIT : ERR_SETUP, errno,
				"write a file of the archive");
	}
	return 0;
}

static struct inventory_meta meta_of(struct archive_entry *en, uint32_t crc)
{
	int64_t uid = archive_entry_uid(en), gid = archive_entry_gid(en);

	return (struct inventory_meta){.mode = archive_entry_mode(en),
		.uid = uid < 0 || uid > UINT32_MAX ? 0 : (uint32_t)uid,
		.gid = gid < 0 || gid > UINT32_MAX ? 0 : (uint32_t)gid,
		.crc = crc};
}

/* What was just made at the entry's path. */
static int note_path(struct job *j, struct archive_entry *en)
{
	const struct inventory_meta meta = meta_of(en, 0);

	if (!j->plan->inventory)
		return 0;
	return inventory_add_path(j->plan->inventory, j->plan->dir_fd,
		j->entry.path[0] ? j->entry.path : ".", &meta, j->e);
}

static int note_file(struct job *j, struct archive_entry *en, int fd, uint32_t crc, bool attrs)
{
	struct inventory_meta meta = meta_of(en, crc);
	struct stat st;

	if (!j->plan->inventory)
		return 0;
	if (fstat(fd, &st) < 0 || (attrs && attrs_sum(fd, &meta.attrs) < 0))
		return err_set(j->e, ERR_SETUP, errno, "look at an unpacked file");
	return inventory_add(j->plan->inventory, st.st_ino, &meta, j->e);
}

static void note_dropped(struct job *j, struct archive_entry *en)
{
	const struct inventory_meta meta = meta_of(en, 0);
	mode_t type = archive_entry_filetype(en);
	dev_t dev = archive_entry_rdev(en);

	if (j->plan->inventory && j->entry.path[0] &&
		(type == AE_IFCHR || type == AE_IFBLK || type == AE_IFIFO))
		inventory_drop(j->plan->inventory,
			type == AE_IFCHR   ? 'c'
			: type == AE_IFBLK ? 'b'
					   : 'p',
			j->entry.path, &meta, major(dev), minor(dev), archive_entry_mtime(en));
}

/* Contents of the current entry into fd and the raw file. Holes stay holes in both. */
static int copy_contents(struct job *j, int fd, int64_t size, uint32_t *crc)
{
	int64_t at = 0, end = 0;
	const void *p;
	size_t n;
	int r;

	while ((r = archive_read_data_block(j->inner, &p, &n, &at)) == ARCHIVE_OK) {
		if (n == 0)
			continue;
		if (at < end || (int64_t)n > size - at) /* blocks overlap or pass the size */
			return err_set(j->e, ERR_REQUEST, 0,
				"Invalid or truncated archive: bad sparse map");
		if (write_all(fd, p, n, at, j->e) < 0)
			return -1;
		if (j->raw_fd >= 0 && write_all(j->raw_fd, p, n, j->raw_end + at, j->e) < 0)
			return -1;
		if (j->plan->inventory) {
			*crc = inventory_crc(*crc, NULL, (uint64_t)(at - end));
			*crc = inventory_crc(*crc, p, n);
		}
		end = at + (int64_t)n;
	}
	if (r != ARCHIVE_EOF)
		return archive_bad(j);
	if (j->plan->inventory)
		*crc = inventory_crc(*crc, NULL, (uint64_t)(size - end));
	if (end < size && ftruncate(fd, size) < 0)
		return err_set(j->e, ERR_SETUP, errno, "extend a sparse file");
	return 0;
}

/* A layer's harmless attributes; a file system without them is no reason to fail. */
static bool set_xattrs(int fd, struct archive_entry *en)
{
	const char *name;
	const void *value;
	size_t n;
	bool any = false;

	archive_entry_xattr_reset(en);
	for (int i = 0; i < 32 && archive_entry_xattr_next(en, &name, &value, &n) == ARCHIVE_OK;
		i++)
		if (name && attrs_kept(name))
			any |= fsetxattr(fd, name, value, n, 0) == 0;
	return any;
}

static struct timespec mtime_of(const struct job *j, struct archive_entry *en)
{
	struct timespec t = {0, 0};

	if (j->plan->policy.layer && archive_entry_mtime_is_set(en)) {
		t.tv_sec = archive_entry_mtime(en);
		t.tv_nsec = archive_entry_mtime_nsec(en);
		if (t.tv_sec < 0 || t.tv_sec > UINT32_MAX || t.tv_nsec < 0 || t.tv_nsec > 999999999)
			t = (struct timespec){0, 0};
	}
	return t;
}

static int tell(struct job *j, uint32_t type, uint64_t size, int64_t at)
{
	const struct unpack_plan *plan = j->plan;
	int r;

	if (!plan->entry)
		return 0;
	r = plan->entry(plan->arg, j->entry.path, type | j->entry.mode, size, at, j->e);
	if (r == UNPACK_NO_RAW)
		j->raw_fd = -1;
	return r < 0 ? -1 : 0;
}

static int take_file(struct job *j, struct archive_entry *en)
{
	int64_t size = archive_entry_size(en), at = j->raw_fd >= 0 ? j->raw_end : -1;
	OWN_FD fd = -1;
	uint32_t crc = 0;
	bool attrs = false;

	if (size < 0)
		return err_set(j->e, ERR_REQUEST, 0,
			"Invalid or truncated archive: a file has no valid size");
	if (check_contents(j, (uint64_t)size) < 0)
		return -1;
	fd = place_file(&j->place, &j->entry, j->e);
	if (fd < 0)
		return -1;
	if (size > 0 && copy_contents(j, fd, size, &crc) < 0)
		return -1;
	/* Only now: before its contents were read, a large first file would look like a bomb. */
	if (check_ratio(j, j->stats->unpacked_bytes) < 0)
		return -1;
	if (j->plan->policy.layer)
		attrs = set_xattrs(fd, en);
	if (futimens(fd, (struct timespec[2]){{.tv_nsec = UTIME_OMIT}, mtime_of(j, en)}) < 0)
		return err_set(j->e, ERR_SETUP, errno, "set the time of a file");
	if (note_file(j, en, fd, crc, attrs) < 0)
		return -1;
	if (j->raw_fd >= 0)
		j->raw_end += size;
	j->stats->files++;
	/* Only a client's archive is asked about its hard links later. */
	if (!j->plan->policy.layer &&
		offsets_set(&j->offsets, j->entry.path, at, (uint64_t)size, j->entry.mode) < 0)
		return err_set(j->e, ERR_LIMIT, 0,
			"the archive needs more memory than archive_memory_max_bytes allows");
	return tell(j, S_IFREG, (uint64_t)size, at);
}

static int take_hardlink(struct job *j)
{
	const struct offset *o = NULL;
	struct offset target = {.at = -1};
	int r;

	if (!j->plan->policy.layer) {
		o = offsets_get(&j->offsets, j->entry.link);
		if (!o) { /* not a file of this archive */
			j->stats->skipped++;
			return 0;
		}
		target = *o;
		j->entry.mode = (mode_t)target.mode;
	}
	r = place_hardlink(&j->place, &j->entry, j->e);
	if (r < 0)
		return -1;
	if (r == 0) {
		if (j->plan->policy.layer)
			return err_set(j->e, ERR_REQUEST, 0,
				"Invalid or truncated archive: a hard link has no target");
		j->stats->skipped++;
		return 0;
	}
	j->stats->hardlinks++;
	if (o && offsets_set(&j->offsets, j->entry.path, target.at, target.size, target.mode) < 0)
		return err_set(j->e, ERR_LIMIT, 0,
			"the archive needs more memory than archive_memory_max_bytes allows");
	return tell(j, S_IFREG, target.size, target.at);
}

static int take_entry(struct job *j, struct archive_entry *en)
{
	struct unpack_stats *st = j->stats;
	struct timespec mtime = mtime_of(j, en);

	switch (j->entry.action) {
	case ENTRY_FILE:
		return take_file(j, en);
	case ENTRY_HARDLINK:
		return take_hardlink(j);
	case ENTRY_DIRECTORY:
		st->directories++;
		if (place_directory(&j->place, &j->entry, mtime, j->e) < 0 || note_path(j, en) < 0)
			return -1;
		return tell(j, S_IFDIR, 0, -1);
	case ENTRY_SYMLINK:
		st->symlinks++;
		if (place_symlink(&j->place, &j->entry, mtime, j->e) < 0 || note_path(j, en) < 0)
			return -1;
		j->entry.mode = 0777;
		return tell(j, S_IFLNK, strlen(j->entry.link), -1);
	case ENTRY_WHITEOUT:
	case ENTRY_OPAQUE:
		if (place_below_link(&j->place, &j->entry))
			break;
		st->whiteouts++;
		return j->entry.action == ENTRY_OPAQUE ? place_opaque(&j->place, &j->entry, j->e)
						       : place_whiteout(&j->place, &j->entry, j->e);
	case ENTRY_ROOT:
		return note_path(j, en);
	case ENTRY_SKIP:
		note_dropped(j, en);
		break;
	}
	st->skipped++;
	return 0;
}

/* 1: an entry was taken, 0: the end, -1: error. */
static int step(struct job *j)
{
	const struct unpack_policy *pol = &j->plan->policy;
	const struct entry_rules rules = {pol->layer, pol->name_max_bytes, pol->depth_max};
	struct entry_source src;
	struct archive_entry *en;
	int r = archive_read_next_header(j->inner, &en);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return archive_bad(j);
	if (++j->stats->entries > (uint64_t)pol->entries_max)
		return err_set(j->e, ERR_LIMIT, 0, "Archive has more than %s (%lld) entries",
			limit_name(j, "archive_entries_max", "image_entries_max"),
			(long long)pol->entries_max);
	src.name = archive_entry_pathname(en);
	src.link = archive_entry_hardlink(en);
	src.hardlink = src.link != NULL;
	if (!src.hardlink)
		src.link = archive_entry_symlink(en);
	src.mode = archive_entry_mode(en);
	if (entry_decide(&src, &rules, &j->entry, j->e) < 0)
		return -1;
	if (j->plan->reroute && j->entry.action != ENTRY_SKIP && j->entry.action != ENTRY_ROOT &&
		reroute_entry(j->plan->reroute, j->plan->dir_fd, &j->entry, j->e) < 0)
		return -1;
	if (take_entry(j, en) < 0)
		return -1;
	return 1;
}

/* What follows the end marker is read and counted, and means nothing. */
static int drain(struct job *j)
{
	char rest[4096];
	const void *p;
	ssize_t n;

	while ((n = next_block(j, &p)) > 0)
		;
	if (n < 0)
		return -1;
	while ((n = read(j->plan->in_fd, rest, sizeof rest)) != 0)
		if (n < 0 && errno != EINTR)
			return err_set(j->e, ERR_SETUP, errno, "read the archive");
	return 0;
}

static int run(struct job *j)
{
	int r;

	if (open_readers(j) < 0)
		return -1;
	while ((r = step(j)) > 0)
		;
	if (r < 0 || place_finish(&j->place, j->e) < 0 || drain(j) < 0)
		return -1;
	if (j->raw_fd >= 0 && ftruncate(j->raw_fd, j->raw_end) < 0)
		return err_set(j->e, ERR_SETUP, errno, "write the archive's contents");
	return 0;
}

int unpack(const struct unpack_plan *plan, struct unpack_stats *out, struct err *e)
{
	mode_t mask = umask(0); /* modes are the archive's, to the bit, without a chmod each */
	struct err own = {0};
	struct job j = {.plan = plan, .stats = out, .e = &own, .raw_fd = plan->raw_fd};
	int r = -1;

	memset(out, 0, sizeof *out);
	if (plan->raw_fd >= 0)
		j.raw_end = lseek(plan->raw_fd, 0, SEEK_END);
	place_init(&j.place, plan->dir_fd, plan->policy.layer);
	offsets_init(&j.offsets);
	j.inner = archive_read_new();
	if (!j.inner)
		err_set(&own, ERR_SETUP, ENOMEM, "open the archive");
	else if (j.raw_end < 0)
		err_set(&own, ERR_SETUP, errno, "write the archive's contents");
	else
		r = run(&j);
	archive_read_free(j.inner); /* reads from the blocks */
	ahead_free(j.blocks);
	plain_close(j.packed);
	offsets_clear(&j.offsets);
	place_clear(&j.place);
	umask(mask);
	if (r < 0 && e)
		*e = own;
	return r;
}

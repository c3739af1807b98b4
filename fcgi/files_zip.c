#include "fcgi/files_zip.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { STEP = 1 << 16 };

struct unzip {
	struct archive *in, *out;
	int64_t bytes, entries, left_out;
	int64_t max, entries_max;
	struct err *e;
};

bool files_is_zip(int fd)
{
	char head[4];

	return pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head && !memcmp(head, "PK", 2) &&
	       ((head[2] == 3 && head[3] == 4) || (head[2] == 5 && head[3] == 6));
}

/* A zip of nothing is the end of a directory alone (APPNOTE.TXT 4.3.16), which libarchive takes for no zip. */
static bool is_empty(int fd)
{
	static const char end[20] = "PK\5\6";
	char head[22];

	return pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head &&
	       !memcmp(head, end, sizeof end) &&
	       lseek(fd, 0, SEEK_END) ==
		       (off_t)sizeof head + (unsigned char)head[20] + 256 * (unsigned char)head[21];
}

static int bad(struct unzip *z)
{
	const char *why = archive_error_string(z->in);

	return err_set(z->e, archive_errno(z->in) == ENOMEM ? ERR_LIMIT : ERR_REQUEST, 0,
		"Invalid or truncated archive: %.120s", why ? why : "no zip");
}

static int bad_out(struct unzip *z)
{
	return err_set(z->e, ERR_SETUP, archive_errno(z->out), "write the archive anew");
}

static int too_large(struct unzip *z)
{
	return err_set(z->e, ERR_LIMIT, 0, "Archive unpacks to more than %lld bytes or %lld names",
		(long long)z->max, (long long)z->entries_max);
}

static int copy_data(struct unzip *z)
{
	char step[STEP];
	la_ssize_t n;

	while ((n = archive_read_data(z->in, step, sizeof step)) > 0) {
		z->bytes += n;
		if (z->bytes > z->max)
			return too_large(z);
		if (archive_write_data(z->out, step, (size_t)n) != n)
			return bad_out(z);
	}
	return n < 0 ? bad(z) : 0;
}

static int copy_entry(struct unzip *z, struct archive_entry *en)
{
	mode_t type = archive_entry_filetype(en);

	if (++z->entries > z->entries_max)
		return too_large(z);
	if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK) {
		z->left_out++;
		return 0;
	}
	if (!archive_entry_pathname(en))
		return err_set(
			z->e, ERR_REQUEST, 0, "Invalid or truncated archive: a name is not UTF-8");
	if (type == AE_IFREG && !archive_entry_size_is_set(en))
		return err_set(z->e, ERR_REQUEST, 0,
			"Invalid or truncated archive: a file has no valid size");
	if (archive_write_header(z->out, en) < ARCHIVE_WARN)
		return bad_out(z);
	return type == AE_IFREG ? copy_data(z) : 0;
}

static int unzip(struct unzip *z, int fd, int out)
{
	struct archive_entry *en;
	int r = is_empty(fd) ? ARCHIVE_EOF : ARCHIVE_OK;

	if (!z->in || !z->out)
		return err_set(z->e, ERR_SETUP, ENOMEM, "open the archive");
	/* By its directory, at the end: a reader of the stream takes half an archive for a whole one, and
	 * sees no modes and links. */
	if (r != ARCHIVE_EOF &&
		(lseek(fd, 0, SEEK_SET) < 0 ||
			archive_read_support_format_zip_seekable(z->in) != ARCHIVE_OK ||
			archive_read_open_fd(z->in, fd, STEP) != ARCHIVE_OK))
		return bad(z);
	if (archive_write_set_format_pax_restricted(z->out) != ARCHIVE_OK ||
		archive_write_open_fd(z->out, out) != ARCHIVE_OK)
		return bad_out(z);
	while (r != ARCHIVE_EOF && (r = archive_read_next_header(z->in, &en)) != ARCHIVE_EOF) {
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return bad(z);
		if (copy_entry(z, en) < 0)
			return -1;
	}
	return archive_write_close(z->out) == ARCHIVE_OK ? 0 : bad_out(z);
}

int files_unzip(int fd, int out, int64_t max, int64_t entries_max, int64_t *left_out, struct err *e)
{
	struct unzip z = {.in = archive_read_new(),
		.out = archive_write_new(),
		.max = max,
		.entries_max = entries_max,
		.e = e};
	int ret = unzip(&z, fd, out);

	*left_out = z.left_out;
	archive_read_free(z.in);
	archive_write_free(z.out);
	return ret;
}

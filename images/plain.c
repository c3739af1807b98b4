#include "images/plain.h"

#include <archive_entry.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/archive_error.h"
#include "images/gunzip.h"
#include "isolate/own.h"

enum { READ_BYTES = 128 << 10, MAGIC_BYTES = 10 };

struct plain {
	int fd, stop; /* stop: -1, nobody asks */
	const char *memory_limit;
	struct gunzip *gunzip; /* one of these, or neither: plain as it is */
	struct archive *archive;
	enum inflated last; /* of gunzip */
	uint64_t used;      /* bytes of fd; with libarchive it counts */
	size_t at, n;       /* what of `in` is to be used */
	bool ended;         /* fd is at its end */
	struct err *e;      /* of the call, for the callback below libarchive */
	uint8_t in[READ_BYTES];
};

static int no_memory(const struct plain *s, struct err *e)
{
	return err_set(
		e, ERR_LIMIT, 0, "the archive needs more memory than %s allows", s->memory_limit);
}

static int invalid(struct err *e, const char *why)
{
	return err_set(e, ERR_REQUEST, 0, "Invalid or truncated archive: %s", why);
}

static int wait_for(const struct plain *s, struct err *e)
{
	struct pollfd p[] = {{s->fd, POLLIN, 0}, {s->stop, POLLIN, 0}};

	while (s->stop >= 0 && poll(p, NELEM(p), -1) < 0)
		if (errno != EINTR)
			return err_set(e, ERR_SETUP, errno, "wait for the archive");
	return p[1].revents ? err_set(e, ERR_SETUP, 0, "the archive is not wanted any more") : 0;
}

/* read(2) of at most n bytes; 0 at the end, -1 with e. */
static ssize_t fetch(struct plain *s, void *p, size_t n, struct err *e)
{
	ssize_t got;

	if (s->ended)
		return 0;
	do {
		if (wait_for(s, e) < 0)
			return -1;
		got = read(s->fd, p, n);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set(e, ERR_SETUP, errno, "read the archive");
	s->ended = got == 0;
	return got;
}

/* All of `in` is used: reads more. */
static ssize_t refill(struct plain *s, struct err *e)
{
	ssize_t got = fetch(s, s->in, sizeof s->in, e);

	s->at = 0;
	s->n = got > 0 ? (size_t)got : 0;
	return got;
}

/* Whether n bytes begin like gzip, or like something that libarchive should decide about. */
static bool looks_gzip(const uint8_t *p, size_t n)
{
	return n >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

static bool looks_packed(const uint8_t *p, size_t n)
{
	static const uint8_t xz[] = {0xfd, '7', 'z', 'X', 'Z', 0},
			     zstd[] = {0x28, 0xb5, 0x2f, 0xfd}, zstd_skip[] = {0x2a, 0x4d, 0x18},
			     block[] = {0x31, 0x41, 0x59, 0x26, 0x53, 0x59},
			     no_block[] = {0x17, 0x72, 0x45, 0x38, 0x50, 0x90};

	if (n < MAGIC_BYTES)
		return false;
	if (!memcmp(p, "BZh", 3)) /* also how a name may begin */
		return !memcmp(p + 4, block, sizeof block) ||
		       !memcmp(p + 4, no_block, sizeof no_block);
	return !memcmp(p, xz, sizeof xz) || !memcmp(p, zstd, sizeof zstd) ||
	       ((p[0] & 0xf0) == 0x50 && !memcmp(p + 1, zstd_skip, sizeof zstd_skip));
}

static la_ssize_t feed_archive(struct archive *a, void *arg, const void **p)
{
	struct plain *s = arg;
	size_t n = s->n - s->at;

	if (n == 0 && refill(s, s->e) < 0) {
		archive_set_error(a, EIO, "stopped");
		return -1;
	}
	*p = s->in + s->at;
	n = s->n - s->at;
	s->at = s->n;
	return (la_ssize_t)n;
}

static int open_archive(struct plain *s, struct err *e)
{
	static int (*const filters[])(struct archive *) = {
		archive_read_support_filter_gzip, /* to see what is compressed twice */
		archive_read_support_filter_bzip2,
		archive_read_support_filter_xz,
		archive_read_support_filter_zstd,
	};
	struct archive_entry *en;
	int r;

	s->archive = archive_read_new();
	if (!s->archive)
		return no_memory(s, e);
	/* ARCHIVE_WARN would mean that libarchive runs an external program for it. */
	for (size_t i = 0; i < NELEM(filters); i++)
		if (filters[i](s->archive) != ARCHIVE_OK)
			return err_set(e, ERR_SETUP, 0, "libarchive lacks a decompressor");
	s->e = e;
	if (archive_read_support_format_raw(s->archive) != ARCHIVE_OK ||
		archive_read_open(s->archive, s, NULL, feed_archive, NULL) != ARCHIVE_OK)
		return archive_error_set(s->archive, s->memory_limit, e);
	r = archive_read_next_header(s->archive, &en);
	if (r == ARCHIVE_EOF)
		return invalid(e, "empty file");
	if (r != ARCHIVE_OK)
		return archive_error_set(s->archive, s->memory_limit, e);
	if (archive_filter_count(s->archive) > 2) /* one, and libarchive's own "none" */
		return invalid(e, "compressed more than once");
	return 0;
}

/* As many bytes as a decision needs, which a pipe may bring one by one. */
static int read_magic(struct plain *s, struct err *e)
{
	ssize_t got = 1;

	while (s->n < MAGIC_BYTES && (got = fetch(s, s->in + s->n, sizeof s->in - s->n, e)) > 0)
		s->n += (size_t)got;
	if (got < 0)
		return -1;
	return s->n ? 0 : invalid(e, "empty file");
}

struct plain *plain_open(int fd, const char *memory_limit, struct err *e)
{
	struct plain *s = malloc(sizeof *s);
	int r = -1;

	if (!s) {
		err_set(e, ERR_SETUP, ENOMEM, "open the archive");
		return NULL;
	}
	memset(s, 0, offsetof(struct plain, in));
	s->fd = fd;
	s->stop = -1;
	s->memory_limit = memory_limit;
	if (read_magic(s, e) < 0)
		r = -1;
	else if (looks_gzip(s->in, s->n))
		r = (s->gunzip = gunzip_new()) ? 0 : no_memory(s, e);
	else
		r = looks_packed(s->in, s->n) ? open_archive(s, e) : 0;
	if (r == 0)
		return s;
	plain_close(s);
	return NULL;
}

void plain_close(struct plain *s)
{
	if (!s)
		return;
	gunzip_free(s->gunzip);
	archive_read_free(s->archive);
	free(s);
}

static ssize_t read_gzip(struct plain *s, void *p, size_t n, struct err *e)
{
	struct inflate_io io = {.out = p, .out_n = n};
	ssize_t got = 1;

	while (io.out_n && s->last != INFLATE_END) {
		/* After INFLATE_FULL there may be more without more input. */
		if (s->at == s->n && s->last == INFLATE_MORE && (got = refill(s, e)) < 0)
			return -1;
		if (got == 0)
			break;
		io.in = s->in + s->at;
		io.in_n = s->n - s->at;
		s->last = gunzip_run(s->gunzip, &io);
		s->used += s->n - s->at - io.in_n;
		s->at = s->n - io.in_n;
		if (s->last == INFLATE_BAD)
			return invalid(e, gunzip_why(s->gunzip));
	}
	if (got == 0 && !gunzip_whole(s->gunzip))
		return invalid(e, gunzip_why(s->gunzip));
	return (ssize_t)(n - io.out_n);
}

static ssize_t read_as_it_is(struct plain *s, void *p, size_t n, struct err *e)
{
	size_t held = s->n - s->at, done = held < n ? held : n;
	char *to = p;
	ssize_t got = 1;

	memcpy(to, s->in + s->at, done);
	s->at += done;
	while (done < n && (got = fetch(s, to + done, n - done, e)) > 0)
		done += (size_t)got;
	s->used += done;
	return got < 0 ? -1 : (ssize_t)done;
}

static ssize_t read_archive(struct plain *s, void *p, size_t n, struct err *e)
{
	ssize_t got;

	s->e = e;
	got = archive_read_data(s->archive, p, n);
	return got < 0 ? archive_error_set(s->archive, s->memory_limit, e) : got;
}

ssize_t plain_read(struct plain *s, void *p, size_t n, struct err *e)
{
	bool first = s->used == 0;
	ssize_t got;

	if (s->archive)
		return read_archive(s, p, n, e);
	if (!s->gunzip)
		return read_as_it_is(s, p, n, e);
	got = read_gzip(s, p, n, e);
	if (first && got >= 0 && (looks_gzip(p, (size_t)got) || looks_packed(p, (size_t)got)))
		return invalid(e, "compressed more than once");
	return first && got == 0 ? invalid(e, "empty file") : got;
}

uint64_t plain_packed(const struct plain *s)
{
	return s->archive ? (uint64_t)archive_filter_bytes(s->archive, -1) : s->used;
}

void plain_stop_by(struct plain *s, int stop)
{
	s->stop = stop;
}

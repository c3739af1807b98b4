#include "fcgi/patch_blob.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "isolate/buf.h"
#include "isolate/own.h"

void patch_blob_clear(struct patch_blob *b)
{
	free(b->own);
	memset(b, 0, sizeof *b);
}

/* Reads up to n bytes; fewer only at the end of the file. */
static ssize_t read_at(int fd, char *to, size_t n, off_t at)
{
	size_t done = 0;

	while (done < n) {
		ssize_t k = pread(fd, to + done, n - done, at + (off_t)done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		if (k == 0)
			break;
		done += (size_t)k;
	}
	return (ssize_t)done;
}

static int read_failed(const struct patch_change *c, ssize_t got, struct err *e)
{
	char shown[80];

	quote(c->path, strlen(c->path), shown, sizeof shown);
	if (got < 0)
		return err_set(e, ERR_SETUP, errno, "read %s for the patch", shown);
	return err_set(e, ERR_SETUP, 0, "%s became shorter while the patch was made", shown);
}

int patch_blob_load(struct patch_blob *b, const struct patch_source *src,
	const struct patch_change *c, bool newer, int64_t max_bytes, struct err *e)
{
	const struct patch_side *s = newer ? &c->new : &c->old;
	OWN_FD fd = -1;
	off_t at = 0;
	ssize_t got;
	char shown[80];

	memset(b, 0, sizeof *b);
	b->n = s->size;
	if (s->link) {
		b->p = s->link;
		return 0;
	}
	quote(c->path, strlen(c->path), shown, sizeof shown);
	if (s->size > (uint64_t)max_bytes)
		return err_set(e, ERR_LIMIT, 0,
			"the changed file %s has %llu bytes, more than patch_max_bytes = %lld",
			shown, (unsigned long long)s->size, (long long)max_bytes);
	b->own = malloc(b->n + 1);
	b->p = b->own;
	if (!b->own)
		return err_set(e, ERR_LIMIT, ENOMEM,
			"a patch of %s needs more memory than archive_memory_max_bytes", shown);
	fd = src->open(src->arg, c, newer, &at, e);
	if (fd < 0)
		return -1;
	got = read_at(fd, b->own, b->n, at);
	return got == (ssize_t)b->n ? 0 : read_failed(c, got, e);
}

int patch_blob_same(const struct patch_source *src, const struct patch_change *c, struct err *e)
{
	OWN_FD old = -1, new = -1;
	char a[16384], b[16384];
	off_t old_at = 0, new_at = 0;
	uint64_t left = c->old.size;

	if (c->old.size != c->new.size)
		return 0;
	if (c->old.link || c->new.link)
		return c->old.link && c->new.link && !memcmp(c->old.link, c->new.link, left);
	old = src->open(src->arg, c, false, &old_at, e);
	if (old < 0)
		return -1;
	new = src->open(src->arg, c, true, &new_at, e);
	if (new < 0)
		return -1;
	while (left) {
		size_t n = left < sizeof a ? (size_t)left : sizeof a;
		ssize_t x = read_at(old, a, n, old_at), y = read_at(new, b, n, new_at);

		if (x != (ssize_t)n || y != (ssize_t)n)
			return read_failed(c, x != (ssize_t)n ? x : y, e);
		if (memcmp(a, b, n) != 0)
			return 0;
		left -= n;
		old_at += (off_t)n;
		new_at += (off_t)n;
	}
	return 1;
}

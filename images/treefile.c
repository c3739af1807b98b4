#include "images/treefile.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "images/escape.h"
#include "isolate/own.h"

static void put_value(const struct tree_entry *en, struct buf *out)
{
	switch (en->type) {
	case 'f':
		buf_addf(out, "%08" PRIx32, en->crc);
		if (en->attrs)
			buf_addf(out, "+%08" PRIx32, en->attrs);
		return;
	case 'l':
	case 'h':
		escape_put(en->link, out);
		return;
	case 'b':
	case 'c':
		buf_addf(out, "%" PRIu32 ":%" PRIu32, en->major, en->minor);
		return;
	default:
		buf_adds(out, en->opaque ? "opaque" : "-");
	}
}

void treefile_format(const struct tree_entry *en, struct buf *out)
{
	buf_addf(out,
		"%c %" PRIo32 " %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRId64 ".%09" PRIu32 " ",
		en->type, en->mode, en->uid, en->gid, en->size, en->sec, en->nsec);
	put_value(en, out);
	buf_addc(out, ' ');
	escape_put(en->path, out);
	buf_addc(out, '\n');
}

/* The next field: a number up to `end`, which is consumed. */
static bool number(const char **p, int base, char end, uint64_t max, uint64_t *out)
{
	char *after;

	if (!isxdigit((unsigned char)**p))
		return false;
	errno = 0;
	*out = strtoull(*p, &after, base);
	if (errno || *out > max || *after != end)
		return false;
	*p = after + 1;
	return true;
}

static bool take_value(struct tree_entry *en, const char *p, size_t n)
{
	uint64_t a, b;

	switch (en->type) {
	case 'f':
		if ((n != 8 && n != 17) || !number(&p, 16, n == 8 ? ' ' : '+', UINT32_MAX, &a) ||
			(n == 17 && (!number(&p, 16, ' ', UINT32_MAX, &b) || !b)))
			return false;
		en->crc = (uint32_t)a;
		en->attrs = n == 17 ? (uint32_t)b : 0;
		return true;
	case 'l':
	case 'h':
		return escape_take(p, n, en->link, sizeof en->link);
	case 'b':
	case 'c':
		if (!number(&p, 10, ':', UINT32_MAX, &a) || !number(&p, 10, ' ', UINT32_MAX, &b))
			return false;
		en->major = (uint32_t)a;
		en->minor = (uint32_t)b;
		return true;
	case 'd':
		en->opaque = n == 6 && !memcmp(p, "opaque", 6);
		return en->opaque || (n == 1 && *p == '-');
	default:
		return n == 1 && *p == '-';
	}
}

/* A path that may be opened below a layer: no empty, "." or ".." component. */
static bool path_ok(const char *path)
{
	size_t n;

	if (!strcmp(path, "."))
		return true;
	for (const char *p = path;; p += n + 1) {
		n = strcspn(p, "/");
		if (n == 0 || (n <= 2 && !strncmp(p, "..", n)))
			return false;
		if (!p[n])
			return true;
	}
}

bool treefile_parse(const char *line, struct tree_entry *out)
{
	uint64_t mode, uid, gid, sec, nsec;
	const char *p = line + 2;
	size_t n;

	out->type = line[0];
	out->opaque = false;
	out->crc = out->attrs = out->major = out->minor = 0;
	out->link[0] = '\0';
	if (!line[0] || !strchr("fdlhwbcp", line[0]) || line[1] != ' ')
		return false;
	if (!number(&p, 8, ' ', 07777, &mode) || !number(&p, 10, ' ', UINT32_MAX, &uid) ||
		!number(&p, 10, ' ', UINT32_MAX, &gid) ||
		!number(&p, 10, ' ', INT64_MAX, &out->size) ||
		!number(&p, 10, '.', INT64_MAX, &sec) || !number(&p, 10, ' ', 999999999, &nsec))
		return false;
	out->mode = (uint32_t)mode;
	out->uid = (uint32_t)uid;
	out->gid = (uint32_t)gid;
	out->sec = (int64_t)sec;
	out->nsec = (uint32_t)nsec;
	n = strcspn(p, " ");
	if (n == 0 || p[n] != ' ' || !take_value(out, p, n))
		return false;
	p += n + 1;
	return escape_take(p, strlen(p), out->path, sizeof out->path) && path_ok(out->path) &&
	       (out->type != 'h' || path_ok(out->link));
}

int treefile_open(struct treefile *t, int fd, struct err *e)
{
	*t = (struct treefile){.f = fdopen(fd, "r")};
	if (!t->f) {
		close(fd);
		return err_set(e, ERR_SETUP, errno, "read the list of a layer's files");
	}
	if (getline(&t->line, &t->size, t->f) < 0 || strcmp(t->line, TREEFILE_MAGIC) != 0)
		return err_set(e, ERR_SETUP, 0, "the list of a layer's files is damaged");
	t->crc = (uint32_t)crc32(0, (const Bytef *)t->line, (uInt)strlen(t->line));
	return 0;
}

int treefile_next(struct treefile *t, struct err *e)
{
	ssize_t n = getline(&t->line, &t->size, t->f);

	if (n < 0 && ferror(t->f))
		return err_set(e, ERR_SETUP, errno, "read the list of a layer's files");
	if (n < 0)
		return 0;
	t->crc = (uint32_t)crc32(t->crc, (const Bytef *)t->line, (uInt)n);
	if (n < 2 || n > TREEFILE_LINE_MAX || strlen(t->line) != (size_t)n ||
		t->line[n - 1] != '\n')
		return err_set(e, ERR_SETUP, 0, "the list of a layer's files is damaged");
	t->line[n - 1] = '\0';
	if (!treefile_parse(t->line, &t->en))
		return err_set(e, ERR_SETUP, 0, "the list of a layer's files is damaged");
	return 1;
}

void treefile_close(struct treefile *t)
{
	if (t->f)
		fclose(t->f);
	free(t->line);
	memset(t, 0, sizeof *t);
}

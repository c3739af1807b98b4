/* What a file holds: a page of its lines, or a range of its bytes. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/files_int.h"
#include "fcgi/utf8.h"

enum { STEP = 1 << 16, LOOK_AHEAD = 3 };

/* A page being cut out of a text. */
struct page {
	struct files_job *j;
	struct utf8 utf8;
	int64_t line; /* number of the current one, from 0 */
	bool begun;   /* the current line has a byte */
	struct buf out;
	bool bad; /* no UTF-8 */
};

/*
 * How many bytes at p end a line, 0: none: the boundaries of Python's str.splitlines(), as the
 * original's offsets count them. left >= LOOK_AHEAD, or all that there is.
 */
static size_t line_end(const char *p, size_t left)
{
	switch ((unsigned char)*p) {
	case '\r':
		return left > 1 && p[1] == '\n' ? 2 : 1;
	case '\n':
	case '\v':
	case '\f':
	case 0x1c:
	case 0x1d:
	case 0x1e:
		return 1;
	case 0xc2: /* U+0085 */
		return left > 1 && (unsigned char)p[1] == 0x85 ? 2 : 0;
	case 0xe2: /* U+2028, U+2029 */
		return left > 2 && (unsigned char)p[1] == 0x80 && ((unsigned char)p[2] | 1) == 0xa9
			       ? 3
			       : 0;
	default:
		return 0;
	}
}

static bool in_page(const struct page *g)
{
	return g->line >= g->j->o->offset && g->line - g->j->o->offset < g->j->o->limit;
}

/* One byte more than may be shown is kept, which says that there is more. */
static void keep(struct page *g, const char *p, size_t n)
{
	size_t room = g->out.max - g->out.len;

	if (n > room) {
		n = room;
		g->j->r->flags |= FILES_TRUNCATED;
	}
	if (n)
		buf_add(&g->out, p, n);
}

static void begin_line(struct page *g)
{
	if (!g->begun && in_page(g) && g->line > g->j->o->offset)
		keep(g, "\n", 1);
	g->begun = true;
}

/* Takes text; returns how much of it was used: all of it at the end. */
static size_t take(struct page *g, const char *p, size_t n, bool last)
{
	size_t at = 0, from = 0;

	while (at < n && (last || n - at >= LOOK_AHEAD)) {
		size_t end = line_end(p + at, n - at);

		if (end == 0) {
			at++;
			continue;
		}
		begin_line(g);
		if (in_page(g))
			keep(g, p + from, at - from);
		g->line++;
		g->begun = false;
		at += end;
		from = at;
	}
	if (at > from) {
		begin_line(g);
		if (in_page(g))
			keep(g, p + from, at - from);
	}
	return at;
}

static bool check(struct page *g, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!utf8_push(&g->utf8, (uint8_t)p[i]))
			return false;
	return true;
}

static int read_text(struct page *g, int fd, struct err *e)
{
	char step[STEP + LOOK_AHEAD];
	size_t held = 0, used;
	int64_t at = 0;

	while (!g->bad) {
		ssize_t n = pread(fd, step + held, STEP, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read a file");
		at += n;
		if (at > g->j->lim->scan_max_bytes)
			return 1; /* it grew meanwhile */
		if (!check(g, step + held, (size_t)n) || (n == 0 && !utf8_whole(&g->utf8)))
			g->bad = true;
		used = take(g, step, held + (size_t)n, n == 0);
		held = held + (size_t)n - used;
		memmove(step, step + used, held);
		if (n == 0)
			break;
	}
	g->line += g->begun;
	return 0;
}

/* Copies bytes of fd to the data. Fewer than asked for are there when it shrank. */
static int copy(struct files_job *j, int fd, int64_t at, int64_t n, struct err *e)
{
	char step[STEP];

	while (n > 0) {
		ssize_t k = pread(fd, step, n < STEP ? (size_t)n : STEP, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set(e, ERR_SETUP, errno, "read a file");
		if (k == 0)
			break;
		if (files_emit(j, step, (size_t)k, e) < 0)
			return -1;
		at += k;
		n -= k;
	}
	return 0;
}

static int binary(struct files_job *j, int fd, int64_t size, struct err *e)
{
	j->r->flags = FILES_BINARY;
	if (size > j->lim->read_max_bytes)
		return files_code_why(j, FILES_TOO_LARGE,
			"Binary file exceeds maximum preview size of %lld bytes",
			(long long)j->lim->read_max_bytes);
	return copy(j, fd, 0, size, e) < 0 ? -1 : files_code(j, FILES_OK);
}

static int too_large(struct files_job *j)
{
	return files_code_why(j, FILES_TOO_LARGE,
		"File exceeds the %lld bytes that are searched (files_scan_max_bytes)",
		(long long)j->lim->scan_max_bytes);
}

/* The file at the first text, opened and described. -2: the code is set. */
static int open_file(struct files_job *j, struct stat *st, struct err *e)
{
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, false, &p, e), fd;

	if (got <= 0)
		return got < 0 ? -1 : -2;
	fd = files_open(j, &p, e);
	if (fd >= 0 && fstat(fd, st) == 0)
		files_describe(j, st);
	return fd;
}

int files_lines(struct files_job *j, struct err *e)
{
	struct page g = {.j = j, .out = BUF_INIT((size_t)j->lim->read_max_bytes + 1)};
	struct stat st;
	int got = open_file(j, &st, e), ret;
	OWN_FD fd = got;

	if (got < 0)
		return got == -2 ? 0 : -1;
	if (st.st_size > j->lim->scan_max_bytes)
		return too_large(j);
	ret = read_text(&g, fd, e);
	if (ret == 0 && g.bad)
		ret = binary(j, fd, st.st_size, e);
	else if (ret > 0)
		ret = too_large(j);
	else if (ret == 0 && j->o->offset > 0 && j->o->offset >= g.line && g.line > 0)
		ret = files_code(j, FILES_BAD_OFFSET);
	else if (ret == 0)
		ret = files_emit(j, g.out.p ? g.out.p : "", g.out.len, e);
	j->r->n[0] = g.line;
	j->r->n[1] = j->o->limit < g.line - j->o->offset ? j->o->offset + j->o->limit : g.line;
	buf_clear(&g.out);
	return ret;
}

/* Which bytes are meant; total > 0: the last so many. false: none of this file. */
static bool range(struct files_job *j, int64_t size, int64_t *from, int64_t *n)
{
	*from = j->o->total > 0 ? (j->o->total < size ? size - j->o->total : 0) : j->o->offset;
	*n = size - *from;
	if (*from > size || (*from == size && (*from > 0 || j->o->total > 0 || j->o->limit > 0)))
		return false;
	if (j->o->limit > 0 && j->o->limit < *n)
		*n = j->o->limit;
	return true;
}

int files_fetch(struct files_job *j, struct err *e)
{
	struct stat st, after;
	int64_t from, n;
	int got = open_file(j, &st, e);
	OWN_FD fd = got;

	if (got < 0)
		return got == -2 ? 0 : -1;
	if (!range(j, st.st_size, &from, &n))
		return files_code(j, FILES_BAD_OFFSET);
	j->r->n[0] = from;
	if (n > j->lim->transfer_max_bytes)
		return files_code_why(j, FILES_TOO_LARGE,
			"more than %lld bytes at once (download_max_bytes); ask for a range",
			(long long)j->lim->transfer_max_bytes);
	if (copy(j, fd, from, n, e) < 0)
		return -1;
	if (j->r->bytes != n)
		return files_code(j, FILES_CHANGED);
	if (fstat(fd, &after) < 0 || after.st_size != st.st_size ||
		memcmp(&after.st_ctim, &st.st_ctim, sizeof st.st_ctim))
		j->r->flags |= FILES_UNSTABLE;
	return files_code(j, FILES_OK);
}

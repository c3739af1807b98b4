#include "isolate/watch_text.h"

#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "isolate/mountinfo.h"

/* A decimal or hexadecimal number at *p, which moves past it; saturates. False: no digit. */
static bool number(const char **p, const char *end, unsigned base, uint64_t *out)
{
	const char *at = *p;
	uint64_t v = 0;

	for (; at < end; at++) {
		unsigned d = *at >= '0' && *at <= '9'   ? (unsigned)(*at - '0')
			     : *at >= 'a' && *at <= 'f' ? (unsigned)(*at - 'a') + 10
							: 99;

		if (d >= base)
			break;
		v = v > (UINT64_MAX - d) / base ? UINT64_MAX : v * base + d;
	}
	if (at == *p)
		return false;
	*p = at;
	*out = v;
	return true;
}

static void blanks(const char **p, const char *end)
{
	while (*p < end && (**p == ' ' || **p == '\t'))
		(*p)++;
}

/* The line at *p, without its newline; *p moves to the next. NULL: no more. */
static const char *next_line(const char **p, const char *end, size_t *len)
{
	const char *line = *p, *nl;

	if (line >= end)
		return NULL;
	nl = memchr(line, '\n', (size_t)(end - line));
	*len = nl ? (size_t)(nl - line) : (size_t)(end - line);
	*p = nl ? nl + 1 : end;
	return line;
}

bool watch_text_key(const char *text, size_t n, const char *key, uint64_t *out)
{
	const char *p = text, *line;
	size_t len, klen = strlen(key);

	while ((line = next_line(&p, text + n, &len))) {
		const char *at = line + klen;

		if (len < klen || memcmp(line, key, klen) != 0)
			continue;
		blanks(&at, line + len);
		return number(&at, line + len, 10, out);
	}
	return false;
}

static uint64_t kib(const char *text, size_t n, const char *key)
{
	uint64_t v = 0;

	watch_text_key(text, n, key, &v);
	return v > UINT64_MAX / 1024 ? UINT64_MAX : v * 1024;
}

bool watch_text_status(const char *text, size_t n, struct watch_status *out)
{
	const char *p = text, *line;
	size_t len;

	memset(out, 0, sizeof *out);
	/* Name: comes first and its newlines are escaped, so a line's start is the kernel's. */
	while (!out->state && (line = next_line(&p, text + n, &len)))
		if (len >= 8 && !memcmp(line, "State:\t", 7))
			out->state = line[7];
	out->anon = kib(text, n, "RssAnon:");
	out->swap = kib(text, n, "VmSwap:");
	out->page_tables = kib(text, n, "VmPTE:");
	out->huge = kib(text, n, "HugetlbPages:");
	out->size = kib(text, n, "VmSize:");
	watch_text_key(text, n, "Threads:", &out->threads);
	watch_text_key(text, n, "Seccomp_filters:", &out->filters);
	return out->state != 0;
}

static bool literal(const char **p, const char *end, char c)
{
	if (*p >= end || **p != c)
		return false;
	(*p)++;
	return true;
}

bool watch_text_map(const char *line, size_t n, struct watch_map *out)
{
	const char *p = line, *end = line + n;
	uint64_t major, minor;

	memset(out, 0, sizeof *out);
	if (!number(&p, end, 16, &out->start) || !literal(&p, end, '-') ||
		!number(&p, end, 16, &out->end) || !literal(&p, end, ' ') || end - p < 5 ||
		out->end < out->start)
		return false;
	out->shared = p[3] == 's';
	p += 4;
	if (!literal(&p, end, ' ') || !number(&p, end, 16, &out->offset) ||
		!literal(&p, end, ' ') || !number(&p, end, 16, &major) || !literal(&p, end, ':') ||
		!number(&p, end, 16, &minor) || !literal(&p, end, ' ') ||
		!number(&p, end, 10, &out->ino))
		return false;
	out->major = (unsigned)major;
	out->minor = (unsigned)minor;
	blanks(&p, end);
	out->sysv = end - p >= 5 && !memcmp(p, "/SYSV", 5);
	return true;
}

uint64_t watch_text_space(const char *text, size_t n)
{
	/* fields after the name: 1 is the state; 21 vsize, 22 rss, 24.. code, stack; 43.. arguments */
	static const unsigned char used[] = {21, 22, 24, 25, 26, 43, 44, 45, 46, 47, 48, 49};
	const char *p = memrchr(text, ')', n), *end = text + n;
	uint64_t hash = 0xcbf29ce484222325u, v; /* FNV-1a over numbers */
	size_t taken = 0;

	if (!p)
		return 0;
	p++;
	for (unsigned field = 1; p < end && taken < sizeof used; field++) {
		blanks(&p, end);
		if (field == used[taken]) {
			taken++;
			if (!number(&p, end, 10, &v))
				return 0;
			hash = (hash ^ v) * 0x100000001b3u;
		}
		while (p < end && *p != ' ')
			p++;
	}
	return taken == sizeof used ? hash : 0;
}

uint64_t watch_text_faults(const char *text, size_t n)
{
	const char *p = memrchr(text, ')', n), *end = text + n;
	uint64_t own = 0, children = 0;

	if (!p)
		return 0;
	p++;
	for (unsigned field = 1; p < end && field <= 9; field++) {
		blanks(&p, end);
		if ((field == 8 && !number(&p, end, 10, &own)) ||
			(field == 9 && !number(&p, end, 10, &children)))
			return 0;
		while (p < end && *p != ' ')
			p++;
	}
	return own > UINT64_MAX - children ? UINT64_MAX : own + children;
}

bool watch_text_vfork(const char *text, size_t n)
{
	const char *p = text, *end = text + n;
	uint64_t nr, flags;

	if (!number(&p, end, 10, &nr))
		return false;
#ifdef SYS_vfork
	if (nr == SYS_vfork)
		return true;
#endif
	return nr == SYS_clone && literal(&p, end, ' ') && literal(&p, end, '0') &&
	       literal(&p, end, 'x') && number(&p, end, 16, &flags) &&
	       (flags & (CLONE_VFORK | CLONE_VM)) == (CLONE_VFORK | CLONE_VM);
}

/* The word at *p, which moves past it. */
static const char *next_word(const char **p, const char *end, size_t *len)
{
	const char *word;

	blanks(p, end);
	word = *p;
	while (*p < end && **p != ' ' && **p != '\t')
		(*p)++;
	*len = (size_t)(*p - word);
	return *len ? word : NULL;
}

static int column_of(const char *line, size_t len, const char *name)
{
	const char *p = line, *word;
	size_t wlen;

	for (int i = 0; name && (word = next_word(&p, line + len, &wlen)); i++)
		if (wlen == strlen(name) && !memcmp(word, name, wlen))
			return i;
	return -1;
}

static void add_row(const char *line, size_t len, const int col[2], uint64_t *const sum[2])
{
	const char *p = line, *word;
	size_t wlen;
	uint64_t v;

	for (int i = 0; (word = next_word(&p, line + len, &wlen)); i++)
		for (int c = 0; c < 2; c++) {
			const char *at = word;

			if (i == col[c] && sum[c] && number(&at, word + wlen, 10, &v))
				*sum[c] = *sum[c] > UINT64_MAX - v ? UINT64_MAX : *sum[c] + v;
		}
}

size_t watch_text_columns(
	const char *text, size_t n, const char *col_a, const char *col_b, uint64_t *a, uint64_t *b)
{
	const char *p = text, *line;
	uint64_t *const sum[2] = {a, b};
	int col[2];
	size_t len, rows = 0;

	*a = 0;
	if (b)
		*b = 0;
	if (!(line = next_line(&p, text + n, &len)))
		return 0;
	col[0] = column_of(line, len, col_a);
	col[1] = column_of(line, len, col_b);
	for (; (line = next_line(&p, text + n, &len)); rows++)
		add_row(line, len, col, sum);
	return rows;
}

bool watch_text_tmpfs(const char *line, size_t n, char *path, size_t size)
{
	const char *p = line, *end = line + n, *word, *mount = NULL;
	size_t len, mlen = 0;

	/* id parent dev root mount options [optional fields] - type source options */
	for (int i = 0; (word = next_word(&p, end, &len)); i++) {
		if (i == 4) {
			mount = word;
			mlen = len;
		}
		if (i > 5 && len == 1 && *word == '-')
			break;
	}
	word = word ? next_word(&p, end, &len) : NULL;
	return mount && word && len == 5 && !memcmp(word, "tmpfs", 5) &&
	       mountinfo_unescape(mount, mlen, path, size);
}

bool watch_text_mount(const char *line, size_t n, unsigned major, unsigned minor, uint64_t *id)
{
	const char *p = line, *end = line + n, *word;
	uint64_t parent, a, b;
	size_t len;

	if (!number(&p, end, 10, id) || !literal(&p, end, ' ') || !number(&p, end, 10, &parent) ||
		!literal(&p, end, ' ') || !number(&p, end, 10, &a) || !literal(&p, end, ':') ||
		!number(&p, end, 10, &b))
		return false;
	word = next_word(&p, end, &len);
	return word && len == 1 && *word == '/' && a == major && b == minor;
}

size_t watch_text_lines(const char *text, size_t n, const char *word)
{
	const char *p = text, *line;
	size_t len, wlen = strlen(word), rows = 0;

	while ((line = next_line(&p, text + n, &len)))
		rows += len >= wlen && !memcmp(line, word, wlen);
	return rows;
}

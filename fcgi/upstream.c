#include "fcgi/upstream.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

long upstream_head_size(const char *p, size_t n)
{
	size_t end = n < UPSTREAM_HEAD_MAX ? n : UPSTREAM_HEAD_MAX;
	size_t line = 0;

	for (size_t i = 0; i < end; i++) {
		if (p[i] != '\n')
			continue;
		if (i > line && !(i == line + 1 && p[line] == '\r')) {
			line = i + 1;
			continue;
		}
		return (long)i + 1;
	}
	return n >= UPSTREAM_HEAD_MAX ? -1 : 0;
}

static int bad(struct err *e, const char *what)
{
	return err_set(e, ERR_REQUEST, 0, "the answer of the port is malformed: %s", what);
}

/* tchar of RFC 9110, 5.6.2 */
static bool token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && (!p[i] || !strchr("!#$%&'*+-.^_`|~", p[i])))
			return false;
	return n > 0;
}

static bool text(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((unsigned char)p[i] < ' ' && p[i] != '\t') || p[i] == 0x7f)
			return false;
	return true;
}

static bool is(const char *p, size_t n, const char *name)
{
	return n == strlen(name) && !strncasecmp(p, name, n);
}

static int take_status(const char *p, size_t n, struct upstream_head *h, struct err *e)
{
	if (n < 12 || strncmp(p, "HTTP/1.", 7) || (p[7] != '0' && p[7] != '1') || p[8] != ' ' ||
		!isdigit((unsigned char)p[9]) || !isdigit((unsigned char)p[10]) ||
		!isdigit((unsigned char)p[11]) || (n > 12 && p[12] != ' ') || !text(p, n))
		return bad(e, "no status line of HTTP/1");
	h->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
	return h->status >= 100 && h->status <= 599 ? 0 : bad(e, "the status");
}

static int take_length(const char *p, size_t n, struct upstream_head *h, struct err *e)
{
	int64_t v = 0;

	if (n == 0 || n > 18)
		return bad(e, "Content-Length");
	for (size_t i = 0; i < n; i++) {
		if (!isdigit((unsigned char)p[i]))
			return bad(e, "Content-Length");
		v = v * 10 + (p[i] - '0');
	}
	if (h->length >= 0 && h->length != v)
		return bad(e, "two values of Content-Length");
	h->length = v;
	return 0;
}

/* What says how long the body is. */
static int take_framing(const char *name, size_t name_len, const char *value, size_t value_len,
	struct upstream_head *h, struct err *e)
{
	if (is(name, name_len, "Content-Length"))
		return take_length(value, value_len, h, e);
	if (!is(name, name_len, "Transfer-Encoding"))
		return 0;
	if (h->chunked || !is(value, value_len, "chunked"))
		return bad(e, "a Transfer-Encoding other than chunked");
	h->chunked = true;
	return 0;
}

static int take_header(const char *p, size_t n, struct upstream_head *h, upstream_header_fn *fn,
	void *arg, struct err *e)
{
	const char *colon = memchr(p, ':', n), *value, *end = p + n;

	/* also refuses lines that go on an earlier one (obs-fold) */
	if (!colon || !token(p, (size_t)(colon - p)))
		return bad(e, "a header without a name");
	for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (!text(value, (size_t)(end - value)))
		return bad(e, "a control character in a header");
	if (take_framing(p, (size_t)(colon - p), value, (size_t)(end - value), h, e) < 0)
		return -1;
	if (fn)
		fn(arg, p, (size_t)(colon - p), value, (size_t)(end - value));
	return 0;
}

/* The next line, without its end. */
static size_t next_line(const char **p, const char *end, const char **line)
{
	const char *nl = memchr(*p, '\n', (size_t)(end - *p));
	size_t n;

	*line = *p;
	if (!nl)
		nl = end;
	n = (size_t)(nl - *p);
	*p = nl < end ? nl + 1 : end;
	return n > 0 && (*line)[n - 1] == '\r' ? n - 1 : n;
}

int upstream_head_parse(const char *p, size_t n, struct upstream_head *out, upstream_header_fn *fn,
	void *arg, struct err *e)
{
	const char *end = p + n, *line;
	unsigned count = 0;
	size_t len;

	*out = (struct upstream_head){.length = -1};
	len = next_line(&p, end, &line);
	if (take_status(line, len, out, e) < 0)
		return -1;
	while (p < end && (len = next_line(&p, end, &line)) > 0) {
		if (++count > UPSTREAM_HEADERS_MAX)
			return bad(e, "too many headers");
		if (take_header(line, len, out, fn, arg, e) < 0)
			return -1;
	}
	return out->chunked && out->length >= 0 ? bad(e, "two lengths of one body") : 0;
}

enum { CH_SIZE, CH_EXTENSION, CH_DATA, CH_AFTER, CH_TRAILER };

void upstream_body_init(struct upstream_body *b, const struct upstream_head *h, bool no_body)
{
	*b = (struct upstream_body){.framing = UPSTREAM_TO_END};
	if (no_body || h->status < 200 || h->status == 204 || h->status == 304)
		b->framing = UPSTREAM_NONE;
	else if (h->chunked)
		b->framing = UPSTREAM_CHUNKED;
	else if (h->length >= 0)
		b->framing = UPSTREAM_LENGTH;
	b->left = b->framing == UPSTREAM_LENGTH ? (uint64_t)h->length : 0;
	b->done = b->framing == UPSTREAM_NONE || (b->framing == UPSTREAM_LENGTH && b->left == 0);
}

static int hex(char ch)
{
	return ch >= '0' && ch <= '9'                 ? ch - '0'
	       : (ch | 32) >= 'a' && (ch | 32) <= 'f' ? (ch | 32) - 'a' + 10
						      : -1;
}

/* The size of a chunk has been read, up to its line feed. */
static void begin_chunk(struct upstream_body *b)
{
	b->state = b->left ? CH_DATA : CH_TRAILER;
	b->line = 0;
	b->digits = 0;
}

static int feed_size(struct upstream_body *b, char ch, struct err *e)
{
	int v = hex(ch);

	if (b->state == CH_SIZE && v >= 0) {
		if (++b->digits > 15)
			return bad(e, "the size of a chunk");
		b->left = b->left * 16 + (unsigned)v;
		return 0;
	}
	if (b->digits == 0 || ++b->line > UPSTREAM_LINE_MAX)
		return bad(e, "the line before a chunk");
	if (ch == '\n')
		begin_chunk(b);
	else if (b->state == CH_SIZE && ch != ';' && ch != ' ' && ch != '\t' && ch != '\r')
		return bad(e, "the size of a chunk");
	else
		b->state = CH_EXTENSION;
	return 0;
}

/* Trailers are dropped: an empty line ends them. digits: bytes of the line, line: of all. */
static int feed_trailer(struct upstream_body *b, char ch, struct err *e)
{
	if (++b->line > UPSTREAM_TRAILERS_MAX)
		return bad(e, "too much behind the last chunk");
	if (ch == '\n') {
		b->done = b->digits == 0;
		b->digits = 0;
	} else if (ch != '\r') {
		b->digits++;
	}
	return 0;
}

static int feed_after(struct upstream_body *b, char ch, struct err *e)
{
	if (ch == '\r' && b->digits == 0) {
		b->digits = 1;
		return 0;
	}
	if (ch != '\n')
		return bad(e, "a chunk is longer than it said");
	b->state = CH_SIZE;
	b->digits = 0;
	return 0;
}

static int feed_one(struct upstream_body *b, char ch, struct err *e)
{
	switch (b->state) {
	case CH_SIZE:
	case CH_EXTENSION:
		return feed_size(b, ch, e);
	case CH_AFTER:
		return feed_after(b, ch, e);
	default:
		return feed_trailer(b, ch, e);
	}
}

static size_t take_data(struct upstream_body *b, const char *p, size_t n, struct buf *out)
{
	size_t k = n < b->left ? n : (size_t)b->left;

	buf_add(out, p, k);
	b->left -= k;
	return k;
}

int upstream_body_feed(
	struct upstream_body *b, const char *p, size_t n, struct buf *out, struct err *e)
{
	if (b->framing == UPSTREAM_TO_END) {
		buf_add(out, p, n);
		return 0;
	}
	if (b->framing == UPSTREAM_LENGTH) {
		take_data(b, p, n, out);
		b->done = b->left == 0;
		return 0;
	}
	for (size_t i = 0; i < n && !b->done; i++) {
		if (b->state != CH_DATA) {
			if (feed_one(b, p[i], e) < 0)
				return -1;
			continue;
		}
		i += take_data(b, p + i, n - i, out) - 1;
		if (b->left == 0) {
			b->state = CH_AFTER;
			b->digits = 0;
		}
	}
	return 0;
}

bool upstream_body_may_end(const struct upstream_body *b)
{
	return b->done || b->framing == UPSTREAM_TO_END;
}

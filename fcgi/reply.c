#include "fcgi/reply.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isolate/own.h"

enum {
	HEADERS_MAX = 4096, /* besides rs->headers, which have their own bound */
	DETAIL_MAX = 1024,
	PIECE = 1 << 20,
	RAW_PIECE = 1 << 16,
	STREAM_LINE_MAX = 1 << 16,
	MORE_MAX = 1 << 20
};

static const struct {
	int status;
	const char *reason;
} reasons[] = {
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{206, "Partial Content"},
	{304, "Not Modified"},
	{307, "Temporary Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{411, "Length Required"},
	{413, "Content Too Large"},
	{412, "Precondition Failed"},
	{415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"},
	{422, "Unprocessable Entity"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{507, "Insufficient Storage"},
};

static const char *reason_of(int status)
{
	for (size_t i = 0; i < NELEM(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

static bool has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

static int add_headers(struct buf *b, const struct request *q, const struct http_response *rs)
{
	buf_addf(b, "Status: %d %s\r\n", rs->status, reason_of(rs->status));
	if (has_body(rs->status)) {
		if (rs->content_type)
			http_put_header(b, "Content-Type", rs->content_type);
		if (rs->raw && rs->stream_bytes >= 0)
			buf_addf(b, "Content-Length: %lld\r\n", (long long)rs->stream_bytes);
		else if (!rs->line && !rs->raw && !rs->more)
			buf_addf(b, "Content-Length: %zu\r\n", rs->body.len);
	}
	if (rs->allow)
		http_put_header(b, "Allow", rs->allow);
	if (rs->retry_after_s > 0)
		buf_addf(b, "Retry-After: %d\r\n", rs->retry_after_s);
	if (*rs->location)
		http_put_header(b, "Location", rs->location);
	if (rs->headers.len)
		buf_add(b, rs->headers.p, rs->headers.len);
	if (rs->more) { /* nginx looks at the first, others at the second */
		http_put_header(b, "X-Accel-Buffering", "no");
		if (!rs->foreign)
			http_put_header(b, "Cache-Control", "no-cache, no-transform");
	}
	http_put_header(b, "X-Content-Type-Options", "nosniff");
	http_put_header(b, "X-Request-Id", q->id);
	buf_adds(b, "\r\n");
	return buf_ok(b) ? 0 : -1;
}

static void make_500(struct http_response *rs)
{
	if (rs->line || rs->raw)
		own_close(&rs->stream);
	rs->line = NULL;
	rs->raw = false;
	rs->more = NULL;
	buf_clear(&rs->headers);
	buf_clear(&rs->body);
	rs->body = BUF_INIT(64);
	buf_adds(&rs->body, "Internal Server Error");
	rs->status = 500;
	rs->content_type = "text/plain; charset=utf-8";
	rs->allow = NULL;
	rs->retry_after_s = 0;
	rs->location[0] = '\0';
}

static int put(struct request *q, const char *p, size_t n, struct err *e)
{
	while (n) {
		int k = n < PIECE ? (int)n : PIECE;

		if (FCGX_PutStr(p, k, q->fcgi.out) != k)
			return err_set(
				e, ERR_REQUEST, FCGX_GetError(q->fcgi.out), "write the answer");
		p += k;
		n -= (size_t)k;
		q->sent += k;
	}
	return 0;
}

static int flush(struct request *q, struct err *e)
{
	if (FCGX_FFlush(q->fcgi.out) < 0)
		return err_set(e, ERR_REQUEST, FCGX_GetError(q->fcgi.out), "write the answer");
	return 0;
}

static int put_line(struct request *q, struct http_response *rs, const char *line, struct err *e)
{
	OWN_BUF out = BUF_INIT(STREAM_LINE_MAX * 8);

	rs->line(rs, line, &out);
	if (!buf_ok(&out))
		return err_set(e, ERR_LIMIT, 0, "a line of the stream is too long");
	return put(q, out.p ? out.p : "", out.len, e);
}

/* Hands on the whole lines in b; what is left of it is the beginning of one. */
static int put_lines(struct request *q, struct http_response *rs, struct buf *b, struct err *e)
{
	char *from = b->p, *end;

	while ((end = memchr(from, '\n', b->len - (size_t)(from - b->p)))) {
		*end = '\0';
		if (put_line(q, rs, from, e) < 0)
			return -1;
		from = end + 1;
	}
	b->len -= (size_t)(from - b->p);
	memmove(b->p, from, b->len);
	return flush(q, e);
}

/* What is read is sent before more is waited for. */
static int put_stream(struct request *q, struct http_response *rs, struct err *e)
{
	OWN_BUF b = BUF_INIT(STREAM_LINE_MAX);
	ssize_t n;

	if (flush(q, e) < 0)
		return -1;
	for (;;) {
		char *to = buf_room(&b, 4096);

		n = to ? read(rs->stream, to, 4096) : -1;
		if (n < 0 && to && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		b.len += (size_t)n;
		if (put_lines(q, rs, &b, e) < 0)
			return -1;
	}
	return put_line(q, rs, NULL, e);
}

/* As it comes; a file that is shorter than was said cuts the answer off, which the client sees. */
static int put_raw(struct request *q, struct http_response *rs, struct err *e)
{
	OWN_MEM char *piece = malloc(RAW_PIECE);
	int64_t left = rs->stream_bytes < 0 ? INT64_MAX : rs->stream_bytes;

	if (!piece)
		return err_set(e, ERR_SETUP, ENOMEM, "send a stream");
	while (left > 0) {
		ssize_t n = read(rs->stream, piece, left < RAW_PIECE ? (size_t)left : RAW_PIECE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || (n == 0 && rs->stream_bytes >= 0))
			return err_set(e, ERR_SETUP, n < 0 ? errno : EPIPE, "read what is sent");
		if (n == 0)
			return 0;
		if (put(q, piece, (size_t)n, e) < 0 || flush(q, e) < 0)
			return -1;
		left -= n;
	}
	return 0;
}

static int put_more(struct request *q, struct http_response *rs, struct err *e)
{
	int more = 1;

	if (flush(q, e) < 0)
		return -1;
	while (more > 0) {
		OWN_BUF out = BUF_INIT(MORE_MAX);

		more = rs->more(rs, &out);
		if (!buf_ok(&out))
			return err_set(e, ERR_SETUP, 0, "no memory for a stream");
		if (out.len > 0 && (put(q, out.p, out.len, e) < 0 || flush(q, e) < 0))
			return -1;
	}
	return more < 0
		       ? err_set(e, ERR_REQUEST, 0, "the answer breaks off, or the client has gone")
		       : 0;
}

int reply_send(struct request *q, struct http_response *rs, struct err *e)
{
	OWN_BUF head = BUF_INIT(HEADERS_MAX + rs->headers.len);

	if (rs->status < 200 || rs->status > 599 || !buf_ok(&rs->body))
		make_500(rs);
	if (add_headers(&head, q, rs) < 0)
		return err_set(e, ERR_BUG, 0, "headers of more than %d bytes", HEADERS_MAX);
	if (put(q, head.p, head.len, e) < 0)
		return -1;
	q->sent = 0;
	if (has_body(rs->status) && q->http.method != HTTP_HEAD &&
		put(q, rs->body.p, rs->body.len, e) < 0)
		return -1;
	if (rs->line && put_stream(q, rs, e) < 0)
		return -1;
	if (rs->raw && q->http.method != HTTP_HEAD && put_raw(q, rs, e) < 0)
		return -1;
	if (rs->more && has_body(rs->status) && q->http.method != HTTP_HEAD &&
		put_more(q, rs, e) < 0)
		return -1;
	/* END_REQUEST: before it the server must not take the answer for complete. */
	FCGX_FClose(q->fcgi.err);
	/* A server that has all the bytes it was promised may close before it reads the end. */
	if (FCGX_FClose(q->fcgi.out) < 0 && !(rs->raw && rs->stream_bytes >= 0))
		return err_set(e, ERR_REQUEST, FCGX_GetError(q->fcgi.out), "end the answer");
	q->replied = true;
	return 0;
}

void reply_refuse(struct http_response *rs, int status, const struct err *e)
{
	buf_clear(&rs->body);
	rs->body = BUF_INIT(DETAIL_MAX);
	buf_adds(&rs->body, "{\"detail\":\"");
	/* Messages of refusals are our own words and numbers; quotes are the only hazard. */
	for (const char *p = e->msg; *p; p++) {
		if (*p == '"' || *p == '\\')
			buf_addc(&rs->body, '\\');
		buf_addc(&rs->body, (unsigned char)*p < ' ' ? '?' : *p);
	}
	buf_adds(&rs->body, "\"}");
	rs->status = status;
	rs->content_type = "application/json";
}

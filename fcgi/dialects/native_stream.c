/* The output of a run as events, from any offset, for as long as it runs: NDJSON or SSE. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/native_runs.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "fcgi/utf8.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { PART = 16384 };

struct stream {
	const struct conf *conf;
	const struct live_ops *live;
	struct backend *backend;
	struct run_view view;
	uint64_t at;    /* the client has all before it */
	uint64_t until; /* without wait: what was there at first; a fast writer would have no end */
	bool sse, wait, begun;
	int conn;
	char part[PART];
};

static void stream_free(void *arg)
{
	struct stream *s = arg;

	s->live->close(&s->view);
	free(s);
}

/* One event; text is an object with its type. */
static void put_event(
	const struct stream *s, struct buf *out, const char *type, const struct buf *text)
{
	if (s->sse)
		buf_addf(out, "id: %llu\nevent: %s\ndata: ", (unsigned long long)s->at, type);
	buf_add(out, text->p, text->len);
	buf_adds(out, s->sse ? "\n\n" : "\n");
}

static void put_start(struct stream *s, struct buf *out)
{
	OWN_BUF text = BUF_INIT(512);

	s->begun = true;
	buf_addf(&text, "{\"type\":\"start\",\"id\":\"%s\",\"offset\":%llu}", s->view.id,
		(unsigned long long)s->at);
	put_event(s, out, "start", &text);
}

static void put_ping(const struct stream *s, struct buf *out)
{
	buf_adds(out, s->sse ? ": ping\n\n" : "{\"type\":\"ping\"}\n");
}

static void put_expired(struct stream *s, struct buf *out, uint64_t first)
{
	OWN_BUF text = BUF_INIT(512);

	buf_addf(&text, "{\"type\":\"expired\",\"offset\":%llu,\"first_offset\":%llu}",
		(unsigned long long)s->at, (unsigned long long)first);
	s->at = first;
	put_event(s, out, "expired", &text);
}

static void put_exit(
	struct stream *s, struct buf *out, const struct result *r, const struct err *why)
{
	OWN_BUF text = BUF_INIT(4096);

	buf_addf(&text, "{\"type\":\"exit\",\"offset\":%llu,", (unsigned long long)s->at);
	if (why->kind != ERR_NONE) {
		buf_adds(&text, "\"verdict\":null,\"error\":");
		json_out_text(&text, why->msg);
	} else {
		native_put_receipt(&text, r);
	}
	buf_addc(&text, '}');
	put_event(s, out, "exit", &text);
}

/*
 * Reads what is there of one stream, across the end of the ring. *more: bytes of another follow, so
 * that half a character at the end is all there is of it. -1 as spool_read().
 */
static ssize_t gather(struct stream *s, enum spool_stream *stream, uint64_t *first, bool *more)
{
	ssize_t n = spool_read(&s->view.spool, s->at, s->part, PART, stream, first), k;
	enum spool_stream other = SPOOL_OUTPUT;
	uint64_t ignored;

	*more = false;
	while (n > 0 && n < PART) {
		k = spool_read(&s->view.spool, s->at + (uint64_t)n, s->part + n, PART - (size_t)n,
			&other, &ignored);
		*more = k > 0 && other != *stream;
		if (k <= 0 || *more)
			break;
		n += k;
	}
	return n;
}

static int put_parts(struct stream *s, struct buf *out, enum spool_stream stream, size_t n)
{
	OWN_BUF text = BUF_INIT(8 * PART);

	native_put_output(&text, stream, s->at, s->part, n);
	s->at += n;
	put_event(s, out, "output", &text);
	return 1;
}

/* Nothing new is there beyond n bytes that are held back. */
static int await(struct stream *s, struct buf *out, size_t n)
{
	struct err e = {0};
	int got = s->live->wait(s->backend, &s->view, s->at + n,
		(int)s->conf->stream_heartbeat_s * 1000, s->conn, &e);

	if (got > 0)
		return 1;
	if (got == 0) {
		put_ping(s, out);
		return 1;
	}
	log_err(LOG_INFO, &e, "follow run %s", s->view.id);
	/* Without an exit event: nobody knows, and a client that asks again will be told. */
	return e.kind == ERR_REQUEST ? -1 : 0;
}

static int next(struct http_response *rs, struct buf *out)
{
	struct stream *s = rs->more_arg;
	enum spool_stream stream = SPOOL_OUTPUT;
	struct err why = {0};
	struct result r;
	uint64_t first = 0;
	size_t held;
	bool more, ended;
	ssize_t n;

	if (!s->begun) {
		put_start(s, out);
		return 1;
	}
	ended = spool_result(&s->view.spool, &r, &why);
	if (!ended && !s->wait && s->at >= s->until)
		return 0;
	n = gather(s, &stream, &first, &more);
	if (n < 0 && errno == ERANGE) {
		put_expired(s, out, first);
		return 1;
	}
	if (n < 0) {
		log_line(LOG_ERROR, "run %s: its output cannot be read", s->view.id);
		return 0;
	}
	held = more || ended || !s->wait ? 0 : utf8_cut_tail(s->part, (size_t)n);
	if (n == PART)
		held = utf8_cut_tail(s->part, (size_t)n);
	if ((size_t)n > held)
		return put_parts(s, out, stream, (size_t)n - held);
	if (ended && n == 0)
		put_exit(s, out, &r, &why);
	return ended || !s->wait ? 0 : await(s, out, held);
}

bool native_wants_events(const struct dialect_call *c)
{
	return c->rq->accept && (strstr(c->rq->accept, "text/event-stream") ||
					strstr(c->rq->accept, "application/x-ndjson"));
}

static void gone(struct dialect_call *c, uint64_t first)
{
	struct buf *b = &c->rs->body;

	buf_clear(b);
	buf_addf(b,
		"{\"detail\":\"The output before offset %llu has expired\",\"first_offset\":%llu}",
		(unsigned long long)first, (unsigned long long)first);
	dialect_status(c, 410);
}

void native_stream(struct dialect_call *c, struct run_view *v, uint64_t from, bool wait)
{
	struct stream *s = calloc(1, sizeof *s);
	struct spool_state st;

	spool_look(&v->spool, &st);
	if (from < st.start || from > st.written || !s) {
		if (!s)
			dialect_detail(c, 500, "Internal Server Error");
		else if (from < st.start)
			gone(c, st.start);
		else
			dialect_detail(c, 422, "from: the output is not that long");
		c->ops->live->close(v);
		free(s);
		return;
	}
	s->conf = c->conf;
	s->live = c->ops->live;
	s->backend = c->backend;
	s->view = *v;
	s->at = from;
	s->until = st.written;
	s->wait = wait;
	s->conn = c->rq->conn;
	s->sse = c->rq->accept && strstr(c->rq->accept, "text/event-stream");
	c->rs->more = next;
	c->rs->more_arg = s;
	c->rs->more_end = stream_free;
	c->rs->status = 200;
	c->rs->content_type = s->sse ? "text/event-stream" : "application/x-ndjson";
}

void native_output(struct dialect_call *c)
{
	uint64_t from = 0, wait = 1;
	int given = query_number(c->rq->uri, "from", &from);
	struct run_view v;

	if (given < 0 || query_number(c->rq->uri, "wait", &wait) < 0) {
		dialect_detail(c, 422, "from and wait are whole numbers");
		return;
	}
	/* An EventSource that connects again sends this and the address it had. */
	if (c->rq->last_event_id && *c->rq->last_event_id &&
		query_digits(c->rq->last_event_id, &from) < 0) {
		dialect_detail(c, 422, "Last-Event-ID is a whole number here");
		return;
	}
	if (native_open_run(c, wait ? FOLLOW_STREAM : FOLLOW_NOT, &v) == 0)
		native_stream(c, &v, from, wait != 0);
}

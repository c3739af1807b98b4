#include "fcgi/request.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "fcgi/gate.h"
#include "fcgi/params.h"
#include "fcgi/trace.h"
#include "isolate/buf.h"
#include "isolate/own.h"
#include "isolate/clock.h"

/* How long a connection stays open after a management record without a request. */
enum { MANAGEMENT_WAIT_MS = 1000 };

/* Reads exactly n bytes; a peer that is too slow gets EAGAIN by SO_RCVTIMEO. */
static int read_exactly(int fd, void *to, size_t n, struct err *e)
{
	for (size_t got = 0; got < n;) {
		ssize_t k = recv(fd, (char *)to + got, n - got, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set(e, ERR_REQUEST, errno, "read a record");
		if (k == 0)
			return err_set(e, ERR_REQUEST, 0, "the connection ended inside a request");
		got += (size_t)k;
	}
	return 0;
}

static int skip(int fd, size_t n, struct err *e)
{
	char junk[4096];

	while (n) {
		size_t k = n < sizeof junk ? n : sizeof junk;

		if (read_exactly(fd, junk, k, e) < 0)
			return -1;
		n -= k;
	}
	return 0;
}

static int send_record(int fd, const uint8_t *p, size_t n, struct err *e)
{
	/* A blocking send of a stream socket is short only when it timed out or failed. */
	if (send(fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		return err_set(e, ERR_REQUEST, errno, "answer a record");
	return 0;
}

static int answer_values(int fd, size_t n, struct err *e)
{
	uint8_t names[REC_CONTENT_MAX], out[REC_VALUES_MAX];
	long size;

	if (read_exactly(fd, names, n, e) < 0)
		return -1;
	size = record_values(names, n, out);
	if (size < 0)
		return err_set(e, ERR_REQUEST, 0, "malformed FCGI_GET_VALUES");
	return send_record(fd, out, (size_t)size, e);
}

static int take_params(int fd, size_t n, struct buf *params, struct err *e)
{
	char *to = buf_room(params, n);

	if (!to)
		return err_set(e, ERR_SETUP, ENOMEM, "%zu bytes of parameters", n);
	if (read_exactly(fd, to, n, e) < 0)
		return -1;
	params->len += n;
	return 0;
}

static int take_begin(int fd, struct gate *g, struct err *e)
{
	uint8_t body[REC_BEGIN_BODY], out[REC_FIXED];

	if (read_exactly(fd, body, sizeof body, e) < 0)
		return -1;
	if (gate_begin(g, body))
		return 0;
	send_record(fd, out, record_end(out, g->id, REC_UNKNOWN_ROLE), e);
	return err_set(e, ERR_REQUEST, 0, "role %u", g->role);
}

/* The content of one record, as the gate decided. */
static int take_content(int fd, struct gate *g, enum gate_verdict v, const struct record *r,
	struct buf *params, struct err *e)
{
	uint8_t out[REC_FIXED];

	switch (v) {
	case GATE_BEGIN:
		return take_begin(fd, g, e);
	case GATE_PARAMS:
		return take_params(fd, r->content, params, e);
	case GATE_SKIP:
		return skip(fd, r->content, e);
	case GATE_VALUES:
		return answer_values(fd, r->content, e);
	case GATE_UNKNOWN:
		if (skip(fd, r->content, e) < 0)
			return -1;
		return send_record(fd, out, record_unknown(out, r->type), e);
	case GATE_MULTIPLEX:
		if (skip(fd, r->content, e) < 0)
			return -1;
		return send_record(fd, out, record_end(out, r->id, REC_CANT_MULTIPLEX), e);
	case GATE_ABORT:
		send_record(fd, out, record_end(out, g->id, REC_COMPLETE), e);
		return err_set(e, ERR_REQUEST, 0, "the web server gave the request up");
	case GATE_DONE:
		return 0;
	case GATE_BODY:
	case GATE_BAD:
		break;
	}
	return err_set(e, ERR_REQUEST, 0, "record type %u for request %u is not allowed here",
		r->type, r->id);
}

/* Whether a peer that sent a management record goes on to a request. */
static int await_request(int fd, struct err *e)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, MANAGEMENT_WAIT_MS) == 1)
		return 0;
	return err_set(e, ERR_REQUEST, 0, "no request after a management record");
}

static int pass_gate(int fd, struct gate *g, struct buf *params, struct err *e)
{
	for (;;) {
		uint8_t header[REC_HEADER];
		enum gate_verdict v;
		struct record r;

		if (read_exactly(fd, header, sizeof header, e) < 0)
			return -1;
		if (!record_decode(header, &r))
			return err_set(e, ERR_REQUEST, 0, "record version %u", header[0]);
		v = gate_next(g, &r);
		if (take_content(fd, g, v, &r, params, e) < 0)
			return -1;
		if (v == GATE_DONE && g->over)
			return 0; /* its padding may never come */
		if (skip(fd, r.padding, e) < 0)
			return -1;
		if (v == GATE_DONE)
			return 0;
		if (!g->begun && await_request(fd, e) < 0)
			return -1;
	}
}

static void add_record(struct buf *b, uint8_t type, uint16_t id, const void *p, size_t n)
{
	uint8_t head[REC_HEADER] = {0};

	record_encode(head, type, id, (uint16_t)n);
	buf_add(b, head, sizeof head);
	buf_add(b, p, n);
}

/* BEGIN (keep the connection: closing it is ours), PARAMS, end of PARAMS; by one call, which leaves
 * the file at its start. */
static int write_clean(int fd, uint16_t id, const struct buf *params)
{
	static const uint8_t begin[REC_BEGIN_BODY] = {0, REC_RESPONDER, 1};
	OWN_BUF b = BUF_INIT(2 * params->len + 64); /* and as many headers as that takes */

	add_record(&b, REC_BEGIN, id, begin, sizeof begin);
	for (size_t at = 0; at < params->len;) {
		size_t n = params->len - at < REC_CONTENT_MAX ? params->len - at : REC_CONTENT_MAX;

		add_record(&b, REC_PARAMS, id, params->p + at, n);
		at += n;
	}
	add_record(&b, REC_PARAMS, id, "", 0);
	return buf_ok(&b) && pwrite(fd, b.p, b.len, 0) == (ssize_t)b.len ? 0 : -1;
}

/*
 * Lets libfcgi read BEGIN and PARAMS from a memfd and then puts the connection in its place, for
 * the answer: a stream uses the descriptor that the request holds at that moment.
 */
static int open_fcgi(struct request *q, const struct buf *params, struct err *e)
{
	OWN_FD clean = memfd_create("params", MFD_CLOEXEC);
	int rc;

	if (clean < 0 || write_clean(clean, q->gate.id, params) < 0)
		return err_set(e, ERR_SETUP, errno, "copy parameters");
	FCGX_InitRequest(&q->fcgi, -1, 0);
	q->fcgi.ipcFd = take_fd(&clean);
	q->fcgi.keepConnection = 1;
	q->fcgi.detached = 1; /* a close inside libfcgi must not poll for 2 s */
	rc = FCGX_Accept_r(&q->fcgi);
	if (rc != 0)
		return err_set(e, ERR_BUG, 0, "libfcgi refuses clean parameters (%d)", rc);
	clean = q->fcgi.ipcFd; /* closed on return */
	q->fcgi.ipcFd = q->fd;
	q->opened = true;
	/* Accept_r returns 0 for parameters that were cut short; the stream knows. */
	if (FCGX_GetError(q->fcgi.in) != 0)
		return err_set(e, ERR_BUG, 0, "libfcgi did not see the end of the parameters");
	return 0;
}

static void body_end(struct request *q)
{
	if (q->body_ended)
		return;
	q->body_ended = true;
	if (q->on_body)
		q->on_body(q->arg);
}

/* There is no more: in order, or cut. */
static long body_finish(struct request *q, struct err *e)
{
	body_end(q);
	if (q->cut)
		return err_set(e, ERR_REQUEST, 0,
			"the request was broken off after %lld bytes of body", (long long)q->got);
	if (q->http.content_length >= 0 && q->got < q->http.content_length)
		return err_set(e, ERR_REQUEST, 0, "the body ended after %lld of %lld bytes",
			(long long)q->got, (long long)q->http.content_length);
	return 0;
}

static int body_check(struct request *q, int64_t total, struct err *e)
{
	if (total > q->http.body_max) {
		body_end(q);
		return err_set(e, ERR_LIMIT, 0, "the body is larger than %lld bytes",
			(long long)q->http.body_max);
	}
	if (q->http.content_length >= 0 && q->got > q->http.content_length) {
		body_end(q);
		return err_set(e, ERR_REQUEST, 0,
			"the body is longer than its CONTENT_LENGTH of %lld",
			(long long)q->http.content_length);
	}
	return 0;
}

/* Goes on to the next piece of the body: 1 there is one, 0 the body is complete, -1 it is cut. */
static int body_next(struct request *q, struct err *e)
{
	while (q->left == 0) {
		uint8_t header[REC_HEADER];
		enum gate_verdict v;
		struct record r;

		if (skip(q->fd, q->padding, e) < 0 ||
			read_exactly(q->fd, header, sizeof header, e) < 0)
			return -1;
		if (!record_decode(header, &r))
			return err_set(e, ERR_REQUEST, 0, "record version %u", header[0]);
		q->padding = r.padding;
		v = gate_body(&q->gate, &r);
		if (v == GATE_DONE)
			return 0;
		if (v == GATE_BODY)
			q->left = r.content;
		else if (v == GATE_ABORT) /* ended by the answer, as every request */
			return err_set(e, ERR_REQUEST, 0, "the web server gave the request up");
		else if (take_content(q->fd, &q->gate, v, &r, NULL, e) < 0)
			return -1;
	}
	return 1;
}

/* What is there of the current piece, at least a byte. */
static long body_take(struct request *q, void *to, size_t n)
{
	ssize_t k;

	n = n < q->left ? n : q->left;
	do
		k = recv(q->fd, to, n, 0);
	while (k < 0 && errno == EINTR);
	if (k > 0) {
		q->left -= (size_t)k;
		q->got += k;
	}
	return k;
}

static long body_read(struct http_request *http, void *to, size_t n, struct err *e)
{
	struct request *q = http->read_arg;
	long k;
	int rc;

	if (n == 0)
		return 0;
	if (q->body_ended)
		return body_finish(q, e);
	if (body_check(q, http->content_length, e) < 0)
		return -1;
	rc = body_next(q, e);
	k = rc > 0 ? body_take(q, to, n) : 0;
	if (k <= 0) {
		q->at_end = rc == 0;
		q->cut = rc != 0;
		return body_finish(q, e);
	}
	return body_check(q, q->got, e) < 0 ? -1 : k;
}

static void make_id(char id[static 17])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char r[8] = {0};

	/* Not a secret, so an early-boot failure may leave zeros. */
	if (getrandom(r, sizeof r, GRND_NONBLOCK) < 0)
		memset(r, 0, sizeof r);
	for (int i = 0; i < 8; i++) {
		id[2 * i] = hex[r[i] >> 4];
		id[2 * i + 1] = hex[r[i] & 15];
	}
	id[16] = '\0';
}

static int refuse(struct request *q, int status)
{
	q->status = status;
	return REQUEST_REFUSED;
}

/* Checks the strings that libfcgi made against what was counted in the bytes. */
static int fill_http(struct request *q, size_t pairs, struct err *e)
{
	size_t strings = 0;

	while (q->fcgi.envp[strings])
		strings++;
	if (strings != pairs + 1) /* libfcgi adds FCGI_ROLE */
		return err_set(e, ERR_BUG, 0, "%zu parameters became %zu", pairs, strings);
	if (params_take(&q->http, q->fcgi.envp, e) < 0)
		return -1;
	if (trace_id_ok(q->http.given_id))
		memcpy(q->id, q->http.given_id, strlen(q->http.given_id) + 1);
	q->http.request_id = q->id;
	q->http.conn = q->fd;
	q->http.read = body_read;
	q->http.read_arg = q;
	return 0;
}

enum request_fate request_receive(struct request *q, int fd, const struct conf *c,
	void (*on_body)(void *arg), void *arg, struct err *e)
{
	OWN_BUF params = BUF_INIT((size_t)c->params_max_bytes);
	static const struct request none;
	size_t pairs = 0;

	*q = none;
	q->fd = fd;
	q->gate = gate_new((size_t)c->params_max_bytes);
	q->http.body_max = c->body_max_bytes;
	q->on_body = on_body;
	q->arg = arg;
	make_id(q->id);
	if (pass_gate(fd, &q->gate, &params, e) < 0)
		return REQUEST_GONE;
	if (q->gate.over)
		buf_clear(&params);
	if (!q->gate.over && params_scan((const uint8_t *)params.p, params.len, &pairs, e) < 0) {
		buf_clear(&params);
		return open_fcgi(q, &params, NULL) < 0 ? REQUEST_GONE : refuse(q, 400);
	}
	if (open_fcgi(q, &params, e) < 0)
		return REQUEST_GONE;
	if (q->gate.over) {
		err_set(e, ERR_LIMIT, 0, "the parameters are larger than %zu bytes", q->gate.max);
		return refuse(q, 431);
	}
	return fill_http(q, pairs, e) < 0 ? refuse(q, 400) : REQUEST_OK;
}

/* Drops what arrives until the peer closes or the time is over. */
static void linger(int fd, int64_t ms)
{
	int64_t until = clock_ms() + ms, left;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char junk[16384];

	shutdown(fd, SHUT_WR);
	while ((left = until - clock_ms()) > 0 && poll(&p, 1, (int)left) == 1)
		if (recv(fd, junk, sizeof junk, MSG_DONTWAIT) <= 0)
			break;
}

void request_close(struct request *q, int linger_ms)
{
	char one;

	if (q->opened) {
		/* libfcgi would still write END_REQUEST, which makes half an answer look whole. */
		if (!q->replied)
			shutdown(q->fd, SHUT_RDWR);
		FCGX_FClose(q->fcgi.err);
		FCGX_FClose(q->fcgi.out);
		FCGX_Free(&q->fcgi, 0);
		q->opened = false;
		if (q->replied && (!q->at_end || recv(q->fd, &one, 1, MSG_PEEK | MSG_DONTWAIT) > 0))
			linger(q->fd, linger_ms);
	}
	/* Main holds a copy of the descriptor, so closing ours would not end the connection. */
	shutdown(q->fd, SHUT_RDWR);
}

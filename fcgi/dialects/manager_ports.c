/*
 * Published ports: a request below /sandboxes/{id}/ports/{port}/ becomes one to what listens there inside the
 * sandbox, and its answer, streamed, the answer. One connection a request; no port of this machine is opened.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/forward.h"
#include "fcgi/routes.h"
#include "fcgi/upload.h"
#include "fcgi/upstream.h"
#include "fcgi/url.h"
#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	CONNECT_MS = 10000,
	PART = 32768,
	REQUEST_HEAD_MAX = 256 << 10,
	ANSWER_HEADERS_MAX = 2 * UPSTREAM_HEAD_MAX + 4096,
	PREFIX_MAX = 1024,
	MARK_MAX = 32
};

/* One request on its way, and its answer on the way back. */
struct passing {
	const struct conf *conf;
	struct live_connection with;
	int conn;         /* the client's */
	int64_t until_ms; /* monotonic */
	struct forward f;
	char prefix[PREFIX_MAX], mark[MARK_MAX];
	struct buf head; /* what was read up to the end of the answer's head, and behind it */
	struct upstream_head h;
	struct upstream_body body;
	struct buf headers;
	size_t read;   /* of head: its own bytes */
	size_t behind; /* of head: where the body goes on */
	char part[PART];
	/* What the port answered while it was still being sent the request: in a file, read before the port. */
	int early;
	int64_t early_bytes, early_read;
	bool early_end; /* and it will answer no more */
	bool reset;     /* by a reset, which the kernel tells once */
};

static void passing_free(void *arg)
{
	struct passing *p = arg;

	own_close(&p->with.fd);
	own_close(&p->with.keeper);
	own_close(&p->early);
	buf_clear(&p->head);
	buf_clear(&p->headers);
	free(p);
}

/* --- waiting --- */

/* Until fd is ready for one of `events`, which it returns, as long as one silence may last. -1: e says which end came. */
static int await(const struct passing *p, short events, struct err *e)
{
	struct pollfd w[2] = {{.fd = p->with.fd, .events = events}, {.fd = p->conn}};
	int64_t now = clock_ms(), until = now + p->conf->manager_port_silence_s * 1000;
	int got;

	if (until > p->until_ms)
		until = p->until_ms;
	do {
		got = until > now ? poll(w, 2, (int)(until - now)) : 0;
		now = clock_ms();
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set(e, ERR_SETUP, errno, "wait for a port");
	if (w[1].revents & (POLLHUP | POLLERR))
		return err_set(e, ERR_BUG, EPIPE, "the client is gone");
	return got > 0 ? w[0].revents : err_set(e, ERR_LIMIT, ETIMEDOUT, "the port takes too long");
}

/* Bytes, 0 at the end; at most n. */
static ssize_t receive(struct passing *p, void *to, size_t n, struct err *e)
{
	if (p->early_read < p->early_bytes) {
		ssize_t k = pread(p->early, to, n, p->early_read);

		if (k <= 0)
			return err_set(e, ERR_SETUP, errno, "read the beginning of an answer");
		p->early_read += k;
		return k;
	}
	for (;;) {
		ssize_t k;

		if (clock_ms() >= p->until_ms) /* also of one that never pauses */
			return err_set(e, ERR_LIMIT, ETIMEDOUT, "the port takes too long");
		k = recv(p->with.fd, to, n, MSG_DONTWAIT);
		if (k > 0 || (k == 0 && !p->reset))
			return k;
		if (k == 0 || errno == ECONNRESET)
			return err_set(e, ERR_REQUEST, ECONNRESET, "the port broke off");
		if (errno != EAGAIN && errno != EINTR)
			return err_set(e, ERR_REQUEST, errno, "read from a port");
		if (await(p, POLLIN, e) < 0)
			return -1;
	}
}

/* Keeps n bytes of the answer until the request has been sent. */
static int keep(struct passing *p, const char *from, size_t n, struct err *e)
{
	if (p->early < 0 && (p->early = body_spool(p->conf, e)) < 0)
		return -1;
	if (p->early_bytes + (int64_t)n > p->conf->upload_max_bytes)
		return err_set(e, ERR_REQUEST, EFBIG,
			"the port answers too much before it has read the request "
			"(upload_max_bytes)");
	while (n > 0) {
		ssize_t k = pwrite(p->early, from, n, p->early_bytes);

		if (k <= 0)
			return err_set(e, ERR_SETUP, errno, "keep the beginning of an answer");
		p->early_bytes += k;
		from += k;
		n -= (size_t)k;
	}
	return 0;
}

/*
 * A server that answers while it reads stops reading when nobody takes its answer. The client may get
 * none of that yet: a web server need not read from us while it writes to us.
 */
static int take_early(struct passing *p, struct err *e)
{
	char some[PART];
	ssize_t k = recv(p->with.fd, some, sizeof some, MSG_DONTWAIT);

	if (k > 0)
		return keep(p, some, (size_t)k, e);
	if (k == 0 || (errno != EAGAIN && errno != EINTR)) {
		p->early_end = true;
		p->reset = k < 0;
	}
	return 0;
}

/* Until the port takes more, with what it says meanwhile kept. */
static int await_room(struct passing *p, struct err *e)
{
	for (;;) {
		int is = await(p, p->early_end ? POLLOUT : POLLIN | POLLOUT, e);

		if (is < 0 || (is & POLLIN && !p->early_end && take_early(p, e) < 0))
			return -1;
		if (is & (POLLOUT | POLLHUP | POLLERR))
			return 0;
	}
}

/* 0; 1: the other end takes no more, and may have answered. */
static int transmit(struct passing *p, const char *from, size_t n, struct err *e)
{
	while (n > 0) {
		ssize_t k = send(p->with.fd, from, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (k >= 0) {
			from += k;
			n -= (size_t)k;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			p->reset |= errno == ECONNRESET;
			return 1;
		} else if (errno != EAGAIN && errno != EINTR) {
			return err_set(e, ERR_REQUEST, errno, "write to a port");
		} else if (await_room(p, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* --- out --- */

/* The body as it arrives, or from the file where it waits. */
static int send_body(
	struct dialect_call *c, struct passing *p, const struct upload *u, struct err *e)
{
	int64_t done = 0;
	int ret = 0;

	while (done < p->f.length && ret == 0) {
		long n = u->fd >= 0 ? (long)pread(u->fd, p->part, PART, done)
				    : c->rq->read(c->rq, p->part, PART, e);

		if (n <= 0)
			return n < 0 && u->fd < 0 ? -1
						  : err_set(e, ERR_SETUP, errno, "read a body");
		done += n;
		ret = transmit(p, p->part, (size_t)n, e);
	}
	return ret;
}

static int send_request(
	struct dialect_call *c, struct passing *p, const struct upload *u, struct err *e)
{
	OWN_BUF head = BUF_INIT(REQUEST_HEAD_MAX);
	int ret;

	if (!forward_request(&p->f, &head))
		return err_set(e, ERR_REQUEST, 0, "the request cannot be passed on");
	ret = transmit(p, head.p, head.len, e);
	if (ret == 0)
		ret = send_body(c, p, u, e);
	return ret < 0 ? -1 : 0;
}

/* --- and back --- */

static void take_header(
	void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
	struct passing *p = arg;

	forward_header(&p->f, p->h.status, name, name_len, value, value_len, &p->headers);
}

/* Reads on until the head is whole. */
static int read_head(struct passing *p, struct err *e)
{
	for (;;) {
		long size = upstream_head_size(p->head.p + p->read, p->head.len - p->read);
		char *to;
		ssize_t n;

		if (size > 0) {
			p->behind = p->read + (size_t)size;
			return 0;
		}
		if (size < 0)
			return err_set(e, ERR_REQUEST, 0, "the port's headers are too large");
		to = buf_room(&p->head, PART);
		n = to ? receive(p, to, PART, e) : err_set(e, ERR_SETUP, ENOMEM, "read an answer");
		if (n < 0)
			return -1;
		if (n == 0)
			return err_set(e, ERR_REQUEST, 0, "the port ended without an answer");
		p->head.len += (size_t)n;
	}
}

/* The answer that counts: those before it (RFC 9110, 15.2) say only that it will come. */
static int read_answer(struct passing *p, struct err *e)
{
	for (int i = 0; i < 8; i++) {
		const char *from;

		if (read_head(p, e) < 0)
			return -1;
		from = p->head.p + p->read;
		if (upstream_head_parse(from, p->behind - p->read, &p->h, NULL, NULL, e) < 0)
			return -1;
		if (p->h.status == 101)
			break;
		if (p->h.status >= 200)
			return upstream_head_parse(
				from, p->behind - p->read, &p->h, take_header, p, e);
		p->read = p->behind;
	}
	return err_set(e, ERR_REQUEST, 0, "the port switches to another protocol");
}

/* The next piece of the body. */
static int next(struct http_response *rs, struct buf *out)
{
	struct passing *p = rs->more_arg;
	struct err e = {0};
	const char *from = p->part;
	ssize_t n;

	if (p->body.done)
		return 0;
	if (p->behind < p->head.len) {
		from = p->head.p + p->behind;
		n = (ssize_t)(p->head.len - p->behind);
		p->behind = p->head.len;
	} else {
		n = receive(p, p->part, PART, &e);
	}
	if (n > 0 && upstream_body_feed(&p->body, from, (size_t)n, out, &e) == 0)
		return !p->body.done;
	if (n == 0 && upstream_body_may_end(&p->body))
		return 0;
	log_err(LOG_INFO, &e, "an answer of port %u breaks off", p->f.port);
	return -1;
}

static void answer(struct dialect_call *c, struct passing *p)
{
	struct http_response *rs = c->rs;

	upstream_body_init(&p->body, &p->h, c->rq->method == HTTP_HEAD);
	forward_guard(&p->f, &p->headers);
	if (p->h.length >= 0 && p->h.status != 204 && p->h.status != 304)
		buf_addf(&p->headers, "Content-Length: %lld\r\n", (long long)p->h.length);
	if (!buf_ok(&p->headers)) {
		dialect_detail(c, 502, "the port's headers are too large");
		passing_free(p);
		return;
	}
	buf_clear(&rs->headers);
	rs->headers = p->headers;
	p->headers = BUF_INIT(0);
	rs->status = p->h.status;
	rs->content_type = NULL;
	rs->more = next;
	rs->more_arg = p;
	rs->more_end = passing_free;
	rs->foreign = true;
}

static void refuse(struct dialect_call *c, const struct err *e)
{
	log_err(LOG_INFO, e, "request %s: a port", c->rq->request_id);
	buf_clear(&c->rs->body);
	if (e->kind == ERR_LIMIT && e->errnum == ETIMEDOUT)
		dialect_detail(c, 504, e->msg);
	else if (e->kind == ERR_LIMIT)
		dialect_detail(c, 413, e->msg);
	else if (e->kind == ERR_REQUEST)
		dialect_detail(c, 502, e->msg);
	else
		manager_fail(c, e, "pass a request on");
}

/* --- the request --- */

/* The port of ".../ports/8080/rest", and where that lies in the URI as it was sent. -1: not one. */
static int take_target(struct dialect_call *c, struct passing *p)
{
	const char *uri = c->rq->uri, *path = strstr(uri, "/sandboxes/"), *port, *end;
	char *digits_end;
	unsigned long n;

	if (!path || !(port = strstr(path, "/ports/")))
		return -1;
	port += strlen("/ports/");
	if ((size_t)(port - uri) > url_path_length(uri)) /* in the query */
		return -1;
	n = strtoul(port, &digits_end, 10);
	end = digits_end;
	if (*port < '1' || *port > '9' || n > UINT16_MAX || (*end && *end != '/' && *end != '?'))
		return -1;
	if (*uri != '/') { /* "http://host/path" */
		uri = strstr(uri, "://");
		uri = uri ? strchr(uri + 3, '/') : NULL;
	}
	if (!uri || uri > path || end - uri >= PREFIX_MAX)
		return -1;
	snprintf(p->prefix, sizeof p->prefix, "%.*s", (int)(end - uri), uri);
	p->f.port = (unsigned)n;
	p->f.prefix = p->prefix;
	p->f.target = end;
	return 0;
}

static bool published(const struct manager_box *b, unsigned port)
{
	struct json_object *urls = NULL, *url;
	char name[16];

	snprintf(name, sizeof name, "%u", port);
	json_object_object_get_ex(b->shown, "urls", &urls);
	return json_object_object_get_ex(urls, name, &url);
}

/* Whether the request may be passed on at all. */
static int check(struct dialect_call *c, struct passing *p)
{
	OWN_MANAGER_BOX b = {.record = NULL};

	if (take_target(c, p) < 0)
		dialect_detail(c, 404, "Not Found");
	else if (manager_find_started(c, &b) < 0)
		return -1;
	else if (!published(&b, p->f.port))
		dialect_detail(c, 404, "This port is not published");
	else if (forward_upgrades(c->rq->params))
		dialect_detail(c, 422,
			"upgrades (websockets) are not passed on: only requests and answers are");
	else
		return 0;
	return -1;
}

static void fill(struct dialect_call *c, struct passing *p)
{
	p->conf = c->conf;
	p->conn = c->rq->conn;
	p->with = (struct live_connection){-1, -1};
	p->early = -1;
	p->until_ms = clock_ms() + c->conf->manager_port_time_s * 1000;
	p->head = BUF_INIT(2 * UPSTREAM_HEAD_MAX + 16 * PART);
	p->headers = BUF_INIT(ANSWER_HEADERS_MAX);
	snprintf(p->mark, sizeof p->mark, "sb%.8sp%u_", c->param, p->f.port);
	p->f.mark = p->mark;
	p->f.params = c->rq->params;
	p->f.method = routes_method(c->rq->method);
	p->f.keys[0] = c->conf->api_key;
	p->f.keys[1] = c->conf->metrics_key;
	p->f.page_rights = c->conf->manager_page_rights;
}

/* A body of unknown length is awaited whole: few servers inside take a chunked one. */
static int measure(struct dialect_call *c, struct passing *p, struct upload *u)
{
	if (c->rq->body_max < c->conf->upload_max_bytes)
		c->rq->body_max = c->conf->upload_max_bytes;
	if (c->rq->content_length < 0) {
		if (upload_body(c, false, u) < 0)
			return -1;
		p->f.length = u->bytes;
		return 0;
	}
	p->f.length = c->rq->content_length;
	if (p->f.length <= c->rq->body_max)
		return 0;
	dialect_detail(c, 413, "the body is too large (upload_max_bytes)");
	return -1;
}

static int pass(struct dialect_call *c, struct passing *p)
{
	OWN_UPLOAD u = {.fd = -1};
	struct err e = {0};

	if (check(c, p) < 0)
		return -1;
	fill(c, p);
	if (measure(c, p, &u) < 0)
		return -1;
	if (c->ops->live->connect(
		    c->backend, c->param, p->f.port, CONNECT_MS, c->rq->conn, &p->with, &e) == 0 &&
		send_request(c, p, &u, &e) == 0 && read_answer(p, &e) == 0)
		return 0;
	refuse(c, &e);
	return -1;
}

void manager_port(struct dialect_call *c)
{
	struct passing *p = calloc(1, sizeof *p);

	if (!p) {
		dialect_detail(c, 500, "Internal Server Error");
		body_drain(c->rq, NULL);
		return;
	}
	p->with = (struct live_connection){-1, -1};
	p->early = -1;
	if (pass(c, p) == 0)
		answer(c, p);
	else
		passing_free(p);
	body_drain(c->rq, NULL); /* a port may answer before it has read all */
}

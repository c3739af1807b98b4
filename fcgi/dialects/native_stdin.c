/* POST .../runs/{rid}/stdin: bytes as they are, or JSON. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "fcgi/base64.h"
#include "fcgi/dialects/native.h"
#include "fcgi/dialects/native_runs.h"
#include "fcgi/query.h"
#include "fcgi/schema.h"
#include "isolate/clock.h"
#include "isolate/own.h"

enum { STEP = 16384 };

int native_feed(
	const struct dialect_call *c, int fd, const char *p, size_t n, size_t *done, struct err *e)
{
	/* The connection, too, which is shut down when a body takes too long. The time is all there is, not
	 * begun anew: a command that takes a little now and then must not keep a worker. */
	struct pollfd f[2] = {{.fd = fd, .events = POLLOUT}, {.fd = c->rq->conn}};
	int64_t until = clock_ms() + c->conf->receive_timeout_ms;

	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w > 0) {
			p += w;
			n -= (size_t)w;
			*done += (size_t)w;
		} else if (w < 0 && errno == EAGAIN) {
			int64_t left = until - clock_ms();
			int ready = left > 0 ? poll(f, 2, (int)left) : 0;

			if (ready > 0 && f[1].revents & (POLLHUP | POLLERR))
				return err_set(e, ERR_NOTFOUND, EPIPE, "the client is gone");
			if (ready == 0)
				return err_set(e, ERR_NOTFOUND, EAGAIN,
					"the command does not read its input");
		} else if (errno != EINTR) {
			return err_set(e, ERR_NOTFOUND, errno, "the input is closed");
		}
	}
	return 0;
}

static void answer(struct dialect_call *c, size_t done, const struct err *e)
{
	struct buf *b = &c->rs->body;

	buf_clear(b);
	if (e->kind == ERR_NONE)
		buf_addf(b, "{\"written\":%zu}", done);
	else /* our own words */
		buf_addf(b, "{\"detail\":\"%s\",\"written\":%zu}", e->msg, done);
	dialect_status(c, e->kind == ERR_NONE ? 200 : 409);
}

/* A terminal has no end of input but the character for it. */
static void end_input(const struct dialect_call *c, struct run_view *v, int fd, struct err *e)
{
	size_t ignored = 0;

	if (c->ops->live->input_end(v, e) == 0 && isatty(fd))
		native_feed(c, fd, "\x04", 1, &ignored, e);
}

static void feed_raw(struct dialect_call *c, struct run_view *v, int fd)
{
	bool eof = false;
	size_t done = 0;
	struct err e = {0};
	char step[STEP];
	long n = 1;

	if (native_flag(c, "eof", &eof) < 0)
		return;
	while (n > 0) {
		n = c->rq->read(c->rq, step, sizeof step, &e);
		if (n < 0) {
			dialect_detail(c, e.kind == ERR_LIMIT ? 413 : 400, e.msg);
			return;
		}
		if (n > 0 && native_feed(c, fd, step, (size_t)n, &done, &e) < 0)
			break;
	}
	if (e.kind != ERR_NONE)
		body_drain(c->rq, NULL);
	else if (eof)
		end_input(c, v, fd, &e);
	answer(c, done, &e);
}

enum { F_DATA, F_EOF, F_MAX };

static const struct schema_field fields[F_MAX] = {
	[F_DATA] = {"data", SCHEMA_STRING, false, true, NULL, NULL},
	[F_EOF] = {"eof", SCHEMA_BOOL, false, true, NULL, NULL},
};

static void feed_json(struct dialect_call *c, struct run_view *v, int fd)
{
	struct schema_value val[F_MAX];
	struct err e = {0};
	size_t done = 0;

	if (schema_check(fields, F_MAX, c->body->doc, val, NULL, &c->rs->body) > 0) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	if (!val[F_DATA].given ||
		native_feed(c, fd, json_object_get_string(val[F_DATA].json),
			(size_t)json_object_get_string_len(val[F_DATA].json), &done, &e) == 0)
		if (val[F_EOF].b)
			end_input(c, v, fd, &e);
	answer(c, done, &e);
}

static void feed(struct dialect_call *c, struct run_view *v, bool json)
{
	struct err e = {0};
	OWN_FD fd = c->ops->live->input(v, &e);

	if (fd < 0 && !json)
		body_drain(c->rq, NULL);
	if (fd < 0 && e.kind == ERR_NOTFOUND)
		answer(c, 0, &e);
	else if (fd < 0)
		native_run_fail(c, &e, "write to a run");
	else if (json)
		feed_json(c, v, fd);
	else
		feed_raw(c, v, fd);
}

void native_stdin(struct dialect_call *c)
{
	bool json = c->rq->content_type && body_type_is_json(c->rq->content_type);
	struct body_plan plan = {.keep = true};
	struct run_view v;
	struct err e = {0};

	if (json && body_read(c->body, c->rq, c->conf, &plan, c->rs, &e) < 0)
		return;
	if (json && c->body->form != BODY_OBJECT) {
		dialect_detail(c, 422, "a JSON body is an object with data and eof");
		return;
	}
	if (native_open_run(c, FOLLOW_NOT, &v) < 0) {
		if (!json)
			body_drain(c->rq, NULL);
		return;
	}
	feed(c, &v, json);
	c->ops->live->close(&v);
}

#include "fcgi/dialect.h"

#include <errno.h>
#include <stdio.h>

#include "fcgi/json_out.h"
#include "isolate/log.h"

enum { RETRY_RESTART_S = 1, RETRY_FULL_S = 5 };

void dialect_status(struct dialect_call *c, int status)
{
	c->rs->status = status;
	c->rs->content_type = "application/json";
}

void dialect_detail(struct dialect_call *c, int status, const char *text)
{
	buf_clear(&c->rs->body);
	json_out_detail(&c->rs->body, text);
	dialect_status(c, status);
}

void dialect_header(struct dialect_call *c, const char *name, const char *value)
{
	c->rs->headers.max = HTTP_HEADERS_MAX;
	http_put_header(&c->rs->headers, name, value);
}

void dialect_stream(struct dialect_call *c, int status, const char *content_type, int fd, int64_t n)
{
	buf_clear(&c->rs->body);
	c->rs->status = status;
	c->rs->content_type = content_type;
	c->rs->raw = true;
	c->rs->stream = fd;
	c->rs->stream_bytes = n;
}

void dialect_no_content(struct dialect_call *c)
{
	buf_clear(&c->rs->body);
	c->rs->status = 204;
	c->rs->content_type = NULL;
}

static void fail_internally(struct dialect_call *c)
{
	char text[128];

	snprintf(text, sizeof text, "Internal Server Error; the log has the details of request %s",
		c->rq->request_id);
	dialect_detail(c, 500, text);
}

void dialect_fail(struct dialect_call *c, const struct err *e, const char *doing)
{
	bool ours = e->kind != ERR_REQUEST && e->kind != ERR_NOTFOUND && e->kind != ERR_LIMIT;
	bool restart = e->errnum == ECONNREFUSED || e->errnum == EPIPE || e->errnum == ECONNRESET;

	log_err(!ours                 ? LOG_INFO
		: e->kind == ERR_BUSY ? LOG_WARN
				      : LOG_ERROR,
		e, "request %s: %s", c->rq->request_id, doing);
	switch (e->kind) {
	case ERR_BUSY:
		dialect_detail(c, 503,
			e->errnum == EHOSTDOWN
				? "The container engine does not answer, try again later"
				: "Service is busy, try again later");
		c->rs->retry_after_s = restart ? RETRY_RESTART_S : RETRY_FULL_S;
		return;
	case ERR_LIMIT:
		dialect_detail(c, 413, e->msg);
		return;
	case ERR_REQUEST:
		dialect_detail(c, 422, e->msg);
		return;
	case ERR_NOTFOUND:
		dialect_detail(c, 404, "Not Found");
		return;
	default:
		fail_internally(c);
	}
}

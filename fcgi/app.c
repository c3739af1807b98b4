/*
 * The application of one worker: which route, which key, which body, then the dialect. The order
 * of the checks is the original's and clients see it: path and method, JSON syntax (even without
 * a key), key, schema, session.
 */
#include "fcgi/http.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fcgi/backend.h"
#include "fcgi/body.h"
#include "fcgi/dialect.h"
#include "fcgi/engine.h"
#include "fcgi/json_out.h"
#include "fcgi/routes.h"
#include "fcgi/schema.h"
#include "fcgi/trace.h"
#include "fcgi/url.h"
#include "isolate/clock.h"
#include "isolate/conf.h"
#include "isolate/log.h"
#include "isolate/own.h"

/* A list of 422 problems: each echoes its input once or twice, escaped sixfold at worst. */
enum { BODY_MAX = 16 << 20 };

struct app {
	const struct conf *conf;
	const struct backend_ops *ops;
	struct backend *backend;
};

/*
 * json-c seeds the hash of its objects at the first one, from a device or a system call that a
 * worker which has locked itself down may not use.
 */
static void warm_up_json(void)
{
	json_object_put(json_tokener_parse("{\"a\":1}"));
}

struct app *app_new(const struct conf *c, struct err *e)
{
	struct app *a;

	if (!*c->api_key) {
		err_set(e, ERR_CONF, 0, "api_key or api_key_file must be set");
		return NULL;
	}
	a = calloc(1, sizeof *a);
	if (!a) {
		err_set(e, ERR_SETUP, 0, "memory for the application");
		return NULL;
	}
	warm_up_json();
	a->conf = c;
	a->ops = c->backend != BACKEND_DOCKER ? &backend_isolate
		 : engine_streamed(c)         ? &backend_docker_stream
					      : &backend_docker;
	a->backend = a->ops->new (c, e);
	if (!a->backend) {
		free(a);
		return NULL;
	}
	return a;
}

void app_free(struct app *a)
{
	if (!a)
		return;
	a->ops->free(a->backend);
	free(a);
}

/*
 * Compares in a time that depends on the length of what was given alone: neither how much of it
 * is right nor how long the key is can be measured.
 */
static bool key_equal(const char *given, const char *key)
{
	size_t n = strlen(given), have = strlen(key);
	volatile unsigned char diff = n != have;

	for (size_t i = 0; i < n; i++)
		diff |= (unsigned char)(given[i] ^ key[have ? i % have : 0]);
	return diff == 0;
}

static bool is_loopback(const char *addr)
{
	return addr && (!strncmp(addr, "127.", 4) || !strcmp(addr, "::1") ||
			       !strncmp(addr, "::ffff:127.", 11));
}

/* Prometheus cannot send a header of its own choice before version 3, but "Authorization: Bearer". */
static const char *metrics_fault(const struct conf *c, const struct http_request *rq)
{
	const char *given = rq->api_key && *rq->api_key ? rq->api_key : NULL;
	bool good;

	if (!given && rq->authorization && !strncasecmp(rq->authorization, "Bearer ", 7))
		given = rq->authorization + 7;
	if (!given && c->metrics_loopback == LOOPBACK_ALLOW && !rq->forwarded &&
		is_loopback(rq->remote_addr))
		return NULL;
	if (!given)
		return "API Key header is missing";
	good = key_equal(given, c->api_key);
	good |= *c->metrics_key && key_equal(given, c->metrics_key);
	return good ? NULL : "Invalid API Key";
}

/*
 * What a browser says for a page without an origin, as those of published ports are (Fetch, 3.2): where no
 * key is asked for, a tenant's page that somebody looks at could work in the sandboxes of others.
 */
static bool of_no_origin(const struct http_request *rq)
{
	for (char *const *p = rq->params; p && *p; p++)
		if (!strcmp(*p, "HTTP_ORIGIN=null"))
			return true;
	return false;
}

/* NULL when the request may pass, else what is said to it. */
static const char *key_fault(
	const struct app *a, const struct route *r, const struct http_request *rq)
{
	if (r->flags & ROUTE_OPEN)
		return NULL;
	if (routes_open(a->conf, r))
		return of_no_origin(rq) && !(r->flags & ROUTE_PAGES)
			       ? "Pages without an origin are not served here"
			       : NULL;
	if (r->flags & ROUTE_METRICS)
		return metrics_fault(a->conf, rq);
	if (!rq->api_key || !*rq->api_key)
		return "API Key header is missing";
	return key_equal(rq->api_key, a->conf->api_key) ? NULL : "Invalid API Key";
}

/* Answers what has no route. The body is read first: the client is still sending it. */
static void answer_none(struct dialect_call *c, int status, const char *text, const char *allow)
{
	body_drain(c->rq, NULL);
	dialect_detail(c, status, text);
	c->rs->allow = allow;
}

/* A body that is no object: one problem, about the whole. */
static void answer_form(struct dialect_call *c)
{
	struct body *b = c->body;

	if (b->form == BODY_EMPTY)
		schema_body_missing(&c->rs->body);
	else if (b->form == BODY_TEXT)
		schema_body_wrong_type(&c->rs->body, b->text, b->text_len, b->text_cut);
	else
		schema_body_no_object(&c->rs->body, b->doc);
	dialect_status(c, 422);
}

static void answer_json(struct app *a, const struct route *r, struct dialect_call *c)
{
	const char *fault = key_fault(a, r, c->rq);
	struct body_plan plan = {!fault, r->flags & ROUTE_ARCHIVE};
	struct err e = {0};

	if (body_read(c->body, c->rq, a->conf, &plan, c->rs, &e) < 0)
		log_err(c->rs->status == 500 ? LOG_ERROR : LOG_INFO, &e, "request %s: body",
			c->rq->request_id);
	else if (fault)
		dialect_detail(c, 403, fault);
	else if (c->body->form != BODY_OBJECT &&
		 !(c->body->form == BODY_EMPTY && (r->flags & ROUTE_EMPTY)))
		answer_form(c);
	else
		r->handle(c);
}

static void answer_bare(struct app *a, const struct route *r, struct dialect_call *c)
{
	const char *fault = key_fault(a, r, c->rq);
	struct err e = {0};

	if (body_drain(c->rq, &e) < 0)
		dialect_detail(c, e.kind == ERR_LIMIT ? 413 : 400, e.msg);
	else if (fault)
		dialect_detail(c, 403, fault);
	else
		r->handle(c);
}

static void answer_raw(struct app *a, const struct route *r, struct dialect_call *c)
{
	const char *fault = key_fault(a, r, c->rq);

	if (fault)
		answer_none(c, 403, fault, NULL);
	else
		r->handle(c);
}

/* The log knows a session by its id, other parameters of a path not at all. */
static void note_route(struct dialect_call *c, const struct route *r)
{
	trace_route(c->rq->trace, c->rq->method, routes_number(r));
	if (r && !strncmp(r->path, "session/", 8))
		trace_session(c->rq->trace, c->param);
}

/* A browser asks before it sends a request of a page of another origin. */
static void answer_shared(struct dialect_call *c)
{
	body_drain(c->rq, NULL);
	dialect_no_content(c);
	dialect_header(c, "Access-Control-Allow-Origin", "*");
	dialect_header(c, "Access-Control-Allow-Methods", "DELETE, GET, POST, PUT");
	dialect_header(c, "Access-Control-Allow-Headers", "*");
	dialect_header(c, "Access-Control-Max-Age", "600");
}

static void answer(struct app *a, struct dialect_call *c)
{
	const struct route *r;
	const char *allow, *params[ROUTE_PARAMS];
	struct url url = {.nsegments = 0};
	int64_t begun = clock_us();
	struct err e;

	if (url_parse(c->rq->uri, &url, &e) < 0) {
		if (e.kind == ERR_NOTFOUND)
			answer_none(c, 404, "Not Found", NULL);
		else
			answer_none(c, 400, "Bad Request", NULL);
		return;
	}
	r = routes_find(a->conf, &url, c->rq->method, params, &allow);
	c->param = params[0];
	c->param2 = params[1];
	note_route(c, r);
	if (!r && c->rq->method == HTTP_OPTIONS && routes_shared(a->conf, &url))
		answer_shared(c);
	else if (!r)
		answer_none(
			c, allow ? 405 : 404, allow ? "Method Not Allowed" : "Not Found", allow);
	else if (r->flags & ROUTE_JSON)
		answer_json(a, r, c);
	else if (r->flags & ROUTE_RAW)
		answer_raw(a, r, c);
	else
		answer_bare(a, r, c);
	routes_finish(a->conf, r, c, clock_us() - begun);
}

int app_handle(struct app *a, struct http_request *rq, struct http_response *rs)
{
	struct body body = {.archive_fd = -1};
	struct dialect_call c = {a->conf, a->ops, a->backend, rq, rs, NULL, NULL, &body};

	rs->body.max = BODY_MAX;
	trace_route(rq->trace, rq->method, ROUTES_NONE);
	answer(a, &c);
	body_clear(&body);
	if (!buf_ok(&rs->body)) {
		log_line(LOG_ERROR, "request %s: no memory for the response", rq->request_id);
		dialect_detail(&c, 500, "Internal Server Error");
	}
	return 0;
}

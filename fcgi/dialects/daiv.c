#include "fcgi/dialects/daiv.h"

#include <errno.h>

#include "fcgi/json_out.h"
#include "fcgi/trace.h"
#include "isolate/log.h"
#include "isolate/own.h"

static void health(struct dialect_call *c)
{
	struct err e = {0};

	if (c->ops->health(c->backend, &e) < 0) {
		log_err(LOG_WARN, &e, "request %s: health", c->rq->request_id);
		dialect_detail(c, 503, "Sandbox backend is not responding");
		return;
	}
	buf_adds(&c->rs->body, "{\"status\":\"ok\"}");
	dialect_status(c, 200);
}

static void version(struct dialect_call *c)
{
	buf_adds(&c->rs->body, "{\"version\":\"v" VERSION "\"}");
	dialect_status(c, 200);
}

static void create_failed(struct dialect_call *c, const struct err *e)
{
	switch (e->kind) {
	case ERR_NOTFOUND:
		daiv_refuse_create(c, e, "image_not_found", "base_image");
		return;
	case ERR_LIMIT:
		daiv_refuse_create(c, e, "unenforceable_limit", NULL);
		return;
	case ERR_REQUEST:
		daiv_refuse_create(c, e, "value_error", NULL);
		return;
	default:
		dialect_fail(c, e, "create a session");
	}
}

static void put_limits(struct buf *b, const char *name, unsigned set)
{
	bool memory = set & UNENFORCED_MEMORY, cpus = set & UNENFORCED_CPUS;

	if (memory || cpus)
		buf_addf(b, ",\"%s\":[%s%s%s]", name, memory ? "\"memory_bytes\"" : "",
			memory && cpus ? "," : "", cpus ? "\"cpus\"" : "");
}

/* "unenforced" is there only when the operator chose to report instead of to refuse. */
static void answer_created(struct dialect_call *c, const struct session_made *made)
{
	struct buf *b = &c->rs->body;

	trace_session(c->rq->trace, made->id);
	buf_addf(b, "{\"session_id\":\"%s\"", made->id);
	put_limits(b, "unenforced", made->unenforced);
	put_limits(b, "approximate", made->approximate);
	buf_addc(b, '}');
	dialect_status(c, 200);
}

static void create(struct dialect_call *c)
{
	struct session_made made = {0};
	struct daiv_create r;
	struct err e = {0};

	if (daiv_check_create(c, &r) == 0) {
		if (c->ops->create(c->backend, &r.spec, &made, &e) < 0)
			create_failed(c, &e);
		else
			answer_created(c, &made);
	}
	daiv_create_clear(&r);
}

/* 204 whatever the id was: the session is not there afterwards. */
static void destroy(struct dialect_call *c)
{
	struct err e = {0};

	if (!daiv_id_valid(c->param) || c->ops->destroy(c->backend, c->param, &e) == 0 ||
		e.kind == ERR_NOTFOUND)
		dialect_no_content(c);
	else if (e.kind == ERR_BUSY && e.errnum == EWOULDBLOCK)
		dialect_detail(c, 409, "Session is busy");
	else
		dialect_fail(c, &e, "delete a session");
}

const struct route daiv_routes[] = {
	{HTTP_POST, "session", ROUTE_JSON, create},
	{HTTP_POST, "session/*", ROUTE_JSON | ROUTE_ARCHIVE, daiv_run},
	{HTTP_DELETE, "session/*", 0, destroy},
	{HTTP_GET, "-/health", ROUTE_OPEN, health},
	{HTTP_GET, "-/version", ROUTE_OPEN, version},
	/* Names of the first releases; without the slash they are other services' paths. */
	{HTTP_GET, "health", ROUTE_OPEN | ROUTE_SLASH, health},
	{HTTP_GET, "version", ROUTE_OPEN | ROUTE_SLASH, version},
};
const size_t daiv_nroutes = NELEM(daiv_routes);

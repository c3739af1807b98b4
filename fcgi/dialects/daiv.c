#include "fcgi/dialects/daiv.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "fcgi/dialects/daiv_fs.h"
#include "fcgi/json_out.h"
#include "fcgi/trace.h"
#include "fcgi/query.h"
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
		if (r.egress)
			dialect_detail(c, 400,
				"egress requires the egress proxy, which is not configured on this "
				"deployment");
		else if (c->ops->create(c->backend, &r.spec, &made, &e) < 0)
			create_failed(c, &e);
		else
			answer_created(c, &made);
	}
	daiv_create_clear(&r);
}

/* Ends what runs in the session and keeps its files. A verb on them takes the session's lock. */
static void rest(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_STAT);

	files_call_text(&f, "/");
	f.o.flags = FILES_AT_REST;
	if (!daiv_id_valid(c->param) || files_call(c, &f) == 0 || c->rs->status == 404)
		dialect_no_content(c);
}

/* Whether the session is there. */
static void look(struct dialect_call *c)
{
	struct err e = {0};

	if (daiv_id_valid(c->param) && c->ops->exists(c->backend, c->param, &e) == 0)
		dialect_no_content(c);
	else if (e.kind == ERR_NONE || e.kind == ERR_NOTFOUND)
		dialect_detail(c, 404, "Session not found or already closed");
	else
		dialect_fail(c, &e, "look for a session");
}

/* "force" as pydantic reads a flag; absent counts as true: clients that know none mean removal. -1: the
 * answer is complete. */
static int take_force(struct dialect_call *c)
{
	char text[64] = "";
	struct buf *b = &c->rs->body;
	bool force = true;
	int n;

	if (query_flag(c->rq->uri, "force", &force) >= 0)
		return force;
	n = query_get(c->rq->uri, "force", text, sizeof text);
	buf_adds(b, "{\"detail\":[{\"type\":\"bool_parsing\",\"loc\":[\"query\",\"force\"],"
		    "\"msg\":\"Input should be a valid boolean, unable to interpret input\","
		    "\"input\":");
	json_out_text(b, n < 0 ? "..." : text);
	buf_adds(b, "}]}");
	dialect_status(c, 422);
	return -1;
}

/* 204 whatever the id was: the session is not there afterwards, or with force=false, at rest. */
static void destroy(struct dialect_call *c)
{
	struct err e = {0};
	int force = take_force(c);

	if (force < 0)
		return;
	if (!force) {
		rest(c);
		return;
	}
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
	{HTTP_GET, "session/*", 0, look},
	{HTTP_POST, "session/*/seed", ROUTE_RAW, daiv_seed},
	{HTTP_POST, "session/*/files", ROUTE_JSON, daiv_files},
	{HTTP_PUT, "session/*/egress", ROUTE_JSON, daiv_egress},
	{HTTP_POST, "session/*/fs/ls", ROUTE_JSON, daiv_fs_ls},
	{HTTP_POST, "session/*/fs/read", ROUTE_JSON, daiv_fs_read},
	{HTTP_POST, "session/*/fs/grep", ROUTE_JSON, daiv_fs_grep},
	{HTTP_POST, "session/*/fs/glob", ROUTE_JSON, daiv_fs_glob},
	{HTTP_POST, "session/*/fs/write", ROUTE_JSON, daiv_fs_write},
	{HTTP_POST, "session/*/fs/edit", ROUTE_JSON, daiv_fs_edit},
	{HTTP_POST, "session/*/fs/delete", ROUTE_JSON, daiv_fs_delete},
	{HTTP_POST, "run/commands", ROUTE_JSON | ROUTE_ARCHIVE, daiv_run_commands},
	{HTTP_POST, "run/code", ROUTE_JSON, daiv_run_code},
	/* Names of the first releases; without the slash they are other services' paths. */
	{HTTP_GET, "health", ROUTE_OPEN | ROUTE_SLASH, health},
	{HTTP_GET, "version", ROUTE_OPEN | ROUTE_SLASH, version},
};
const size_t daiv_nroutes = NELEM(daiv_routes);

/* What supervisors and the tests of others ask for, whatever is switched off. */
const struct route daiv_health_routes[] = {
	{HTTP_GET, "-/health", ROUTE_OPEN, health},
	{HTTP_GET, "-/version", ROUTE_OPEN, version},
};
const size_t daiv_nhealth_routes = NELEM(daiv_health_routes);

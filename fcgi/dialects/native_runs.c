#include "fcgi/dialects/native_runs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/query.h"
#include "fcgi/schema.h"
#include "isolate/clock.h"
#include "isolate/own.h"

enum { WAIT_S = 30, WAIT_MAX_S = 3600 };

/* The ids in the path; run is "" in routes that have none. */
struct run_path {
	const char *session, *run;
};

static struct run_path path_of(const struct dialect_call *c)
{
	return (struct run_path){c->param, c->param2 ? c->param2 : ""};
}

void native_run_fail(struct dialect_call *c, const struct err *e, const char *doing)
{
	if (e->kind == ERR_NOTFOUND)
		dialect_detail(c, 404, *path_of(c).run ? "Run not found" : "Session not found");
	else if (e->kind == ERR_BUSY && e->errnum == EWOULDBLOCK)
		dialect_detail(c, 409, "Session is busy");
	else
		dialect_fail(c, e, doing);
}

int native_open_run(struct dialect_call *c, enum run_follow how, struct run_view *v)
{
	struct run_path p = path_of(c);
	struct err e = {0};

	if (!daiv_id_valid(p.session))
		err_set(&e, ERR_NOTFOUND, 0, "no session id");
	if (e.kind == ERR_NONE && c->ops->live->open(c->backend, p.session, p.run, how, v, &e) == 0)
		return 0;
	native_run_fail(c, &e, "open a run");
	return -1;
}

struct listing {
	struct buf *b;
	unsigned n;
};

static void add_run(void *arg, const struct run_listed *r)
{
	struct listing *l = arg;

	if (l->n++)
		buf_addc(l->b, ',');
	native_put_run(l->b, r->id, r->head, r->ended, r->about, r->about_bytes);
}

static void list(struct dialect_call *c)
{
	struct listing l = {.b = &c->rs->body};
	struct err e = {0};

	buf_adds(l.b, "{\"runs\":[");
	if (!daiv_id_valid(c->param))
		err_set(&e, ERR_NOTFOUND, 0, "no session id");
	if (e.kind != ERR_NONE || c->ops->live->runs(c->backend, c->param, add_run, &l, &e) < 0) {
		native_run_fail(c, &e, "list runs");
		return;
	}
	buf_adds(l.b, "]}");
	dialect_status(c, 200);
}

/* One of the list: a receipt is that, which has no output to be opened. */
struct wanted {
	const char *id;
	struct buf *b;
	bool found;
};

static void pick(void *arg, const struct run_listed *r)
{
	struct wanted *w = arg;

	if (w->found || strcmp(r->id, w->id))
		return;
	w->found = true;
	native_put_run(w->b, r->id, r->head, r->ended, r->about, r->about_bytes);
}

static bool put_receipt(struct dialect_call *c)
{
	struct run_path p = path_of(c);
	struct wanted w = {p.run, &c->rs->body, false};
	struct err e = {0};

	return c->ops->live->runs(c->backend, p.session, pick, &w, &e) == 0 && w.found;
}

static void show(struct dialect_call *c)
{
	struct run_path p = path_of(c);
	struct err e = {0};
	struct run_view v;

	if (!daiv_id_valid(p.session)) {
		err_set(&e, ERR_NOTFOUND, 0, "no session id");
	} else if (c->ops->live->open(c->backend, p.session, p.run, FOLLOW_NOT, &v, &e) == 0) {
		native_put_view(&c->rs->body, &v);
		c->ops->live->close(&v);
	} else if (e.kind == ERR_NOTFOUND && put_receipt(c)) {
		e.kind = ERR_NONE;
	}
	if (e.kind == ERR_NONE)
		dialect_status(c, 200);
	else
		native_run_fail(c, &e, "open a run");
}

static void forget(struct dialect_call *c)
{
	struct run_path p = path_of(c);
	struct err e = {0};

	if (!daiv_id_valid(p.session) || strlen(p.run) != RUN_ID_LEN ||
		strspn(p.run, "0123456789abcdef") != RUN_ID_LEN)
		err_set(&e, ERR_NOTFOUND, 0, "no such run");
	if (e.kind != ERR_NONE || c->ops->live->forget(c->backend, p.session, p.run, &e) < 0)
		native_run_fail(c, &e, "delete a run");
	else
		dialect_no_content(c);
}

/* The run as it is when it has ended, or when the time is over. */
static void await(struct dialect_call *c)
{
	uint64_t timeout_s = WAIT_S;
	struct run_view v;
	struct err e = {0}, why;
	struct result r;
	int got = 1;

	if (query_number(c->rq->uri, "timeout", &timeout_s) < 0 || timeout_s > WAIT_MAX_S) {
		dialect_detail(c, 422, "timeout: whole seconds, at most 3600");
		return;
	}
	if (native_open_run(c, FOLLOW_WAIT, &v) < 0)
		return;
	if (!spool_result(&v.spool, &r, &why))
		got = c->ops->live->wait(
			c->backend, &v, UINT64_MAX, (int)timeout_s * 1000, c->rq->conn, &e);
	if (got < 0) {
		native_run_fail(c, &e, "follow a run");
	} else {
		native_put_view(&c->rs->body, &v);
		dialect_status(c, 200);
	}
	c->ops->live->close(&v);
}

/* "TERM", "SIGTERM" or a number; 0: none. */
static int signal_of(struct json_object *o)
{
	const char *name;

	if (json_object_is_type(o, json_type_int)) {
		int64_t v = json_object_get_int64(o);

		return v >= 1 && v <= 64 ? (int)v : 0;
	}
	if (!json_object_is_type(o, json_type_string))
		return 0;
	name = json_object_get_string(o);
	if (!strncmp(name, "SIG", 3))
		name += 3;
	for (int sig = 1; sig < 32; sig++)
		if (sigabbrev_np(sig) && !strcmp(name, sigabbrev_np(sig)))
			return sig;
	return 0;
}

/* 204, or 409 for a run that has ended. */
static void told(struct dialect_call *c, int ret, const struct err *e, const char *doing)
{
	if (ret == 0)
		dialect_no_content(c);
	else if (e->kind == ERR_NOTFOUND)
		dialect_detail(c, 409, "The run has ended");
	else
		native_run_fail(c, e, doing);
}

static void send_signal(struct dialect_call *c)
{
	struct json_object *o = NULL;
	struct run_view v;
	struct err e = {0};
	int sig;

	json_object_object_get_ex(c->body->doc, "signal", &o);
	sig = signal_of(o);
	if (!sig) {
		dialect_detail(c, 422, "signal: a name such as TERM, or a number from 1 to 64");
		return;
	}
	if (native_open_run(c, FOLLOW_NOT, &v) < 0)
		return;
	told(c, c->ops->live->signal(&v, sig, &e), &e, "signal a run");
	c->ops->live->close(&v);
}

static void resize(struct dialect_call *c)
{
	static const struct schema_field fields[] = {{"rows", SCHEMA_INT, true, false, NULL, NULL},
		{"cols", SCHEMA_INT, true, false, NULL, NULL}};
	struct schema_value s[NELEM(fields)];
	struct run_view v;
	struct err e = {0};

	if (schema_check(fields, NELEM(fields), c->body->doc, s, NULL, &c->rs->body) > 0) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	if (s[0].i < 1 || s[0].i > 4096 || s[1].i < 1 || s[1].i > 4096) {
		dialect_detail(c, 422, "rows and cols are numbers from 1 to 4096");
		return;
	}
	if (native_open_run(c, FOLLOW_NOT, &v) < 0)
		return;
	told(c, c->ops->live->resize(&v, (uint32_t)s[0].i, (uint32_t)s[1].i, &e), &e, "resize");
	c->ops->live->close(&v);
}

const struct route native_run_routes[] = {
	{HTTP_GET, "session", 0, native_sessions},
	{HTTP_GET, "session/*/status", 0, native_status},
	{HTTP_POST, "session/*/stop", 0, native_stop},
	{HTTP_POST, "session/*/runs", ROUTE_JSON, native_start},
	{HTTP_GET, "session/*/runs", 0, list},
	{HTTP_GET, "session/*/runs/*", 0, show},
	{HTTP_DELETE, "session/*/runs/*", 0, forget},
	{HTTP_GET, "session/*/runs/*/output", 0, native_output},
	{HTTP_GET, "session/*/runs/*/wait", 0, await},
	{HTTP_POST, "session/*/runs/*/stdin", ROUTE_RAW, native_stdin},
	{HTTP_POST, "session/*/runs/*/signal", ROUTE_JSON, send_signal},
	{HTTP_POST, "session/*/runs/*/resize", ROUTE_JSON, resize},
};
const size_t native_nrun_routes = NELEM(native_run_routes);

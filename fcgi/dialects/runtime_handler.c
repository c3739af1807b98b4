/* POST v2/execute_code: handler(event) in a session of its own, which goes with the request. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fcgi/dialects/runtime.h"
#include "fcgi/handler.h"
#include "fcgi/json_member.h"
#include "fcgi/json_out.h"
#include "fcgi/schema.h"
#include "isolate/own.h"

enum {
	TIMEOUT_MAX_S = 3600,
	LEFT_IDLE_S = 60, /* of a session that its keeper's own death left */
	VALUE_MAX = 4 << 20,
};

enum { H_CODE, H_EVENT, H_CONTEXT, H_MAX };

static void check_object(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (!json_object_is_type(v->json, json_type_object))
		schema_problem(r, &(struct schema_fault){"dict_type", f->name, NULL, -1,
					  "Input should be a valid dictionary", v->json, NULL});
}

static const struct schema_field fields[H_MAX] = {
	[H_CODE] = {"handler_code", SCHEMA_STRING, true, false, NULL, NULL},
	[H_EVENT] = {"event", SCHEMA_ANY, false, false, check_object, NULL},
	[H_CONTEXT] = {"context", SCHEMA_ANY, false, true, check_object, NULL},
};

/* One call on its way. */
struct invocation {
	struct dialect_call *c;
	struct schema_value v[H_MAX];
	double timeout_s;
	struct handler h;
	struct rt_ran ran;
};

/* {"detail":{"error_code","description","error_detail","solution"}} */
static void refuse(struct dialect_call *c, int status, const char *code, const char *description,
	const char *why, const char *solution)
{
	struct buf *b = &c->rs->body;

	buf_clear(b);
	buf_addf(b, "{\"detail\":{\"error_code\":\"Sandbox.%s\",\"description\":\"%s\",", code,
		description);
	buf_adds(b, "\"error_detail\":");
	json_out_text(b, why);
	buf_addf(b, ",\"solution\":\"%s\"}}", solution);
	dialect_status(c, status);
}

static void timed_out(const struct invocation *x)
{
	char why[64];

	snprintf(why, sizeof why, "Execution timed out after %g seconds", x->timeout_s);
	refuse(x->c, 500, "ExecTimeout", "Handler execution timeout", why,
		"Make the handler faster, or ask for more time by __timeout in the event");
}

/* What is ours, not the handler's. */
static void failed(const struct invocation *x, const struct err *e)
{
	struct dialect_call *c = x->c;
	char why[sizeof e->msg];

	dialect_fail(c, e, "run a handler"); /* the log line, and Retry-After */
	snprintf(why, sizeof why, "%s", e->msg);
	if (e->kind == ERR_BUSY)
		refuse(c, 503, "NotInitialized", "No sandbox can be had now", why,
			"Try again later");
	else if (e->kind == ERR_REQUEST || e->kind == ERR_LIMIT)
		refuse(c, c->rs->status, "ExecException", "The request cannot be run", why,
			"Change the request");
	else
		refuse(c, 500, "ExecException", "Handler execution exception",
			"the log of the service has the details", "Tell whoever runs the service");
}

/* event.__timeout: seconds; none, or what is no time, is the usual. -1: the response is complete. */
static int take_timeout(struct invocation *x)
{
	const struct conf *f = x->c->conf;
	int64_t max = f->command_timeout_max_s < TIMEOUT_MAX_S ? f->command_timeout_max_s
							       : TIMEOUT_MAX_S;
	struct json_object *o = NULL;

	x->timeout_s = (double)f->kweaver_runtime_timeout_s;
	if (x->v[H_EVENT].given && json_object_object_get_ex(x->v[H_EVENT].json, "__timeout", &o)) {
		if (!json_object_is_type(o, json_type_int) &&
			!json_object_is_type(o, json_type_double)) {
			refuse(x->c, 422, "ExecException", "The request cannot be run",
				"event.__timeout must be a number of seconds",
				"Change the request");
			return -1;
		}
		if (json_object_get_double(o) > 0)
			x->timeout_s = json_object_get_double(o);
	}
	if (x->timeout_s > (double)max)
		x->timeout_s = (double)max;
	return 0;
}

/* As the client wrote it: json-c keeps no number that has more than 64 bits. */
static char *event_text(const struct invocation *x)
{
	const struct buf *text = &x->c->body->scan.copy;
	const char *p;
	size_t n;

	if (!x->v[H_EVENT].given)
		return strdup("{}");
	p = json_member(text->p, text->len, "event", &n);
	if (p)
		return strndup(p, n);
	return strdup(json_object_to_json_string_ext(x->v[H_EVENT].json, JSON_C_TO_STRING_PLAIN));
}

static int prepare(struct invocation *x, struct err *e)
{
	OWN_MEM char *event = event_text(x);
	struct handler_job job = {.language = HANDLER_PYTHON,
		.code = json_object_get_string(x->v[H_CODE].json),
		.code_bytes = (size_t)json_object_get_string_len(x->v[H_CODE].json),
		.value_max_bytes = VALUE_MAX,
		.phases = true};

	if (!event)
		return err_set(e, ERR_SETUP, ENOMEM, "run a handler");
	job.event = event;
	return handler_prepare(&job, &x->h, e);
}

static void put_metrics(struct buf *b, const struct invocation *x)
{
	const struct result *r = &x->ran.result;
	uint64_t peak = r->in_cgroup ? r->memory_peak_bytes : r->rss_peak_kib * 1024;

	buf_addf(b, ",\"metrics\":{\"duration_ms\":%.3f,\"memory_peak_mb\":%.2f,",
		(double)r->wall_us / 1000, (double)peak / (1 << 20));
	buf_addf(b, "\"cpu_time_ms\":%.3f,\"timeout_seconds\":%g}",
		(double)(r->user_us + r->system_us) / 1000, x->timeout_s);
}

/* Text before and behind the mark is what the handler printed. */
static void put_output(struct buf *b, struct invocation *x, const struct handler_output *o)
{
	size_t max = (size_t)x->c->conf->output_max_bytes;

	buf_addc(b, '"');
	if (x->ran.out.len) {
		max -= rt_put_output(b, &x->ran, x->ran.out.p, o->before, max);
		rt_put_output(b, &x->ran, o->after, o->after_bytes, max);
	}
	buf_addc(b, '"');
}

static void answer(struct invocation *x)
{
	const struct result *r = &x->ran.result;
	struct handler_output o = {.value = NULL};
	struct buf *b = &x->c->rs->body;
	enum handler_outcome got = HANDLER_NO_VALUE;
	struct err e = {0};

	if (x->ran.out.len)
		got = handler_parse(x->ran.out.p, x->ran.out.len, x->h.nonce, &o, &e);
	rt_explain(&x->ran, 0);
	if (got == HANDLER_BAD_VALUE)
		buf_addf(&x->ran.err, "the result cannot be used: %s\n", e.msg);
	b->max = 16 * (size_t)x->c->conf->output_max_bytes + VALUE_MAX + 65536;
	buf_adds(b, "{\"stdout\":");
	put_output(b, x, &o);
	buf_adds(b, ",\"stderr\":");
	json_out_string(b, x->ran.err.p, x->ran.err.len);
	buf_adds(b, ",\"result\":");
	if (got == HANDLER_VALUE && r->verdict == VERDICT_OK)
		buf_add(b, o.value, o.value_bytes);
	else
		buf_adds(b, "null");
	put_metrics(b, x);
	buf_addf(b, ",\"exit_code\":%d,\"truncated\":%s}",
		got == HANDLER_BAD_VALUE && !r->exit_code ? 3 : r->exit_code,
		x->ran.cut || r->truncated ? "true" : "false");
	dialect_status(x->c, 200);
}

/* 1: it ran in an interpreter that waited for it. 0: it is to be started. */
static int run_waiting(
	struct invocation *x, const struct session_spec *spec, int64_t timeout_ms, struct err *e)
{
	const struct live_ops *live = x->c->ops->live;
	const struct code_wanted w = {.language = CODE_PYTHON,
		.form = CODE_HANDLER,
		.session = spec,
		.code = "",
		.input_fd = x->h.stdin_fd,
		.output_fd = -1,
		.timeout_ms = timeout_ms};
	struct run_view v;
	int got = live->waiting ? live->waiting(x->c->backend, &w, &v, e) : 0;

	if (got <= 0)
		return got;
	got = rt_follow(x->c, &v, &x->ran, e);
	live->close(&v);
	return got < 0 ? -1 : 1;
}

/* The session is held by its tie alone: a client that goes, or a worker that dies, leaves nothing. */
static int run_tied(struct invocation *x, struct err *e)
{
	OWN_BUF env = BUF_INIT(256);
	struct session_spec spec = rt_spec(x->c, 0, &env);
	struct session_made made = {.tie = -1};
	struct run_spec s = {.argv = x->h.argv, .stdin_fd = x->h.stdin_fd};
	int64_t timeout_ms = (int64_t)(x->timeout_s * 1000) + (x->timeout_s < 0.001);
	int ret;

	spec.tied = true;
	spec.idle_s = LEFT_IDLE_S;
	if (!buf_ok(&env))
		return err_set(e, ERR_SETUP, ENOMEM, "run a handler");
	ret = run_waiting(x, &spec, timeout_ms, e);
	if (ret != 0)
		return ret < 0 ? -1 : 0;
	if (x->c->ops->create(x->c->backend, &spec, &made, e) < 0)
		return -1;
	ret = rt_run(x->c, made.id, &s, timeout_ms, &x->ran, e);
	own_close(&made.tie);
	return ret;
}

void rt_handler(struct dialect_call *c)
{
	struct invocation x = {.c = c, .h = {.stdin_fd = -1}};
	struct err e = {0};

	if (schema_check(fields, H_MAX, c->body->doc, x.v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	if (take_timeout(&x) < 0)
		return;
	if (prepare(&x, &e) < 0 || run_tied(&x, &e) < 0)
		failed(&x, &e);
	else if (x.ran.result.verdict == VERDICT_TIMEOUT)
		timed_out(&x);
	else
		answer(&x);
	own_close(&x.h.stdin_fd);
	rt_ran_clear(&x.ran);
}

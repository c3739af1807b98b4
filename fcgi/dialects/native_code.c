/* POST /run: code in a sandbox of its own, one request from beginning to end. */
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/native.h"
#include "fcgi/dialects/native_runs.h"
#include "fcgi/schema.h"
#include "fcgi/warm.h"
#include "isolate/own.h"

enum { ARGS_MAX = 1024 };

enum { F_LANGUAGE, F_CODE, F_ARGS, F_ENV, F_STDIN, F_TIMEOUT, F_IMAGE, F_MAX };

static const char *const names[] = {"python", "node", NULL};
static const struct schema_bounds language = {.literals = names};

static const struct schema_field fields[F_MAX] = {
	[F_LANGUAGE] = {"language", SCHEMA_STRING, true, false, NULL, &language},
	[F_CODE] = {"code", SCHEMA_STRING, true, false, NULL, NULL},
	[F_ARGS] = {"args", SCHEMA_STRING_LIST, false, true, NULL, NULL},
	[F_ENV] = {"env", SCHEMA_STRING_MAP, false, true, NULL, NULL},
	[F_STDIN] = {"stdin", SCHEMA_STRING, false, true, NULL, NULL},
	[F_TIMEOUT] = {"timeout", SCHEMA_FLOAT, false, true, NULL, NULL},
	[F_IMAGE] = {"image", SCHEMA_STRING, false, true, NULL, NULL},
};

/* One request on its way to its run. */
struct code {
	struct dialect_call *c;
	struct schema_value v[F_MAX];
	const char *args[ARGS_MAX + 1];
	struct buf env;
	struct code_spec spec;
};

static bool plain(struct json_object *o)
{
	return strlen(json_object_get_string(o)) == (size_t)json_object_get_string_len(o);
}

static int take_code(struct code *x, struct err *e)
{
	const struct conf *f = x->c->conf;
	struct json_object *o = x->v[F_CODE].json;

	x->spec.language = code_language_of(json_object_get_string(x->v[F_LANGUAGE].json));
	x->spec.code = json_object_get_string(o);
	x->spec.code_bytes = (size_t)json_object_get_string_len(o);
	if (x->spec.code_bytes > (size_t)f->command_max_bytes || !plain(o))
		return err_set(e, ERR_REQUEST, 0,
			"code: over %lld bytes (command_max_bytes), or it holds a NUL character",
			(long long)f->command_max_bytes);
	x->spec.image = x->spec.language == CODE_NODE ? f->warm_node_image : f->warm_python_image;
	if (!x->v[F_IMAGE].given)
		return 0;
	x->spec.image = json_object_get_string(x->v[F_IMAGE].json);
	return plain(x->v[F_IMAGE].json)
		       ? 0
		       : err_set(e, ERR_REQUEST, 0, "image: malformed image reference");
}

static int take_args(struct code *x, struct err *e)
{
	struct json_object *list = x->v[F_ARGS].json;
	size_t n = x->v[F_ARGS].given ? json_object_array_length(list) : 0;

	if (n > ARGS_MAX)
		return err_set(e, ERR_REQUEST, 0, "args: at most %d", ARGS_MAX);
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (!plain(o) || json_object_get_string_len(o) > x->c->conf->command_max_bytes)
			return err_set(e, ERR_REQUEST, 0,
				"args: one is too long or holds a NUL character");
		x->args[i] = json_object_get_string(o);
	}
	x->spec.args = x->args;
	return 0;
}

static int take_rest(struct code *x, struct err *e)
{
	if (x->v[F_ENV].given && native_put_env(x->v[F_ENV].json, &x->env, e) < 0)
		return -1;
	x->spec.env = x->env.p;
	x->spec.env_bytes = x->env.len;
	if (x->v[F_STDIN].given) {
		x->spec.input = json_object_get_string(x->v[F_STDIN].json);
		x->spec.input_bytes = (size_t)json_object_get_string_len(x->v[F_STDIN].json);
	}
	return native_timeout(x->c->conf, &x->v[F_TIMEOUT], &x->spec.timeout_ms, e);
}

static void answer(struct code *x, struct run_view *v, struct result *r)
{
	size_t max = (size_t)x->c->conf->output_max_bytes;
	struct buf *b = &x->c->rs->body;
	struct err e = {0};
	bool cut = false;

	b->max = 16 * max + 65536;
	buf_addc(b, '{');
	if (native_put_streams(b, v, max, &cut, &e) < 0) {
		dialect_fail(x->c, &e, "read the output of code");
		return;
	}
	r->truncated |= cut;
	buf_addc(b, ',');
	native_put_receipt(b, r);
	buf_addf(b, ",\"warm\":%s}", v->warm ? "true" : "false");
	dialect_status(x->c, 200);
}

static void run(struct code *x)
{
	struct dialect_call *c = x->c;
	struct err e = {0}, why;
	struct run_view v;
	struct result r;

	if (take_code(x, &e) < 0 || take_args(x, &e) < 0 || take_rest(x, &e) < 0) {
		dialect_detail(c, 422, e.msg);
		return;
	}
	if (c->ops->live->code(c->backend, &x->spec, &v, &e) < 0) {
		if (e.kind == ERR_NOTFOUND)
			dialect_detail(c, 422, e.msg); /* it says what to type */
		else
			dialect_fail(c, &e, "run code");
		return;
	}
	while (!spool_result(&v.spool, &r, &why))
		if (c->ops->live->wait(c->backend, &v, UINT64_MAX, 60000, c->rq->conn, &e) < 0)
			break;
	if (e.kind != ERR_NONE && !spool_result(&v.spool, &r, &why))
		dialect_fail(c, &e, "follow code");
	else if (why.kind != ERR_NONE)
		dialect_fail(c, &why, "start code");
	else
		answer(x, &v, &r);
	c->ops->live->close(&v);
}

static void code(struct dialect_call *c)
{
	OWN_MEM struct code *x = calloc(1, sizeof *x);

	if (!x || !c->ops->live || !c->ops->live->code) {
		dialect_detail(c, x ? 501 : 500, x ? "This backend runs no code" : "No memory");
		return;
	}
	x->c = c;
	x->env = BUF_INIT((size_t)c->conf->environment_max_bytes);
	if (schema_check(fields, F_MAX, c->body->doc, x->v, NULL, &c->rs->body) > 0) {
		dialect_status(c, 422);
	} else {
		buf_clear(&c->rs->body);
		run(x);
	}
	buf_clear(&x->env);
}

const struct route native_code_routes[] = {
	{HTTP_POST, "run", ROUTE_JSON, code},
};
const size_t native_ncode_routes = NELEM(native_code_routes);

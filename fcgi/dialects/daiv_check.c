/* The request bodies of daiv.h: two tables and the checks that pydantic has not. */
#include "fcgi/dialects/daiv.h"

#include <stdio.h>
#include <string.h>

#include "fcgi/dialects/daiv_fs.h"
#include "fcgi/json_out.h"
#include "fcgi/schema.h"
#include "images/store.h"
#include "isolate/own.h"

struct create_arg {
	const struct conf *conf;
	struct buf *env;
};

struct run_arg {
	const struct conf *conf;
	const struct json_scan *scan;
	struct daiv_run *out;
};

static bool holds_nul(struct json_object *s)
{
	size_t n = (size_t)json_object_get_string_len(s);

	return memchr(json_object_get_string(s), '\0', n) != NULL;
}

static void check_image(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (holds_nul(v->json) || !store_ref_valid(json_object_get_string(v->json)))
		schema_value_error(r, f, NULL, -1, v->json, "not an image reference");
}

static void check_at_least_0(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (v->i < 0 || v->d < 0)
		schema_problem(r, &(struct schema_fault){"greater_than_equal", f->name, NULL, -1,
					  "Input should be greater than or equal to 0", v->json,
					  "{\"ge\":0}"});
}

static void check_network(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const struct create_arg *a = arg;

	if (v->b && a->conf->network == NETWORK_NONE)
		schema_problem(
			r, &(struct schema_fault){"unenforceable_limit", f->name, NULL, -1,
				   "Network access is not allowed on this host (network = none in "
				   "sandbox.conf)",
				   v->json, NULL});
}

static bool name_valid(const char *s)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";

	if (!*s || !strchr(first, *s))
		return false;
	s += strspn(s, first);
	while (*s >= '0' && *s <= '9') {
		s += strspn(s, "0123456789");
		s += strspn(s, first);
	}
	return *s == '\0';
}

static void check_environment(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const struct create_arg *a = arg;
	char text[96];

	json_object_object_foreach(v->json, name, value)
	{
		if (!name_valid(name)) {
			schema_value_error(r, f, name, -1, value,
				"a variable's name must match [A-Za-z_][A-Za-z0-9_]*");
			continue;
		}
		if (holds_nul(value)) {
			schema_value_error(r, f, name, -1, value,
				"a variable must not contain a NUL character");
			continue;
		}
		buf_addf(a->env, "%s=", name);
		buf_add(a->env, json_object_get_string(value),
			(size_t)json_object_get_string_len(value) + 1);
	}
	if (buf_ok(a->env))
		return;
	snprintf(text, sizeof text, "all variables together are larger than %lld bytes",
		(long long)a->conf->environment_max_bytes);
	schema_value_error(r, f, NULL, -1, v->json, text);
}

static void check_dockerfile(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	schema_value_error(r, f, NULL, -1, v->json,
		"images are not built here: name an imported or pulled one in base_image");
}

static void check_egress(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)f, (void)arg;
	daiv_check_egress(r, ",\"egress\"", v->json);
}

enum {
	C_IMAGE,
	C_EPHEMERAL,
	C_PERSIST,
	C_PATCH,
	C_NETWORK,
	C_ENVIRONMENT,
	C_MEMORY,
	C_CPUS,
	C_DOCKERFILE,
	C_LIVE,
	C_EGRESS,
	C_MAX,
};

static const struct schema_field create_fields[C_MAX] = {
	[C_IMAGE] = {"base_image", SCHEMA_STRING, true, false, check_image, NULL},
	[C_EPHEMERAL] = {"ephemeral", SCHEMA_BOOL, false, false, NULL, NULL},
	[C_PERSIST] = {"persist_workdir", SCHEMA_BOOL, false, true, NULL, NULL},
	[C_PATCH] = {"extract_patch", SCHEMA_BOOL, false, false, NULL, NULL},
	[C_NETWORK] = {"network_enabled", SCHEMA_BOOL, false, false, check_network, NULL},
	[C_ENVIRONMENT] = {"environment", SCHEMA_STRING_MAP, false, true, check_environment, NULL},
	[C_MEMORY] = {"memory_bytes", SCHEMA_INT, false, true, check_at_least_0, NULL},
	[C_CPUS] = {"cpus", SCHEMA_FLOAT, false, true, check_at_least_0, NULL},
	[C_DOCKERFILE] = {"dockerfile", SCHEMA_ANY, false, true, check_dockerfile, NULL},
	[C_LIVE] = {"live", SCHEMA_BOOL, false, true, NULL, NULL}, /* not the original's */
	[C_EGRESS] = {"egress", SCHEMA_ANY, false, true, check_egress, NULL},
};

unsigned daiv_check_create(struct dialect_call *c, struct daiv_create *out)
{
	struct create_arg arg = {c->conf, &out->env};
	struct schema_value v[C_MAX];
	unsigned problems;

	memset(out, 0, sizeof *out);
	out->doc = c->body->doc;
	out->env = BUF_INIT((size_t)c->conf->environment_max_bytes);
	problems = schema_check(create_fields, C_MAX, out->doc, v, &arg, &c->rs->body);
	if (problems) {
		dialect_status(c, 422);
		return problems;
	}
	buf_clear(&c->rs->body);
	snprintf(out->spec.image, sizeof out->spec.image, "%s",
		json_object_get_string(v[C_IMAGE].json));
	/* The old name says the opposite of the new one, which wins: clients send both, the
	 * retired one with whatever its default was. */
	out->spec.ephemeral = v[C_EPHEMERAL].given ? v[C_EPHEMERAL].b
						   : v[C_PERSIST].given && !v[C_PERSIST].b;
	out->spec.extract_patch = v[C_PATCH].b;
	out->spec.network = v[C_NETWORK].b;
	out->spec.live = v[C_LIVE].b;
	out->spec.memory_bytes = v[C_MEMORY].i;
	out->spec.cpus = v[C_CPUS].d;
	out->egress = v[C_EGRESS].given;
	out->spec.env = out->env.p;
	out->spec.env_bytes = out->env.len;
	return 0;
}

void daiv_create_clear(struct daiv_create *r)
{
	buf_clear(&r->env);
}

void daiv_refuse_create(
	struct dialect_call *c, const struct err *e, const char *type, const char *field)
{
	struct json_object *input = NULL;
	const char *colon = strstr(e->msg, ": "), *msg = e->msg;
	struct schema_report r;

	/* The backend puts the member before its message when it means one. */
	for (size_t i = 0; i < C_MAX && colon; i++) {
		const char *name = create_fields[i].name;
		size_t n = strlen(name);

		if (n == (size_t)(colon - e->msg) && !memcmp(name, e->msg, n)) {
			field = name;
			msg = colon + 2;
		}
	}
	if (field)
		json_object_object_get_ex(c->body->doc, field, &input);
	buf_clear(&c->rs->body);
	schema_begin(&r, &c->rs->body);
	schema_problem(&r, &(struct schema_fault){type, field, NULL, -1, msg, input, NULL});
	schema_end(&r);
	dialect_status(c, 422);
}

void daiv_check_commands(const struct schema_field *f, const struct schema_value *v,
	const struct conf *conf, struct schema_report *r)
{
	size_t n = json_object_array_length(v->json), max = (size_t)conf->commands_max;
	char msg[128], ctx[96];

	if (n > max) {
		snprintf(msg, sizeof msg,
			"List should have at most %zu items after validation, not %zu", max, n);
		snprintf(ctx, sizeof ctx,
			"{\"field_type\":\"List\",\"max_length\":%zu,\"actual_length\":%zu}", max,
			n);
		schema_problem(r,
			&(struct schema_fault){"too_long", f->name, NULL, -1, msg, v->json, ctx});
		return;
	}
	snprintf(msg, sizeof msg, "a command must not be longer than %lld bytes",
		(long long)conf->command_max_bytes);
	for (size_t i = 0; i < n; i++) {
		struct json_object *s = json_object_array_get_idx(v->json, i);

		/* As an argument of the shell it would end at the NUL, and run cut short. */
		if (holds_nul(s))
			schema_value_error(r, f, NULL, (long)i, s,
				"a command must not contain a NUL character");
		else if (json_object_get_string_len(s) > conf->command_max_bytes)
			schema_value_error(r, f, NULL, (long)i, s, msg);
	}
}

static void check_commands(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	daiv_check_commands(f, v, ((const struct run_arg *)arg)->conf, r);
}

void daiv_check_archive(const struct schema_field *f, const struct schema_value *v,
	const struct json_scan *scan, struct schema_report *r)
{
	OWN_BUF ctx = BUF_INIT(512);
	char text[192], msg[256];
	const char *what;

	if (scan->base64.fault == BASE64_OK)
		return;
	what = base64_fault_text(&scan->base64, text, sizeof text);
	snprintf(msg, sizeof msg, "Base64 decoding error: '%s'", what);
	buf_adds(&ctx, "{\"error\":");
	json_out_text(&ctx, what);
	buf_addc(&ctx, '}');
	/* The input is the scanner's "...": an archive is not echoed. */
	schema_problem(r, &(struct schema_fault){"base64_decode", f->name, NULL, -1, msg, v->json,
				  buf_ok(&ctx) ? ctx.p : NULL});
}

static void check_archive(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	daiv_check_archive(f, v, ((const struct run_arg *)arg)->scan, r);
}

static void check_timeout(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const struct run_arg *a = arg;
	long long max = a->conf->command_timeout_max_s;
	char msg[96], ctx[48];

	if (v->i <= max) {
		check_at_least_0(f, v, arg, r);
		return;
	}
	snprintf(msg, sizeof msg, "Input should be less than or equal to %lld", max);
	snprintf(ctx, sizeof ctx, "{\"le\":%lld}", max);
	schema_problem(
		r, &(struct schema_fault){"less_than_equal", f->name, NULL, -1, msg, v->json, ctx});
}

const char *daiv_workdir(const char *in, size_t n, char *out, size_t size)
{
	size_t o = 0;

	if (memchr(in, '\0', n))
		return "workdir must not contain a NUL character";
	if (n && *in == '/') {
		if (n < 5 || memcmp(in, "/repo", 5) || (n > 5 && in[5] != '/'))
			return "workdir must be below /repo";
		in += 5;
		n -= 5;
	}
	if (n >= size)
		return "workdir is too long";
	while (n) {
		const char *slash = memchr(in, '/', n);
		size_t len = slash ? (size_t)(slash - in) : n;

		if (len == 2 && !memcmp(in, "..", 2))
			return "workdir must not contain '..' segments";
		if (len && !(len == 1 && *in == '.')) {
			if (o)
				out[o++] = '/';
			memcpy(out + o, in, len);
			o += len;
		}
		len += slash != NULL;
		in += len;
		n -= len;
	}
	out[o] = '\0';
	return NULL;
}

static void check_workdir(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	struct run_arg *a = arg;
	const char *why = daiv_workdir(json_object_get_string(v->json),
		(size_t)json_object_get_string_len(v->json), a->out->workdir,
		sizeof a->out->workdir);

	if (why)
		schema_value_error(r, f, NULL, -1, v->json, why);
}

enum { R_COMMANDS, R_ARCHIVE, R_FAIL_FAST, R_WORKDIR, R_PATCH, R_TIMEOUT, R_MAX };

static const struct schema_field run_fields[R_MAX] = {
	[R_COMMANDS] = {"commands", SCHEMA_STRING_LIST, true, false, check_commands, NULL},
	[R_ARCHIVE] = {"archive", SCHEMA_BYTES, false, true, check_archive, NULL},
	[R_FAIL_FAST] = {"fail_fast", SCHEMA_BOOL, false, false, NULL, NULL},
	[R_WORKDIR] = {"workdir", SCHEMA_STRING, false, true, check_workdir, NULL},
	[R_PATCH] = {"extract_patch", SCHEMA_BOOL, false, true, NULL, NULL},
	[R_TIMEOUT] = {"timeout", SCHEMA_INT, false, true, check_timeout, NULL},
};

unsigned daiv_check_run(struct dialect_call *c, struct daiv_run *out)
{
	struct run_arg arg = {c->conf, &c->body->scan, out};
	struct schema_value v[R_MAX];
	unsigned problems;

	memset(out, 0, sizeof *out);
	problems = schema_check(run_fields, R_MAX, c->body->doc, v, &arg, &c->rs->body);
	if (problems) {
		dialect_status(c, 422);
		return problems;
	}
	buf_clear(&c->rs->body);
	out->commands = v[R_COMMANDS].json;
	out->fail_fast = v[R_FAIL_FAST].b;
	out->extract_patch = v[R_PATCH].b;
	out->timeout_s = v[R_TIMEOUT].given ? v[R_TIMEOUT].i : c->conf->command_timeout_s;
	if (out->timeout_s == 0)
		out->timeout_s = c->conf->command_timeout_max_s;
	return 0;
}

bool daiv_id_valid(const char *id)
{
	for (size_t i = 0; i < SESSION_ID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		bool hex = (id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'f');

		if (dash ? id[i] != '-' : !hex)
			return false;
	}
	return id[SESSION_ID_LEN] == '\0';
}

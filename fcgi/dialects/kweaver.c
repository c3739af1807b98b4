/* What all routes of the control plane share, its health, and its table of routes. */
#include "fcgi/dialects/kweaver.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "fcgi/json_out.h"
#include "fcgi/json_scan.h"
#include "fcgi/schema.h"
#include "fcgi/query.h"
#include "images/own_json.h"
#include "isolate/own.h"

/* The version that the original's health route tells, whatever its own is. */
#define HEALTH_VERSION "2.1.0"

enum { TEXT_MAX = 4096 };

void kw_now(char out[KW_TIME_LEN])
{
	struct timespec t;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	n = strftime(out, KW_TIME_LEN, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, KW_TIME_LEN - n, ".%06ld", t.tv_nsec / 1000);
}

void kw_finish(struct dialect_call *c, bool open, int64_t us)
{
	char text[32];

	snprintf(text, sizeof text, "%.3f", (double)us / 1e6);
	dialect_header(c, "X-Process-Time", text);
	if (open)
		dialect_header(c, "Access-Control-Allow-Origin", "*");
}

/* "what: id"; what alone when the client's own text is too long to be repeated. */
static const char *name_it(struct buf *text, const char *what, const char *id)
{
	buf_addf(text, "%s: %s", what, id);
	return buf_ok(text) ? text->p : what;
}

static void answer_three(
	struct dialect_call *c, int status, const char *error, const char *what, const char *id)
{
	OWN_BUF text = BUF_INIT(TEXT_MAX);
	struct buf *b = &c->rs->body;
	const char *shown = name_it(&text, what, id);

	buf_clear(b);
	buf_addf(b, "{\"error\":\"%s\",\"message\":", error);
	json_out_text(b, shown);
	buf_adds(b, ",\"detail\":");
	json_out_text(b, shown);
	buf_addc(b, '}');
	dialect_status(c, status);
}

void kw_not_found(struct dialect_call *c, const char *what, const char *id)
{
	answer_three(c, 404, "Not Found", what, id);
}

void kw_conflict(struct dialect_call *c, const char *what, const char *id)
{
	answer_three(c, 409, "Conflict", what, id);
}

void kw_refuse(struct dialect_call *c, int status, const char *what, const char *id)
{
	OWN_BUF text = BUF_INIT(TEXT_MAX);

	dialect_detail(c, status, name_it(&text, what, id));
}

void kw_answer(struct dialect_call *c, int status, struct json_object *o)
{
	buf_clear(&c->rs->body);
	buf_adds(&c->rs->body, json_object_to_json_string_ext(
				       o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	dialect_status(c, status);
}

void kw_refuse_query(struct dialect_call *c, const char *name, const char *type, const char *msg,
	const char *value)
{
	struct buf *b = &c->rs->body;

	buf_clear(b);
	buf_addf(b, "{\"detail\":[{\"type\":\"%s\",\"loc\":[\"query\",\"%s\"],\"msg\":\"%s\",",
		type, name, msg);
	buf_adds(b, "\"input\":");
	json_out_text(b, value);
	buf_adds(b, "}]}");
	dialect_status(c, 422);
}

int kw_query_number(struct dialect_call *c, const char *name, int64_t fallback, int64_t min,
	int64_t max, bool clamp, int64_t *out)
{
	char value[64] = "", msg[96], *end = value;
	int n = query_get(c->rq->uri, name, value, sizeof value);

	*out = fallback;
	if (n == 0)
		return 0;
	if (n > 0 && *value)
		*out = strtoll(value, &end, 10);
	if (n < 0 || !*value || *end) {
		kw_refuse_query(c, name, "int_parsing",
			"Input should be a valid integer, unable to parse string as an integer",
			value);
		return -1;
	}
	if (*out >= min && *out <= max)
		return 0;
	if (!clamp) {
		snprintf(msg, sizeof msg, "Input should be %s than or equal to %lld",
			*out < min ? "greater" : "less", (long long)(*out < min ? min : max));
		kw_refuse_query(
			c, name, *out < min ? "greater_than_equal" : "less_than_equal", msg, value);
		return -1;
	}
	*out = *out < min ? min : max;
	return 0;
}

struct index_question kw_question(enum index_op op, const char *kind, const char *id)
{
	struct index_question q = {.op = op};

	snprintf(q.kind, sizeof q.kind, "%s", kind);
	/* an id that is cut would be another's; this one is nobody's, for it is no UTF-8 */
	snprintf(q.id, sizeof q.id, "%s", strlen(id) < sizeof q.id ? id : "\xff");
	return q;
}

void kw_of_session(struct index_question *q, const char *id)
{
	snprintf(q->parent, sizeof q->parent, KW_SESSION "/%s",
		strlen(id) < INDEX_NAME_MAX - sizeof KW_SESSION ? id : "\xff");
}

/* What a body may hold at its deepest lies some levels deeper in a document, and in a list. */
struct json_object *kw_parse(const char *text)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX + 8);
	struct json_object *o = NULL;
	size_t n = strlen(text);

	if (tok && n <= INT_MAX)
		o = json_tokener_parse_ex(tok, text, (int)n);
	if (tok)
		json_tokener_free(tok);
	return o;
}

int kw_ask(struct dialect_call *c, struct index_question *q, struct json_object *doc,
	struct index_answer *a, struct json_object **out, struct err *e)
{
	const char *body = doc ? json_object_to_json_string_ext(doc,
					 JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
			       : NULL;
	OWN_MEM char *text = NULL;

	if (index_ask(c->conf->state_dir, q, body, body ? strlen(body) : 0, a, &text, e) < 0) {
		if (e->kind == ERR_NOTFOUND || e->errnum == EEXIST || e->errnum == ESTALE)
			return -1;
		dialect_fail(c, e, "ask the index");
		return -2;
	}
	if (!out)
		return 0;
	*out = text ? kw_parse(text) : NULL;
	if (*out)
		return 0;
	err_set(e, ERR_BUG, 0, "a document of the index is no JSON");
	dialect_fail(c, e, "ask the index");
	return -2;
}

const char *kw_text(struct json_object *o, const char *name)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, name, &v) || !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

int kw_make_id(char out[KW_ID_SIZE], const char *format, struct err *e)
{
	time_t now = time(NULL);
	struct tm tm;
	uint32_t r;
	size_t n;

	if (getrandom(&r, sizeof r, 0) != sizeof r)
		return err_set(e, ERR_SETUP, errno, "make an id");
	gmtime_r(&now, &tm);
	n = strftime(out, KW_ID_SIZE, format, &tm);
	snprintf(out + n, KW_ID_SIZE - n, "%08x", r);
	return 0;
}

void kw_add_text(struct json_object *o, const char *name, const char *text)
{
	json_object_object_add(o, name, text ? json_object_new_string(text) : NULL);
}

static double uptime_s(struct dialect_call *c, struct err *e)
{
	struct system_info info = {0};

	if (c->ops->system(c->backend, &info, e) < 0)
		return -1;
	free(info.facts);
	return (double)info.uptime_ms / 1000;
}

static void health(struct dialect_call *c)
{
	struct err e = {0};
	double up = uptime_s(c, &e);

	if (up < 0) {
		dialect_fail(c, &e, "health");
		return;
	}
	buf_addf(&c->rs->body,
		"{\"status\":\"healthy\",\"version\":\"" HEALTH_VERSION "\",\"uptime\":%.3f}", up);
	dialect_status(c, 200);
}

/* Unlike the original's constants these are looked at. */
static void health_detailed(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, KW_TEMPLATE, "");
	struct index_answer a;
	struct err e = {0};
	double up = uptime_s(c, &e);
	bool runtime = c->ops->health(c->backend, &e) == 0;
	bool index = index_ask(c->conf->state_dir, &q, NULL, 0, &a, NULL, &e) == 0;

	buf_addf(&c->rs->body,
		"{\"status\":\"%s\",\"version\":\"" HEALTH_VERSION "\",\"uptime\":%.3f,"
		"\"dependencies\":{\"database\":\"%s\",\"storage\":\"%s\",\"runtime_nodes\":\"%s\"}"
		"}",
		runtime && index ? "healthy" : "unhealthy", up < 0 ? 0.0 : up,
		index ? "healthy" : "unhealthy", index ? "healthy" : "unhealthy",
		runtime ? "healthy" : "unhealthy");
	dialect_status(c, 200);
}

static void root(struct dialect_call *c)
{
	buf_adds(&c->rs->body,
		"{\"name\":\"cgibox\",\"version\":\"" VERSION "\",\"status\":\"operational\","
		"\"features\":[\"sessions\",\"executions\",\"templates\",\"files\","
		"\"dependencies\"],"
		"\"documentation\":{\"swagger\":\"/docs\",\"redoc\":\"/redoc\","
		"\"openapi\":\"/openapi.json\"}}");
	dialect_status(c, 200);
}

/* The original's executor reports what became of code; here nobody has to be believed. */
static void no_executor(struct dialect_call *c)
{
	dialect_detail(
		c, 403, "No executor calls back here: the service itself sees how executions end");
}

const struct route kweaver_routes[] = {
	{HTTP_GET, "", ROUTE_OPEN, root},
	{HTTP_POST, "health/sync", 0, kw_sync},
	{HTTP_POST, "internal/containers/ready", 0, no_executor},
	{HTTP_POST, "internal/containers/exited", 0, no_executor},
	{HTTP_POST, "internal/executions/*/heartbeat", 0, no_executor},
	{HTTP_POST, "internal/executions/*/result", 0, no_executor},
	{HTTP_GET, "health", ROUTE_OPEN, health},
	{HTTP_GET, "health/detailed", 0, health_detailed},
	{HTTP_POST, "sessions", ROUTE_JSON, kw_sessions_add},
	{HTTP_GET, "sessions", 0, kw_sessions_list},
	{HTTP_GET, "sessions/*", 0, kw_sessions_get},
	{HTTP_DELETE, "sessions/*", 0, kw_sessions_remove},
	{HTTP_POST, "sessions/*/terminate", 0, kw_sessions_terminate},
	{HTTP_POST, "sessions/*/execute", ROUTE_JSON, kw_executions_add},
	{HTTP_POST, "sessions/*/dependencies/install", ROUTE_JSON, kw_deps_add},
	{HTTP_GET, "sessions/*/files", 0, kw_files_list},
	{HTTP_POST, "sessions/*/files/upload", ROUTE_RAW, kw_files_upload},
	{HTTP_GET, "sessions/*/files/**", 0, kw_files_get},
	{HTTP_POST, "executions/sessions/*/execute", ROUTE_JSON, kw_executions_add},
	{HTTP_POST, "executions/sessions/*/execute-sync", ROUTE_JSON, kw_executions_sync},
	{HTTP_GET, "executions/sessions/*/executions", 0, kw_executions_list},
	{HTTP_GET, "executions/*/status", 0, kw_executions_get},
	{HTTP_GET, "executions/*/result", 0, kw_executions_get},
	{HTTP_POST, "templates", ROUTE_JSON, kw_templates_add},
	{HTTP_GET, "templates", 0, kw_templates_list},
	{HTTP_GET, "templates/*", 0, kw_templates_get},
	{HTTP_PUT, "templates/*", ROUTE_JSON, kw_templates_change},
	{HTTP_DELETE, "templates/*", 0, kw_templates_remove},
};
const size_t kweaver_nroutes = NELEM(kweaver_routes);

/* Sessions of the runtime: a document in the index for each word that a client uses, and a session of ours. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fcgi/dialects/files_call.h"
#include "fcgi/dialects/runtime.h"
#include "fcgi/index.h"
#include "fcgi/schema.h"
#include "images/own_json.h"
#include "isolate/clock.h"
#include "isolate/own.h"

#define KIND "rt-session"

enum { SIZE_MIN = 65536, TRIES = 8 };

static const char bad_sid[] = "Invalid session id: 1 to 128 letters, digits and ._-:@, "
			      "the first a letter, a digit or _";

/* What the index knows of one. */
struct known {
	char sid[RT_SID_MAX + 1], id[SESSION_ID_LEN + 1];
	double created;
	int64_t bytes;
};

static struct index_question question(enum index_op op, const char *sid)
{
	struct index_question q = {.op = op};

	snprintf(q.kind, sizeof q.kind, "%s", KIND);
	snprintf(q.id, sizeof q.id, "%s", sid);
	return q;
}

static void read_known(struct json_object *o, struct known *k)
{
	struct json_object *v;

	if (json_object_object_get_ex(o, "sid", &v))
		snprintf(k->sid, sizeof k->sid, "%s", json_object_get_string(v));
	if (json_object_object_get_ex(o, "session", &v))
		snprintf(k->id, sizeof k->id, "%s", json_object_get_string(v));
	if (json_object_object_get_ex(o, "created_at", &v))
		k->created = json_object_get_double(v);
	if (json_object_object_get_ex(o, "bytes", &v))
		k->bytes = json_object_get_int64(v);
}

/* 1: it is known, 0: it is not, -1. */
static int look_up(struct dialect_call *c, const char *sid, struct known *k, struct err *e)
{
	struct index_question q = question(INDEX_GET, sid);
	struct index_answer a = {0};
	OWN_MEM char *text = NULL;
	OWN_JSON *o = NULL;

	*k = (struct known){.bytes = 0};
	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &text, e) < 0)
		return e->kind == ERR_NOTFOUND ? 0 : -1;
	o = text ? json_tokener_parse(text) : NULL;
	if (!o)
		return err_set(e, ERR_BUG, 0, "a document of the index is no JSON");
	read_known(o, k);
	return 1;
}

/* 1: the session is there, 0: it has expired, or was deleted under another name, -1. */
static int is_there(struct dialect_call *c, const char *id, struct err *e)
{
	if (c->ops->exists(c->backend, id, e) == 0)
		return 1;
	return e->kind == ERR_NOTFOUND ? 0 : -1;
}

static int find(struct dialect_call *c, const char *sid, struct known *k, struct err *e)
{
	int got = look_up(c, sid, k, e);

	return got > 0 ? is_there(c, k->id, e) : got;
}

static double now(void)
{
	return (double)clock_real_us() / 1e6;
}

static int64_t lesser(int64_t a, int64_t b)
{
	return b > 0 && b < a ? b : a;
}

struct session_spec rt_spec(const struct dialect_call *c, int64_t disk_bytes, struct buf *env)
{
	static const char vars[] = "HOME=" RT_WORKSPACE "\0PYTHONPATH=" RT_WORKSPACE;
	const struct conf *f = c->conf;
	struct session_spec s = {.at_workspace = true,
		.network = f->kweaver_runtime_network && f->network != NETWORK_NONE,
		.idle_s = f->kweaver_runtime_idle_s,
		.disk_bytes = disk_bytes};

	buf_add(env, vars, sizeof vars);
	s.env = env->p;
	s.env_bytes = env->len;
	if (!disk_bytes)
		s.disk_bytes = lesser(f->kweaver_runtime_disk_bytes, f->session_disk_max_bytes);
	snprintf(s.image, sizeof s.image, "%s", f->kweaver_runtime_image);
	return s;
}

/* Writes down which session sid is. 0; 1: another request was faster; -1. */
static int write_down(struct dialect_call *c, const struct known *k, struct err *e)
{
	struct index_question q = question(INDEX_ADD, k->sid);
	struct index_answer a;
	char text[512];
	int n;

	snprintf(q.tag, sizeof q.tag, "%s", k->id);
	n = snprintf(text, sizeof text,
		"{\"sid\":\"%s\",\"session\":\"%s\",\"created_at\":%.6f,\"bytes\":%lld}", k->sid,
		k->id, k->created, (long long)k->bytes);
	if (index_ask(c->conf->state_dir, &q, text, (size_t)n, &a, NULL, e) == 0)
		return 0;
	return e->errnum == EEXIST ? 1 : -1;
}

/* Forgets that k->sid is k->id, which has gone; if it has become another one by now that stays. */
static int drop(struct dialect_call *c, const struct known *k, struct err *e)
{
	struct index_question q = question(INDEX_REMOVE, k->sid);
	struct index_answer a;

	snprintf(q.tag, sizeof q.tag, "%s", k->id);
	return index_ask(c->conf->state_dir, &q, NULL, 0, &a, NULL, e);
}

/*
 * Names of sessions that have expired would pile up: each new one looks at a few others, wherever they
 * lie in the list. What goes wrong here is nobody's loss: the next one looks again.
 */
static void sweep_some(struct dialect_call *c)
{
	struct index_question q = {.op = INDEX_LIST, .order = INDEX_OLDEST, .limit = 4};
	struct index_answer a = {0};
	struct timespec t;
	struct err e = {0};

	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(q.kind, sizeof q.kind, "%s", KIND);
	for (int round = 0; round < 2; round++) {
		OWN_MEM char *text = NULL;
		OWN_JSON *list = NULL;

		if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &text, &e) < 0)
			return;
		list = text ? json_tokener_parse(text) : NULL;
		for (size_t i = 0; list && i < json_object_array_length(list); i++) {
			struct known k = {.bytes = 0};

			read_known(json_object_array_get_idx(list, i), &k);
			if (*k.sid && is_there(c, k.id, &e) == 0)
				drop(c, &k, &e);
		}
		q.offset = a.total ? (uint32_t)((uint64_t)t.tv_nsec % a.total) : 0;
	}
}

/* A new session called sid. 0; 1: there is one by now; -1. */
static int make(
	struct dialect_call *c, const char *sid, int64_t bytes, struct known *k, struct err *e)
{
	OWN_BUF env = BUF_INIT(256);
	struct session_spec spec = rt_spec(c, bytes, &env);
	struct session_made made = {.tie = -1};
	struct err ignored;
	int got;

	spec.tied = true; /* until it is written down */
	if (!buf_ok(&env))
		return err_set(e, ERR_SETUP, ENOMEM, "make a session");
	if (*k->id && drop(c, k, e) < 0) /* one that has expired */
		return -1;
	if (c->ops->create(c->backend, &spec, &made, e) < 0)
		return -1;
	snprintf(k->sid, sizeof k->sid, "%s", sid);
	memcpy(k->id, made.id, sizeof k->id);
	k->created = now();
	k->bytes = spec.disk_bytes;
	got = write_down(c, k, e);
	if (got == 0 && c->ops->keep(c->backend, &made, e) < 0) {
		drop(c, k, &ignored);
		return -1;
	}
	own_close(&made.tie);
	if (got == 0)
		sweep_some(c);
	return got;
}

static int ensure(struct dialect_call *c, const char *sid, struct known *k, struct err *e)
{
	for (int i = 0; i < TRIES; i++) {
		int got = find(c, sid, k, e);

		if (got != 0)
			return got < 0 ? -1 : 0;
		got = make(c, sid, 0, k, e);
		if (got <= 0)
			return got;
	}
	return err_set(e, ERR_BUSY, EAGAIN, "the session is made and deleted all the time");
}

int rt_enter(struct dialect_call *c, char id[SESSION_ID_LEN + 1])
{
	struct known k;
	struct err e = {0};

	if (!rt_sid_valid(c->param)) {
		dialect_detail(c, 400, bad_sid);
		return -1;
	}
	if (ensure(c, c->param, &k, &e) < 0) {
		dialect_fail(c, &e, "find a session");
		return -1;
	}
	memcpy(id, k.id, SESSION_ID_LEN + 1);
	c->param = id;
	return 0;
}

/* --- POST session/{sid} --- */

static const struct schema_field fields[] = {{"size", SCHEMA_STRING, false, true, NULL, NULL}};

/* 0 and *bytes, 0 for the usual; -1: the response is complete. */
static int take_size(struct dialect_call *c, int64_t *bytes)
{
	struct schema_value v[NELEM(fields)] = {{.given = false}};
	int64_t max = c->conf->session_disk_max_bytes;
	char why[128];

	*bytes = 0;
	if (c->body->doc &&
		schema_check(fields, NELEM(fields), c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return -1;
	}
	buf_clear(&c->rs->body);
	if (!v[0].given)
		return 0;
	*bytes = rt_parse_size(json_object_get_string(v[0].json));
	if (*bytes >= SIZE_MIN && (max == 0 || *bytes <= max))
		return 0;
	snprintf(why, sizeof why, "a number with k, M, G or none, from 64k to %lld bytes%s",
		(long long)(max ? max : INT64_MAX), max ? " (session_disk_max_bytes)" : "");
	rt_refuse(c, "Invalid size", why);
	return -1;
}

void rt_session_create(struct dialect_call *c)
{
	const char *sid = c->param;
	struct err e = {0};
	struct known k;
	int64_t bytes;
	int got;

	if (!rt_sid_valid(sid)) {
		dialect_detail(c, 400, bad_sid);
		return;
	}
	if (take_size(c, &bytes) < 0)
		return;
	got = find(c, sid, &k, &e);
	if (got == 0)
		got = make(c, sid, bytes, &k, &e);
	if (got < 0) {
		dialect_fail(c, &e, "make a session");
	} else if (got > 0) {
		rt_refuse(c, "Session already exists", sid);
	} else {
		buf_addf(&c->rs->body, "{\"session_id\":\"%s\"}", sid);
		dialect_status(c, 200);
	}
}

/* --- DELETE session/{sid} --- */

static int end_session(struct dialect_call *c, const struct known *k, struct err *e)
{
	if (c->ops->destroy(c->backend, k->id, e) < 0 && e->kind != ERR_NOTFOUND)
		return -1;
	return drop(c, k, e);
}

void rt_session_delete(struct dialect_call *c)
{
	struct err e = {0};
	struct known k;
	int got;

	if (!rt_sid_valid(c->param)) {
		dialect_detail(c, 400, bad_sid);
		return;
	}
	got = look_up(c, c->param, &k, &e);
	if (got < 0 || (got > 0 && end_session(c, &k, &e) < 0)) {
		files_refuse(c, &e, "delete a session");
		return;
	}
	buf_adds(&c->rs->body, "{\"status\":\"success\"}");
	dialect_status(c, 200);
}

/* --- GET status/{sid}, workspaces --- */

void rt_status(struct dialect_call *c)
{
	const char *sid = c->param;
	struct buf *b = &c->rs->body;
	struct err e = {0};
	struct known k;
	int got;

	if (!rt_sid_valid(sid)) {
		dialect_detail(c, 400, bad_sid);
		return;
	}
	got = find(c, sid, &k, &e);
	if (got < 0) {
		dialect_fail(c, &e, "find a session");
		return;
	}
	buf_addf(b, "{\"id\":\"%s\",\"exists\":%s,\"created_at\":", sid, got ? "true" : "false");
	if (!got) {
		buf_adds(b, "null,\"mount_point\":null,\"is_mounted\":false,\"size\":null,"
			    "\"files\":[]}");
		dialect_status(c, 200);
		return;
	}
	buf_addf(b, "%.6f,\"mount_point\":\"" RT_WORKSPACE "\",\"is_mounted\":true,", k.created);
	buf_addf(b, "\"size\":%lld,\"files\":", (long long)k.bytes);
	c->param = k.id;
	if (rt_list(c, RT_WORKSPACE, false, true) < 0)
		return;
	buf_addc(b, '}');
	dialect_status(c, 200);
	dialect_header(c, "X-Session-Id", k.id);
}

/* Calls fn for each session that is there; those that have expired are forgotten. */
static int each(struct dialect_call *c,
	void (*fn)(struct dialect_call *c, void *arg, const struct known *k), void *arg,
	struct err *e)
{
	struct index_question q = {
		.op = INDEX_LIST, .order = INDEX_OLDEST, .limit = INDEX_LIST_MAX};
	OWN_MEM char *text = NULL;
	OWN_JSON *list = NULL;
	struct index_answer a;

	snprintf(q.kind, sizeof q.kind, "%s", KIND);
	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &text, e) < 0)
		return -1;
	list = text ? json_tokener_parse(text) : NULL;
	if (!list)
		return err_set(e, ERR_BUG, 0, "a list of the index is no JSON");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct known k = {.bytes = 0};
		int got;

		read_known(json_object_array_get_idx(list, i), &k);
		got = is_there(c, k.id, e);
		if (got < 0 || (got == 0 && drop(c, &k, e) < 0))
			return -1;
		if (got > 0)
			fn(c, arg, &k);
	}
	return 0;
}

static void put_workspace(struct dialect_call *c, void *arg, const struct known *k)
{
	struct buf *b = &c->rs->body;
	bool *any = arg;

	buf_addf(b, "%s\"%s\":{\"mount_point\":\"" RT_WORKSPACE "\",\"created_at\":%.6f,",
		*any ? "," : "", k->sid, k->created);
	buf_addf(b, "\"size\":%lld,\"session\":\"%s\"}", (long long)k->bytes, k->id);
	*any = true;
}

void rt_workspaces(struct dialect_call *c)
{
	struct err e = {0};
	bool any = false;

	buf_adds(&c->rs->body, "{\"workspaces\":{");
	if (each(c, put_workspace, &any, &e) < 0) {
		dialect_fail(c, &e, "list sessions");
		return;
	}
	buf_adds(&c->rs->body, "}}");
	dialect_status(c, 200);
}

/* --- POST cleanup-all --- */

struct cleanup {
	bool force;
	unsigned total, success;
	struct json_object *failed, *skipped;
};

static void note(struct json_object *list, const struct known *k, const char *why)
{
	char text[RT_SID_MAX + 300];

	snprintf(text, sizeof text, "%s: %s", k->sid, why);
	json_object_array_add(list, json_object_new_string(text));
}

static void clean_one(struct dialect_call *c, void *arg, const struct known *k)
{
	struct cleanup *x = arg;
	struct session_status st;
	struct err e = {0};

	x->total++;
	if (!x->force && c->ops->live->status(c->backend, k->id, &st, &e) == 0 && st.runs > 0)
		note(x->skipped, k, "the session is running");
	else if (end_session(c, k, &e) < 0)
		note(x->failed, k, e.kind == ERR_BUSY ? "the session is busy" : "not removed");
	else
		x->success++;
}

static void answer_cleanup(struct dialect_call *c, const struct cleanup *x)
{
	struct buf *b = &c->rs->body;

	buf_addf(b, "{\"total\":%u,\"success\":%u,\"failed\":", x->total, x->success);
	buf_adds(b, json_object_to_json_string_ext(x->failed, JSON_C_TO_STRING_PLAIN));
	buf_adds(b, ",\"skipped\":");
	buf_adds(b, json_object_to_json_string_ext(x->skipped, JSON_C_TO_STRING_PLAIN));
	buf_addc(b, '}');
	dialect_status(c, 200);
}

static const struct schema_field cleanup_fields[] = {
	{"force", SCHEMA_BOOL, false, true, NULL, NULL}};

void rt_cleanup(struct dialect_call *c)
{
	OWN_JSON *failed = json_object_new_array(), *skipped = json_object_new_array();
	struct cleanup x = {.failed = failed, .skipped = skipped};
	struct schema_value v = {.given = false};
	struct err e = {0};

	if (c->body->doc && schema_check(cleanup_fields, 1, c->body->doc, &v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	x.force = v.given && v.b;
	if (each(c, clean_one, &x, &e) < 0)
		dialect_fail(c, &e, "clean up sessions");
	else
		answer_cleanup(c, &x);
}

/* Executions: code in a session's sandbox, asked for and looked at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/kweaver_result.h"
#include "fcgi/env_merge.h"
#include "fcgi/handler.h"
#include "fcgi/json_member.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "fcgi/schema.h"
#include "images/own_json.h"
#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { CODE_MAX = 102400 };

static const char *const languages[] = {"python", "javascript", "shell", NULL};
static const struct schema_bounds code_length = {.length_min = 1, .length_max = CODE_MAX},
				  language_names = {.literals = languages},
				  timeout_range = {.min = 1, .max = 3600};

static void check_code(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (strlen(json_object_get_string(v->json)) != (size_t)json_object_get_string_len(v->json))
		schema_value_error(r, f, NULL, -1, v->json, "code holds a NUL character");
}

static void check_event(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (!json_object_is_type(v->json, json_type_object))
		schema_problem(r, &(struct schema_fault){"dict_type", f->name, NULL, -1,
					  "Input should be a valid dictionary", v->json, NULL});
}

enum { X_CODE, X_LANGUAGE, X_TIMEOUT, X_EVENT, X_ENV, X_DIR, X_MAX };

static const struct schema_field fields[X_MAX] = {
	[X_CODE] = {"code", SCHEMA_STRING, true, false, check_code, &code_length},
	[X_LANGUAGE] = {"language", SCHEMA_STRING, true, false, NULL, &language_names},
	[X_TIMEOUT] = {"timeout", SCHEMA_INT, false, false, NULL, &timeout_range},
	[X_EVENT] = {"event", SCHEMA_ANY, false, true, check_event, NULL},
	[X_ENV] = {"env_vars", SCHEMA_STRING_MAP, false, true, kw_check_env, NULL},
	[X_DIR] = {"working_directory", SCHEMA_STRING, false, true, NULL, NULL},
};

/* One request on its way to an execution. */
struct starting {
	struct dialect_call *c;
	struct schema_value v[X_MAX];
	struct json_object *record;
	struct buf env, event, about;
	struct handler handler;
	struct kw_execution x;
	struct run_view view;
	char id[KW_ID_SIZE], now[KW_TIME_LEN], workdir[4096];
	int64_t timeout_s;
	enum run_follow follow;
};

static void starting_clear(struct starting *s)
{
	json_object_put(s->record);
	buf_clear(&s->env);
	buf_clear(&s->event);
	buf_clear(&s->about);
	own_close(&s->handler.stdin_fd);
}

/* -1: the response is complete. */
static int take_session(struct starting *s)
{
	uint64_t version;

	s->record = kw_session(s->c, s->c->param, &version);
	if (!s->record)
		return -1;
	if (!strcmp(kw_text(kw_public(s->record), "status"), "running"))
		return 0;
	kw_conflict(s->c, "Session is not active", s->c->param);
	return -1;
}

static int take_place(struct starting *s)
{
	const char *dir = s->v[X_DIR].given ? json_object_get_string(s->v[X_DIR].json) : "";
	int64_t max = s->c->conf->command_timeout_max_s;
	char text[96];

	s->timeout_s = s->v[X_TIMEOUT].given ? s->v[X_TIMEOUT].i : KW_EXECUTION_TIMEOUT_S;
	if (s->timeout_s > max) {
		snprintf(text, sizeof text, "timeout: at most %lld seconds here", (long long)max);
		dialect_detail(s->c, 422, text);
		return -1;
	}
	if (kw_place(dir, s->workdir, sizeof s->workdir) == 0)
		return 0;
	kw_refuse(s->c, 400, "Invalid working_directory", dir);
	return -1;
}

/* As it was written: no number is changed on its way. */
static const char *event_text(struct starting *s)
{
	const struct buf *body = &s->c->body->scan.copy;
	const char *p;
	size_t n;

	if (!s->v[X_EVENT].given)
		return NULL;
	p = json_member(body->p, body->len, "event", &n);
	if (p)
		buf_add(&s->event, p, n);
	else
		buf_adds(&s->event,
			json_object_to_json_string_ext(s->v[X_EVENT].json, JSON_C_TO_STRING_PLAIN));
	return s->event.p;
}

static int prepare(struct starting *s, struct err *e)
{
	struct handler_job job = {.code = json_object_get_string(s->v[X_CODE].json),
		.code_bytes = (size_t)json_object_get_string_len(s->v[X_CODE].json),
		.event = event_text(s),
		.value_max_bytes = s->c->conf->kweaver_output_max_bytes};
	const char *language = json_object_get_string(s->v[X_LANGUAGE].json);

	if (job.value_max_bytes > s->c->conf->run_spool_max_bytes / 2)
		job.value_max_bytes = s->c->conf->run_spool_max_bytes / 2;
	if (!handler_language_find(language, &job.language))
		return err_set(e, ERR_BUG, 0, "no language \"%s\"", language);
	if (kw_make_id(s->id, "exec_%Y%m%d%H%M%S_", e) < 0 ||
		handler_prepare(&job, &s->handler, e) < 0)
		return -1;
	buf_addf(&s->about,
		"{\"execution\":\"%s\",\"language\":\"%s\",\"nonce\":\"%s\","
		"\"limits\":{\"timeout_ms\":%lld}}",
		s->id, language, s->handler.nonce, (long long)s->timeout_s * 1000);
	s->x = (struct kw_execution){.id = s->id,
		.session = s->c->param,
		.status = "pending",
		.language = language,
		.code = job.code,
		.code_bytes = job.code_bytes,
		.timeout_s = (int)s->timeout_s,
		.created_at = s->now,
		.native = kw_text(s->record, "session"),
		.out = {"", "", ""}};
	return 0;
}

static int start_run(struct starting *s, struct err *e)
{
	struct run_spec spec = {.argv = s->handler.argv,
		.workdir = s->workdir,
		.env = s->env.p,
		.env_bytes = s->env.len,
		.timeout_ms = s->timeout_s * 1000,
		.follow = s->follow,
		.stdin_fd = s->handler.stdin_fd,
		.about = s->about.p,
		.about_bytes = s->about.len};

	kw_now(s->now);
	return s->c->ops->live->start(s->c->backend, s->x.native, &spec, &s->view, e);
}

static int add_document(struct starting *s, struct err *e)
{
	struct index_question q = kw_question(INDEX_ADD, KW_EXECUTION, s->id);
	OWN_BUF b = BUF_INIT(INDEX_BODY_MAX);
	struct index_answer a;

	s->x.run = s->view.id;
	kw_put_execution(&b, &s->x);
	kw_of_session(&q, s->c->param);
	snprintf(q.status, sizeof q.status, "pending");
	/* looking for what is over the number costs as much as there is: not each time */
	if (s->handler.nonce[0] == '0' && s->handler.nonce[1] < '4')
		q.keep = (uint64_t)s->c->conf->kweaver_executions_max;
	if (!buf_ok(&b))
		return err_set(e, ERR_SETUP, ENOMEM, "write an execution");
	return index_ask(s->c->conf->state_dir, &q, b.p, b.len, &a, NULL, e);
}

/* A run that no document names is nobody's. */
static void give_up(struct starting *s)
{
	struct err e = {0};

	if (s->c->ops->live->forget(s->c->backend, s->x.native, s->view.id, &e) < 0)
		log_err(LOG_WARN, &e, "forget a run");
	s->c->ops->live->close(&s->view);
}

static void start_failed(struct starting *s, const struct err *e)
{
	if (e->kind == ERR_NOTFOUND) /* its files have gone meanwhile */
		kw_conflict(s->c, "Session is not active", s->c->param);
	else if (e->kind == ERR_BUSY && e->errnum == EWOULDBLOCK)
		kw_conflict(s->c, "Session is busy", s->c->param);
	else
		dialect_fail(s->c, e, "start an execution");
}

/* 0: it runs, and view is open. -1: the response is complete. */
static int start(struct starting *s)
{
	struct err e = {0};

	if (schema_check(fields, X_MAX, s->c->body->doc, s->v, &s->env, &s->c->rs->body)) {
		dialect_status(s->c, 422);
		return -1;
	}
	if (take_session(s) < 0 || take_place(s) < 0 || kw_executions_settle(s->c, s->c->param) < 0)
		return -1;
	if (prepare(s, &e) < 0 || start_run(s, &e) < 0) {
		start_failed(s, &e);
		return -1;
	}
	if (add_document(s, &e) == 0)
		return 0;
	give_up(s);
	dialect_fail(s->c, &e, "write an execution");
	return -1;
}

static void begin(struct starting *s, struct dialect_call *c)
{
	s->c = c;
	s->env = BUF_INIT((size_t)c->conf->environment_max_bytes);
	s->event = BUF_INIT((size_t)c->conf->json_max_bytes + 1);
	s->about = BUF_INIT(1024);
	s->handler.stdin_fd = -1;
}

void kw_executions_add(struct dialect_call *c)
{
	OWN_MEM struct starting *s = calloc(1, sizeof *s);
	struct buf *b = &c->rs->body;

	if (!s) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	begin(s, c);
	if (start(s) == 0) {
		c->ops->live->close(&s->view);
		buf_clear(b);
		buf_addf(b, "{\"execution_id\":\"%s\",\"session_id\":", s->id);
		json_out_text(b, c->param);
		buf_addf(b, ",\"status\":\"pending\",\"created_at\":\"%s\"}", s->now);
		dialect_status(c, 201);
	}
	starting_clear(s);
}

/* The document of one execution is the answer. */
static void answer_one(struct dialect_call *c, const char *id)
{
	struct err e = {0};
	OWN_MEM char *text = kw_execution_look(c, id, &e);
	struct buf *b = &c->rs->body;

	if (!text) {
		if (e.kind == ERR_NOTFOUND)
			kw_not_found(c, "Execution not found", id);
		return;
	}
	buf_clear(b);
	b->max = INDEX_BODY_MAX + 1;
	buf_add(b, text, kw_execution_shown(text, strlen(text)));
	if (b->len > 0 && b->p[b->len - 1] != '}')
		buf_addc(b, '}');
	dialect_status(c, 200);
}

void kw_executions_get(struct dialect_call *c)
{
	answer_one(c, c->param);
}

/* 1: ended. 0: the time is over. -1: the response is complete. */
static int await(struct starting *s, int64_t timeout_s)
{
	const struct live_ops *live = s->c->ops->live;
	int64_t until = clock_ms() + timeout_s * 1000;
	struct result r;
	struct err e = {0}, why;

	while (!spool_result(&s->view.spool, &r, &why)) {
		int64_t left = until - clock_ms();

		if (left <= 0)
			return 0;
		if (live->wait(s->c->backend, &s->view, UINT64_MAX, (int)left, s->c->rq->conn, &e) <
			0) {
			dialect_fail(s->c, &e, "follow an execution");
			return -1;
		}
	}
	return 1;
}

/*
 * The original looks again and again; here it is accepted, and the answer comes at the end of the
 * run.
 */
static int check_poll(struct dialect_call *c)
{
	char text[64], *end = text;
	int n = query_get(c->rq->uri, "poll_interval", text, sizeof text);
	double v = n > 0 ? strtod(text, &end) : 0.5;

	if (n == 0 || (n > 0 && *text && !*end && v >= 0.1 && v <= 10))
		return 0;
	if (n < 0 || !*text || *end)
		kw_refuse_query(c, "poll_interval", "float_parsing",
			"Input should be a valid number, unable to parse string as a number",
			n < 0 ? "" : text);
	else if (!(v >= 0.1))
		kw_refuse_query(c, "poll_interval", "greater_than_equal",
			"Input should be greater than or equal to 0.1", text);
	else
		kw_refuse_query(c, "poll_interval", "less_than_equal",
			"Input should be less than or equal to 10", text);
	return -1;
}

void kw_executions_sync(struct dialect_call *c)
{
	OWN_MEM struct starting *s = calloc(1, sizeof *s);
	int64_t timeout_s;
	char text[80];
	int ended;

	if (!s) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	begin(s, c);
	s->follow = FOLLOW_WAIT;
	if (check_poll(c) == 0 &&
		kw_query_number(c, "sync_timeout", 300, 10, 3600, false, &timeout_s) == 0 &&
		start(s) == 0) {
		ended = await(s, timeout_s);
		c->ops->live->close(&s->view);
		snprintf(text, sizeof text, "Synchronous execution timeout after %llds",
			(long long)timeout_s);
		if (ended > 0)
			answer_one(c, s->id);
		else if (ended == 0)
			dialect_detail(c, 408, text);
	}
	starting_clear(s);
}

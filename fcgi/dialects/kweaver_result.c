#include "fcgi/dialects/kweaver_result.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fcgi/handler.h"
#include "fcgi/json_member.h"
#include "fcgi/json_out.h"
#include "fcgi/utf8.h"
#include "images/own_json.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	ABOUT_MAX = 4096,
	SETTLE_TRIES = 4,
	TICK_NS = 20000000, /* file times are those of the last tick, on the slowest clocks */
};

#define LAST ",\"last_heartbeat_at\":null}"

static void put_text_or_null(struct buf *b, const char *name, const char *text)
{
	buf_addf(b, ",\"%s\":", name);
	if (text)
		json_out_text(b, text);
	else
		buf_adds(b, "null");
}

static uint64_t cpu_us(const struct result *r)
{
	return r->in_cgroup ? r->cpu_us : r->user_us + r->system_us;
}

static void put_metrics(struct buf *b, const struct result *r)
{
	uint64_t peak;

	if (!r || r->verdict == VERDICT_INTERRUPTED) {
		buf_adds(b, ",\"metrics\":null");
		return;
	}
	peak = r->in_cgroup ? r->memory_peak_bytes : r->rss_peak_kib * 1024;
	buf_addf(b, ",\"metrics\":{\"duration_ms\":%.3f,\"cpu_time_ms\":%.3f,",
		(double)r->wall_us / 1000, (double)cpu_us(r) / 1000);
	buf_addf(b, "\"peak_memory_mb\":%.2f,\"io_read_bytes\":%llu,\"io_write_bytes\":%llu}",
		(double)peak / 1048576, (unsigned long long)r->disk_read_bytes,
		(unsigned long long)r->disk_write_bytes);
}

static void put_outputs(struct buf *b, const struct kw_execution *x)
{
	OWN_BUF out = BUF_INIT(x->out_bytes[0] + x->out_bytes[1] + 1);

	buf_add(&out, x->out[0], x->out_bytes[0]);
	buf_add(&out, x->out[1], x->out_bytes[1]);
	buf_adds(b, ",\"stdout\":");
	json_out_string(b, out.p, out.len);
	buf_adds(b, ",\"stderr\":");
	json_out_string(b, x->out[2], x->out_bytes[2]);
	b->bad |= !buf_ok(&out);
}

void kw_put_execution(struct buf *b, const struct kw_execution *x)
{
	const struct result *r = x->result;

	buf_addf(b, "{\"id\":\"%s\",\"session_id\":", x->id);
	json_out_text(b, x->session);
	buf_addf(b, ",\"status\":\"%s\",\"code\":", x->status);
	json_out_string(b, x->code, x->code_bytes);
	buf_addf(
		b, ",\"language\":\"%s\",\"timeout\":%d,\"exit_code\":", x->language, x->timeout_s);
	if (r && r->verdict != VERDICT_INTERRUPTED)
		buf_addf(b, "%d", x->exit_code);
	else
		buf_adds(b, "null"); /* nobody knows it */
	put_text_or_null(b, "error_message", x->error);
	if (r && r->verdict != VERDICT_INTERRUPTED)
		buf_addf(b, ",\"execution_time\":%.3f", (double)r->wall_us / 1e6);
	else
		buf_adds(b, ",\"execution_time\":null");
	put_outputs(b, x);
	buf_addf(b, ",\"artifacts\":%s,\"retry_count\":0", x->artifacts ? x->artifacts : "[]");
	put_text_or_null(b, "created_at", x->created_at);
	put_text_or_null(b, "started_at", x->created_at);
	put_text_or_null(b, "completed_at", x->completed_at);
	buf_adds(b, ",\"return_value\":");
	buf_add(b, x->value ? x->value : "null", x->value ? x->value_bytes : 4);
	put_metrics(b, r);
	buf_addf(b, ",\"truncated\":%s", x->truncated ? "true" : "false");
	put_text_or_null(b, "native_session_id", x->native);
	put_text_or_null(b, "run_id", x->run);
	buf_adds(b, LAST);
}

size_t kw_execution_shown(const char *text, size_t n)
{
	size_t tail = sizeof LAST - 1;

	return n > tail && !memcmp(text + n - tail, LAST, tail) ? n - tail : n;
}

/* All of one stream that is kept. *cut: there was more. */
static int read_stream(const struct run_view *v, enum spool_stream stream, struct buf *out,
	bool *cut, struct err *e)
{
	struct spool_state st;
	char step[16384];
	enum spool_stream of;
	uint64_t first;
	ssize_t n;

	spool_look(&v->spool, &st);
	*cut |= st.start > 0;
	for (uint64_t at = st.start; at < st.written; at += (uint64_t)n) {
		n = spool_read(&v->spool, at, step, sizeof step, &of, &first);
		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read the output of a run");
		if (n == 0)
			break;
		if (of == stream)
			buf_add(out, step, (size_t)n);
	}
	return buf_ok(out) ? 0 : err_set(e, ERR_SETUP, ENOMEM, "memory for the output of a run");
}

/* A pending document on its way to a final one. */
struct settling {
	struct dialect_call *c;
	struct json_object *doc;
	struct kw_execution x;
	struct run_view v;
	struct result result;
	struct buf out, error_out, artifacts;
	char nonce[HANDLER_NONCE_LEN + 1], error[160], completed[KW_TIME_LEN];
	enum handler_outcome outcome;
};

static void settling_clear(struct settling *s)
{
	json_object_put(s->doc);
	buf_clear(&s->out);
	buf_clear(&s->error_out);
	buf_clear(&s->artifacts);
}

static void read_nonce(struct settling *s)
{
	char about[ABOUT_MAX + 1];
	ssize_t n = pread(s->v.about_fd, about, ABOUT_MAX, 0);
	const char *p;
	size_t len;

	p = n > 0 ? json_member(about, (size_t)n, "nonce", &len) : NULL;
	if (p && len == HANDLER_NONCE_LEN + 2)
		memcpy(s->nonce, p + 1, HANDLER_NONCE_LEN);
}

static void clip(struct settling *s, int part, size_t *room)
{
	size_t *n = &s->x.out_bytes[part];

	if (*n > *room) {
		*n = utf8_clip(s->x.out[part], *n, *room);
		s->x.truncated = true;
	}
	*room -= *n;
}

static int take_output(struct settling *s, struct err *e)
{
	size_t max = (size_t)s->c->conf->kweaver_output_max_bytes, room = max;
	struct handler_output parts;
	struct err why = {0};

	read_nonce(s);
	if (read_stream(&s->v, SPOOL_STDOUT, &s->out, &s->x.truncated, e) < 0 ||
		read_stream(&s->v, SPOOL_STDERR, &s->error_out, &s->x.truncated, e) < 0)
		return -1;
	s->outcome = handler_parse(s->out.p ? s->out.p : "", s->out.len, s->nonce, &parts, &why);
	if (s->outcome == HANDLER_BAD_VALUE)
		snprintf(s->error, sizeof s->error, "return value: %.140s", why.msg);
	s->x.value = parts.value;
	s->x.value_bytes = parts.value_bytes;
	s->x.out[0] = s->out.p;
	s->x.out_bytes[0] = parts.before;
	s->x.out[1] = parts.after;
	s->x.out_bytes[1] = parts.after_bytes;
	s->x.out[2] = s->error_out.p;
	s->x.out_bytes[2] = s->error_out.len;
	clip(s, 0, &room);
	clip(s, 1, &room);
	clip(s, 2, &max);
	return 0;
}

static void failed(struct settling *s, const char *status, const char *why)
{
	s->x.status = status;
	if (!*s->error)
		snprintf(s->error, sizeof s->error, "%s", why);
	s->x.error = s->error;
}

/* From what became of the run to the status that clients know. */
static void judge(struct settling *s)
{
	bool shell = !strcmp(s->x.language, "shell");
	char text[64];

	s->x.status = "completed";
	s->x.exit_code = s->result.exit_code;
	s->x.result = &s->result;
	switch (s->result.verdict) {
	case VERDICT_OK:
		if (s->outcome == HANDLER_BAD_VALUE ||
			(s->outcome == HANDLER_NO_VALUE && !shell && s->x.truncated)) {
			s->x.exit_code = 1;
			failed(s, "failed", "the return value was lost in too much output");
		}
		break;
	case VERDICT_EXIT:
		s->x.status = "failed";
		break;
	case VERDICT_TIMEOUT:
		snprintf(text, sizeof text, "Execution timed out after %ds", s->x.timeout_s);
		failed(s, "timeout", text);
		break;
	case VERDICT_INTERRUPTED:
		failed(s, "crashed", "the sandbox ended before the execution did");
		break;
	default:
		snprintf(text, sizeof text, "ended by: %s", verdict_name(s->result.verdict));
		failed(s, "failed", text);
	}
	if (strcmp(s->x.status, "completed"))
		s->x.value = NULL;
}

static void stamp(struct settling *s, int64_t us)
{
	time_t t = us / 1000000;
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	n = strftime(s->completed, sizeof s->completed, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(s->completed + n, sizeof s->completed - n, ".%06d", (int)(us % 1000000));
	s->x.completed_at = s->completed;
}

static void take_document(struct settling *s)
{
	struct json_object *o = NULL;

	s->x = (struct kw_execution){.id = kw_text(s->doc, "id"),
		.session = kw_text(s->doc, "session_id"),
		.language = kw_text(s->doc, "language"),
		.created_at = kw_text(s->doc, "created_at"),
		.native = kw_text(s->doc, "native_session_id"),
		.run = kw_text(s->doc, "run_id"),
		.out = {"", "", ""}};
	if (json_object_object_get_ex(s->doc, "code", &o)) {
		s->x.code = json_object_get_string(o);
		s->x.code_bytes = (size_t)json_object_get_string_len(o);
	}
	if (json_object_object_get_ex(s->doc, "timeout", &o))
		s->x.timeout_s = json_object_get_int(o);
}

/* 1: it has ended, and x says how. 0: it runs. -1. */
static int examine(struct settling *s, struct err *e)
{
	const struct live_ops *live = s->c->ops->live;
	int64_t begun, ended;
	struct err why;
	int ret;

	if (live->open(s->c->backend, s->x.native, s->x.run, FOLLOW_NOT, &s->v, e) < 0) {
		if (e->kind != ERR_NOTFOUND)
			return -1;
		*e = (struct err){0};
		stamp(s, (int64_t)time(NULL) * 1000000);
		failed(s, "crashed", "the session or its run was removed before the end was seen");
		return 1;
	}
	if (!spool_result(&s->v.spool, &s->result, &why)) {
		live->close(&s->v);
		return 0;
	}
	if (why.kind != ERR_NONE)
		s->result.verdict = VERDICT_INTERRUPTED;
	ret = take_output(s, e);
	begun = s->v.spool.head->begun_us * 1000;
	ended = s->v.spool.head->ended_us;
	live->close(&s->v);
	if (ret < 0)
		return -1;
	stamp(s, ended);
	judge(s);
	kw_put_artifacts(s->c, s->x.native, begun - TICK_NS, ended * 1000, &s->artifacts);
	s->x.artifacts = s->artifacts.len && buf_ok(&s->artifacts) ? s->artifacts.p : NULL;
	return 1;
}

/* So that a document holds them whatever they are: each byte may become six. */
static void cut_outputs(struct settling *s)
{
	for (int i = 0; i < (int)NELEM(s->x.out); i++) {
		size_t room = INDEX_BODY_MAX / 32;

		clip(s, i, &room);
	}
}

/* Writes the final document, and has the run forgotten. 0 also when another has written it. */
static int store(struct settling *s, struct err *e)
{
	struct index_question q = kw_question(INDEX_CHANGE, KW_EXECUTION, s->x.id);
	OWN_BUF b = BUF_INIT(INDEX_BODY_MAX);
	struct err ignored = {0};
	struct index_answer a;

	snprintf(q.status, sizeof q.status, "%s", s->x.status);
	q.final = 1;
	kw_put_execution(&b, &s->x);
	if (!buf_ok(&b)) { /* escaped it is too large; without a result it would never be final */
		cut_outputs(s);
		buf_clear(&b);
		kw_put_execution(&b, &s->x);
	}
	if (!buf_ok(&b))
		return err_set(e, ERR_SETUP, ENOMEM, "write the result of an execution");
	if (index_ask(s->c->conf->state_dir, &q, b.p, b.len, &a, NULL, e) < 0 &&
		e->errnum != EEXIST && e->kind != ERR_NOTFOUND)
		return -1;
	*e = (struct err){0};
	if (s->c->ops->live->forget(s->c->backend, s->x.native, s->x.run, &ignored) < 0 &&
		ignored.kind != ERR_NOTFOUND)
		log_err(LOG_WARN, &ignored, "execution %s: forget its run", s->x.id);
	return 0;
}

/* 1: it is final now. 0: it still runs. -1. */
static int settle(struct dialect_call *c, const char *text, struct err *e)
{
	size_t ring = (size_t)c->conf->run_spool_max_bytes + 1;
	struct settling s = {.c = c,
		.doc = json_tokener_parse(text),
		.out = BUF_INIT(ring),
		.error_out = BUF_INIT(ring),
		.artifacts = BUF_INIT(4 << 20)};
	int ret = -1;

	if (s.doc) {
		take_document(&s);
		ret = examine(&s, e);
	} else {
		err_set(e, ERR_BUG, 0, "an execution's document is no JSON");
	}
	if (ret > 0 && store(&s, e) < 0)
		ret = -1;
	settling_clear(&s);
	return ret;
}

/* The status stands before the code, so this is a look at the first bytes. */
static bool pending(const char *text, size_t n)
{
	size_t len;
	const char *p = json_member(text, n, "status", &len);

	return p && len == 9 && !memcmp(p, "\"pending\"", 9);
}

char *kw_execution_look(struct dialect_call *c, const char *id, struct err *e)
{
	for (int i = 0; i < SETTLE_TRIES; i++) {
		struct index_question q = kw_question(INDEX_GET, KW_EXECUTION, id);
		OWN_MEM char *text = NULL;
		struct index_answer a;
		int got;

		if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &text, e) < 0)
			break;
		if (!pending(text, (size_t)a.bytes))
			return take_ptr(&text);
		got = settle(c, text, e);
		if (got == 0)
			return take_ptr(&text);
		if (got < 0)
			break;
	}
	if (e->kind == ERR_NONE)
		err_set(e, ERR_BUG, 0, "an execution does not become final");
	if (e->kind != ERR_NOTFOUND)
		dialect_fail(c, e, "look at an execution");
	return NULL;
}

int kw_executions_settle(struct dialect_call *c, const char *session)
{
	struct index_question q = kw_question(INDEX_LIST, KW_EXECUTION, "");
	OWN_JSON *list = NULL;
	struct index_answer a;
	struct err e = {0};

	kw_of_session(&q, session);
	snprintf(q.status, sizeof q.status, "pending");
	q.limit = INDEX_LIST_MAX;
	if (kw_ask(c, &q, NULL, &a, &list, &e) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *id = kw_text(json_object_array_get_idx(list, i), "id");
		OWN_MEM char *text = kw_execution_look(c, id, &e);

		if (!text && e.kind != ERR_NOTFOUND)
			return -1;
	}
	return 0;
}

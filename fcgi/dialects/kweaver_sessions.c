/* Sessions of the control plane: a document in the index and a session of ours. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fcgi/dialects/kweaver_deps.h"
#include "fcgi/dialects/kweaver_result.h"
#include "fcgi/json_member.h"
#include "fcgi/query.h"
#include "images/own_json.h"
#include "isolate/own.h"

struct json_object *kw_public(struct json_object *record)
{
	struct json_object *o = NULL;

	json_object_object_get_ex(record, "public", &o);
	return o;
}

int kw_session_write(struct dialect_call *c, enum index_op op, struct json_object *record,
	uint64_t version, struct err *e)
{
	struct json_object *o = kw_public(record);
	struct index_question q = kw_question(op, KW_SESSION, kw_text(o, "id"));
	struct index_answer a;

	snprintf(q.status, sizeof q.status, "%s", kw_text(o, "status"));
	snprintf(q.tag, sizeof q.tag, "%s", kw_text(o, "template_id"));
	q.version = version;
	q.final = !kw_alive(record);
	q.keep = KW_SESSIONS_KEPT;
	return kw_ask(c, &q, record, &a, NULL, e);
}

void kw_set_status(struct json_object *record, const char *status, bool ended)
{
	struct json_object *o = kw_public(record);
	char now[KW_TIME_LEN];

	kw_now(now);
	kw_add_text(o, "status", status);
	kw_add_text(o, "updated_at", now);
	if (ended)
		kw_add_text(o, "completed_at", now);
}

/* What clients see of n bytes of records with a NUL behind each; as text, for a list is long. */
static unsigned put_public(struct buf *b, const char *records, size_t n)
{
	unsigned count = 0;

	for (const char *p = records; p < records + n; p += strlen(p) + 1) {
		size_t len;
		const char *v = json_member(p, strlen(p), "public", &len);

		if (!v)
			continue;
		if (count++)
			buf_addc(b, ',');
		buf_add(b, v, len);
	}
	return count;
}

/* Those whose dependencies are being installed may run by now; one that cannot be looked at is as it is. */
static void look_at_new(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, KW_SESSION, "");
	OWN_JSON *list = NULL;
	struct index_answer a;
	struct err e = {0};
	uint64_t version;

	snprintf(q.status, sizeof q.status, "creating");
	q.order = INDEX_OLDEST;
	q.limit = KW_LIST_MAX;
	if (kw_ask(c, &q, NULL, &a, &list, &e) == 0)
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *o = kw_public(json_object_array_get_idx(list, i));

			json_object_put(kw_session(c, kw_text(o, "id"), &version));
		}
	c->rs->status = c->rs->retry_after_s = 0;
	buf_clear(&c->rs->body);
}

void kw_sessions_list(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, KW_SESSION, "");
	struct buf *b = &c->rs->body;
	OWN_MEM char *records = NULL;
	int64_t limit, offset;
	struct index_answer a;
	struct err e = {0};
	unsigned n;

	if (kw_query_number(c, "limit", 50, 1, KW_LIST_MAX, true, &limit) < 0 ||
		kw_query_number(c, "offset", 0, 0, UINT32_MAX, true, &offset) < 0)
		return;
	look_at_new(c);
	q.limit = (uint32_t)limit;
	q.offset = (uint32_t)offset;
	q.whole_max = UINT32_MAX;
	if (query_get(c->rq->uri, "status", q.status, sizeof q.status) < 0 ||
		query_get(c->rq->uri, "template_id", q.tag, sizeof q.tag) < 0)
		snprintf(q.status, sizeof q.status, "?"); /* nothing has such a name */
	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &records, &e) < 0) {
		dialect_fail(c, &e, "list sessions");
		return;
	}
	buf_clear(b);
	b->max = INDEX_ANSWER_MAX;
	buf_adds(b, "{\"items\":[");
	n = put_public(b, records ? records : "", records ? (size_t)a.bytes : 0);
	buf_addf(b, "],\"total\":%llu,\"limit\":%lld,\"offset\":%lld,\"has_more\":%s}",
		(unsigned long long)a.total, (long long)limit, (long long)offset,
		(uint64_t)offset + n < a.total ? "true" : "false");
	dialect_status(c, 200);
}

bool kw_alive(struct json_object *record)
{
	const char *s = kw_text(kw_public(record), "status");

	return !strcmp(s, "creating") || !strcmp(s, "running");
}

int64_t kw_seconds(const char *text)
{
	struct tm tm = {0};

	return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) : 0;
}

bool kw_session_over(struct dialect_call *c, struct json_object *record, int64_t used)
{
	int64_t made = kw_seconds(kw_text(kw_public(record), "created_at"));
	int64_t now = (int64_t)time(NULL);

	return (c->conf->kweaver_idle_s && now - used > c->conf->kweaver_idle_s) ||
	       (c->conf->kweaver_lifetime_s && now - made > c->conf->kweaver_lifetime_s);
}

int kw_session_end(struct dialect_call *c, struct json_object *record, const char *status)
{
	const char *native = kw_text(record, "session"), *id = kw_text(kw_public(record), "id");
	struct err e = {0};

	/* What runs gets its verdict first; one that is busy with another request is ended below. */
	if (*native && c->ops->live->stop(c->backend, native, &e) < 0 && e.kind != ERR_NOTFOUND &&
		e.kind != ERR_BUSY) {
		dialect_fail(c, &e, "end a session");
		return -1;
	}
	if (kw_executions_settle(c, id) < 0)
		return -1;
	if (*native && c->ops->destroy(c->backend, native, &e) < 0 && e.kind != ERR_NOTFOUND) {
		dialect_fail(c, &e, "end a session");
		return -1;
	}
	kw_set_status(record, status, true);
	return kw_session_write(c, INDEX_CHANGE, record, 0, &e) == -2 ? -1 : 0;
}

/* A session that was never made: whoever made it has died. */
static int look_at_unmade(struct dialect_call *c, struct json_object *record)
{
	int64_t made = kw_seconds(kw_text(kw_public(record), "created_at"));
	struct err e = {0};

	if ((int64_t)time(NULL) - made < KW_CREATING_S)
		return 0;
	kw_set_status(record, "failed", true);
	return kw_session_write(c, INDEX_CHANGE, record, 0, &e) == -2 ? -1 : 0;
}

/* What became of our session, in the record. -1: the response is complete. */
static int look(struct dialect_call *c, struct json_object *record, uint64_t *version)
{
	const char *native = kw_text(record, "session");
	struct session_status of;
	struct err e = {0};

	if (!kw_alive(record))
		return 0;
	if (!*native)
		return look_at_unmade(c, record);
	if (c->ops->live->status(c->backend, native, &of, &e) < 0) {
		if (e.kind == ERR_NOTFOUND)
			return kw_session_end(c, record, "timeout");
		dialect_fail(c, &e, "look at a session");
		return -1;
	}
	if (of.runs == 0 && kw_session_over(c, record, of.used))
		return kw_session_end(c, record, "timeout");
	return kw_deps_installing(record) ? kw_deps_settle(c, record, version) : 0;
}

struct json_object *kw_session(struct dialect_call *c, const char *id, uint64_t *version)
{
	struct index_question q = kw_question(INDEX_GET, KW_SESSION, id);
	struct json_object *o = NULL;
	struct index_answer a = {0};
	struct err e = {0};

	if (kw_ask(c, &q, NULL, &a, &o, &e) == -1)
		kw_not_found(c, "Session not found", id);
	*version = a.version;
	if (!o || look(c, o, version) == 0)
		return o;
	json_object_put(o);
	return NULL;
}

/* What the original has no word for: the session's name in the other routes. */
static void show(struct dialect_call *c, int status, struct json_object *record)
{
	const char *native = kw_text(record, "session");

	if (*native)
		dialect_header(c, "X-Session-Id", native);
	kw_answer(c, status, kw_public(record));
}

void kw_sessions_get(struct dialect_call *c)
{
	uint64_t version;
	OWN_JSON *record = kw_session(c, c->param, &version);

	if (record)
		show(c, 200, record);
}

/* Its processes and files end; what was recorded of it stays until it is deleted. */
void kw_sessions_terminate(struct dialect_call *c)
{
	uint64_t version;
	OWN_JSON *record = kw_session(c, c->param, &version);

	if (record && (!kw_alive(record) || kw_session_end(c, record, "terminated") == 0))
		show(c, 200, record);
}

void kw_sessions_remove(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_REMOVE, KW_SESSION, c->param);
	uint64_t version;
	OWN_JSON *record = kw_session(c, c->param, &version);
	struct index_answer a;
	struct err e = {0};

	if (!record)
		return;
	if (*kw_text(record, "session") &&
		c->ops->destroy(c->backend, kw_text(record, "session"), &e) < 0 &&
		e.kind != ERR_NOTFOUND)
		dialect_fail(c, &e, "delete a session");
	else if (kw_ask(c, &q, NULL, &a, NULL, &e) == 0)
		dialect_no_content(c);
}

/*
 * The list of a session's executions. Small documents are sent as they are stored. Of large ones a list has
 * the beginnings of what makes them large, and says so: fifty results of many MiB are no answer that
 * a client wants, and each can be had by itself.
 */
#include <stdio.h>
#include <string.h>

#include "fcgi/dialects/kweaver_result.h"
#include "fcgi/json_member.h"
#include "isolate/own.h"

enum {
	WHOLE_MAX = 128 << 10, /* bytes of a document that a list has as it is */
	PART_MAX = 16 << 10,   /* of a member of a larger one */
};

#define TAIL ",\"last_heartbeat_at\":null}"

/* In the order of the document. Without a text for one that is too long, its beginning stays. */
static const struct {
	const char *name, *instead;
} parts[] = {{"code", NULL}, {"stdout", NULL}, {"stderr", NULL}, {"artifacts", "[]"},
	{"return_value", "null"}};

/* The document of n bytes, with what is long in it shortened. */
static void put_short(struct buf *b, const char *text, size_t n)
{
	const char *at = text, *end = text + kw_execution_shown(text, n);
	OWN_BUF names = BUF_INIT(256);

	for (size_t i = 0; i < NELEM(parts) && end < text + n; i++) {
		size_t len;
		const char *v = json_member(text, n, parts[i].name, &len);

		if (!v || v < at || len <= PART_MAX + strlen("\"\""))
			continue;
		buf_add(b, at, (size_t)(v - at));
		if (parts[i].instead)
			buf_adds(b, parts[i].instead);
		else
			buf_add(b, v, json_string_clip(v, len, PART_MAX));
		if (!parts[i].instead)
			buf_addc(b, '"');
		at = v + len;
		buf_addf(&names, "%s\"%s\"", names.len ? "," : "", parts[i].name);
	}
	buf_add(b, at, (size_t)(end - at));
	if (end < text + n)
		buf_addf(b, ",\"shortened\":[%s]" TAIL, names.len ? names.p : "");
}

/* One that the list had no place for. False: it has gone, and e says so or what else went wrong. */
static bool put_large(struct dialect_call *c, const char *id, struct buf *b, struct err *e)
{
	struct index_question q = kw_question(INDEX_GET, KW_EXECUTION, id);
	OWN_MEM char *text = NULL;
	struct index_answer a;

	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &text, e) < 0 || !text)
		return false;
	put_short(b, text, (size_t)a.bytes);
	return true;
}

/* texts: n bytes, as the index tells documents with a NUL behind each. */
static int put_items(
	struct dialect_call *c, const char *texts, size_t n, struct buf *b, struct err *e)
{
	size_t begin = b->len; /* behind the bracket */

	for (const char *p = texts; p < texts + n; p += strlen(p) + 1) {
		if (b->len > begin && b->p[b->len - 1] != ',')
			buf_addc(b, ',');
		if (*p != '=')
			buf_adds(b, p);
		else if (!put_large(c, p + 1, b, e) && e->kind != ERR_NOTFOUND)
			return -1;
	}
	if (b->len > begin && b->p[b->len - 1] == ',')
		b->len--;
	*e = (struct err){0};
	return 0;
}

/* Unlike the original's, total and offset are true. */
void kw_executions_list(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, KW_EXECUTION, "");
	OWN_MEM char *texts = NULL;
	struct buf *b = &c->rs->body;
	int64_t limit, offset;
	struct index_answer a;
	struct err e = {0};

	if (kw_query_number(c, "limit", 50, 1, KW_LIST_MAX, true, &limit) < 0 ||
		kw_query_number(c, "offset", 0, 0, UINT32_MAX, true, &offset) < 0 ||
		kw_executions_settle(c, c->param) < 0)
		return;
	kw_of_session(&q, c->param);
	q.limit = (uint32_t)limit;
	q.offset = (uint32_t)offset;
	q.whole_max = WHOLE_MAX;
	buf_clear(b);
	b->max = (size_t)KW_LIST_MAX * WHOLE_MAX + 65536;
	buf_adds(b, "{\"items\":[");
	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &texts, &e) < 0 ||
		put_items(c, texts ? texts : "", texts ? (size_t)a.bytes : 0, b, &e) < 0) {
		dialect_fail(c, &e, "list executions");
		return;
	}
	buf_addf(b, "],\"total\":%llu,\"limit\":%lld,\"offset\":%lld}", (unsigned long long)a.total,
		(long long)limit, (long long)offset);
	dialect_status(c, 200);
}

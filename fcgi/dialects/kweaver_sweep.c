/*
 * Sessions that are over their idle or life time, and records whose session is gone. Looked for
 * when a session is made, at most every few minutes, and by POST /health/sync; one that is asked
 * for is looked at alone. No process waits for it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fcgi/backend_live.h"
#include "fcgi/dialects/kweaver.h"
#include "images/own_json.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { PAGE = 1000, WHOLE_MAX = 16 << 10 }; /* bytes: all of INDEX_LIST_MAX are an answer */

/* One session of ours as the backend lists it, sorted by id. */
struct seen {
	char id[SESSION_ID_LEN + 1];
	unsigned runs;
	int64_t used;
};

struct all {
	struct seen *v;
	size_t n, cap;
	unsigned page; /* of the last question */
	bool bad;
};

static void add(void *arg, const struct session_status *s)
{
	struct all *all = arg;
	struct seen *more;

	all->page++;
	if (all->n == all->cap) {
		more = realloc(all->v, (all->cap * 2 + PAGE) * sizeof *more);
		all->bad |= !more;
		if (!more)
			return;
		all->v = more;
		all->cap = all->cap * 2 + PAGE;
	}
	all->v[all->n] = (struct seen){.runs = s->runs, .used = s->used};
	memcpy(all->v[all->n++].id, s->id, sizeof s->id);
}

static int see_all(struct dialect_call *c, struct all *all, struct err *e)
{
	do {
		const char *after = all->n ? all->v[all->n - 1].id : "";

		all->page = 0;
		if (c->ops->live->sessions(c->backend, after, PAGE, add, all, e) < 0)
			return -1;
		if (all->bad)
			return err_set(e, ERR_SETUP, ENOMEM, "list sessions");
	} while (all->page == PAGE);
	return 0;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct seen *)a)->id, ((const struct seen *)b)->id);
}

struct tally {
	unsigned running, ended, failed;
};

/* A session that cannot be looked at now is looked at the next time; the request goes on. */
static void look(
	struct dialect_call *c, struct json_object *record, const struct all *all, struct tally *t)
{
	struct seen key = {.runs = 0};
	const struct seen *s;
	int ret;

	snprintf(key.id, sizeof key.id, "%s", kw_text(record, "session"));
	if (!*key.id)
		return; /* being made */
	s = all->n ? bsearch(&key, all->v, all->n, sizeof key, by_id) : NULL;
	if (s && (s->runs > 0 || !kw_session_over(c, record, s->used))) {
		t->running++;
		return;
	}
	ret = kw_session_end(c, record, "timeout");
	if (ret < 0) {
		t->failed++;
		c->rs->status = 0;
		buf_clear(&c->rs->body);
	} else {
		t->ended++;
	}
}

/* One that was too large for the list is asked for by itself. */
static struct json_object *record_of(struct dialect_call *c, const char *text)
{
	struct index_question q = kw_question(INDEX_GET, KW_SESSION, text + 1);
	struct json_object *o = NULL;
	struct index_answer a;
	struct err e = {0};

	if (*text != '=')
		return kw_parse(text);
	if (kw_ask(c, &q, NULL, &a, &o, &e) == -2)
		c->rs->status = 0; /* it is looked at the next time */
	return o;
}

static int sweep(struct dialect_call *c, struct tally *t)
{
	struct index_question q = kw_question(INDEX_LIST, KW_SESSION, "");
	OWN_MEM char *texts = NULL;
	struct all all = {.n = 0};
	struct index_answer a;
	struct err e = {0};
	int ret;

	snprintf(q.status, sizeof q.status, "running");
	q.order = INDEX_OLDEST;
	q.limit = INDEX_LIST_MAX;
	q.whole_max = WHOLE_MAX;
	/* the index first: a session that is made meanwhile is then among those of the backend */
	ret = index_ask(c->conf->state_dir, &q, NULL, 0, &a, &texts, &e);
	if (ret == 0)
		ret = see_all(c, &all, &e);
	if (ret < 0)
		dialect_fail(c, &e, "list sessions");
	for (const char *p = texts; ret == 0 && p && p < texts + a.bytes; p += strlen(p) + 1) {
		OWN_JSON *record = record_of(c, p);

		if (record)
			look(c, record, &all, t);
	}
	free(all.v);
	return ret;
}

/* Whether it is this request's turn: of several, one. */
static bool my_turn(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_GET, KW_META, "swept");
	OWN_JSON *o = json_object_new_object(), *stored = NULL;
	struct json_object *at;
	OWN_MEM char *text = NULL;
	struct index_answer a = {0};
	const char *body;
	struct err e = {0};
	int64_t now = (int64_t)time(NULL);

	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, &text, &e) < 0 && e.kind != ERR_NOTFOUND)
		return false;
	stored = text ? json_tokener_parse(text) : NULL;
	if (stored && json_object_object_get_ex(stored, "at", &at) &&
		now - json_object_get_int64(at) < KW_CLEANUP_S)
		return false;
	json_object_object_add(o, "at", json_object_new_int64(now));
	body = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	q = kw_question(text ? INDEX_CHANGE : INDEX_ADD, KW_META, "swept");
	q.version = a.version;
	return index_ask(c->conf->state_dir, &q, body, strlen(body), &a, NULL, &e) == 0;
}

void kw_sweep(struct dialect_call *c)
{
	struct tally t = {0};

	if (!my_turn(c) || sweep(c, &t) == 0)
		return;
	c->rs->status = 0; /* it is logged; the request is about something else */
	buf_clear(&c->rs->body);
}

void kw_sync(struct dialect_call *c)
{
	struct tally t = {0};

	if (sweep(c, &t) < 0)
		return;
	buf_clear(&c->rs->body);
	buf_addf(&c->rs->body, "{\"status\":\"%s\",\"running\":%u,\"ended\":%u,\"failed\":%u}",
		t.failed ? "partial" : "success", t.running, t.ended, t.failed);
	dialect_status(c, 200);
}

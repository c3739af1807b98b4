/* GET /session/, GET /session/{id}/status, POST /session/{id}/stop. */
#include <errno.h>
#include <string.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/dialects/native_runs.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"

enum { PAGE = 100, PAGE_MAX = 1000 };

static void put_session(struct buf *b, const struct session_status *s)
{
	buf_addf(b, "\"session_id\":\"%s\",\"image\":", s->id);
	json_out_text(b, s->image);
	buf_addf(b, ",\"state\":\"%s\",\"live\":%s,\"runs\":%u,\"used_at\":%lld", s->state,
		s->live ? "true" : "false", s->runs, (long long)s->used);
}

struct page {
	struct buf *b;
	char last[SESSION_ID_LEN + 1];
	unsigned n;
};

static void add(void *arg, const struct session_status *s)
{
	struct page *p = arg;

	buf_adds(p->b, p->n++ ? ",{" : "{");
	put_session(p->b, s);
	buf_addc(p->b, '}');
	memcpy(p->last, s->id, sizeof p->last);
}

void native_sessions(struct dialect_call *c)
{
	struct page p = {.b = &c->rs->body};
	uint64_t limit = PAGE;
	char after[64] = "";
	struct err e = {0};

	if (query_get(c->rq->uri, "after", after, sizeof after) < 0 ||
		(*after && !daiv_id_valid(after)) ||
		query_number(c->rq->uri, "limit", &limit) < 0 || limit < 1 || limit > PAGE_MAX) {
		dialect_detail(c, 422, "after is a session id, limit a number from 1 to 1000");
		return;
	}
	buf_adds(p.b, "{\"sessions\":[");
	if (c->ops->live->sessions(c->backend, after, (unsigned)limit, add, &p, &e) < 0) {
		native_run_fail(c, &e, "list sessions");
		return;
	}
	buf_adds(p.b, "],\"next\":");
	if (p.n == limit)
		json_out_text(p.b, p.last);
	else
		buf_adds(p.b, "null");
	buf_addc(p.b, '}');
	dialect_status(c, 200);
}

static void put_number(struct buf *b, const char *name, uint64_t v)
{
	buf_addf(b, "\"%s\":", name);
	if (v)
		buf_addf(b, "%llu", (unsigned long long)v);
	else
		buf_adds(b, "null");
}

uint64_t native_least(uint64_t own, int64_t max)
{
	return !own || (max > 0 && (uint64_t)max < own) ? (uint64_t)max : own;
}

static void list_run(void *arg, const struct run_listed *r)
{
	struct page *p = arg;

	if (!r->ended)
		buf_addf(p->b, "%s\"%s\"", p->n++ ? "," : "", r->id);
}

void native_status(struct dialect_call *c)
{
	struct page p = {.b = &c->rs->body};
	struct session_status s;
	struct err e = {0};

	if (!daiv_id_valid(c->param))
		err_set(&e, ERR_NOTFOUND, 0, "no session id");
	if (e.kind != ERR_NONE || c->ops->live->status(c->backend, c->param, &s, &e) < 0) {
		native_run_fail(c, &e, "look at a session");
		return;
	}
	buf_addc(p.b, '{');
	put_session(p.b, &s);
	buf_adds(p.b, ",\"limits\":{");
	put_number(p.b, "memory_bytes", native_least(s.memory_limit, c->conf->memory_max_bytes));
	buf_addc(p.b, ',');
	put_number(p.b, "cpu_percent", native_least(s.cpu_percent, c->conf->cpu_max_percent));
	buf_addf(p.b, ",\"processes\":%lld,\"disk_bytes\":%lld,\"idle_s\":%lld}",
		(long long)c->conf->processes_max,
		(long long)native_least(s.disk_limit, c->conf->session_disk_max_bytes),
		(long long)c->conf->sandbox_idle_s);
	buf_adds(p.b, ",\"usage\":{");
	put_number(p.b, "memory_bytes", s.memory_bytes);
	buf_addc(p.b, ',');
	put_number(p.b, "processes", s.processes);
	buf_adds(p.b, "},\"runs_in_progress\":[");
	if (s.runs && c->ops->live->runs(c->backend, c->param, list_run, &p, &e) < 0) {
		native_run_fail(c, &e, "list runs");
		return;
	}
	buf_adds(p.b, "]}");
	dialect_status(c, 200);
}

void native_stop(struct dialect_call *c)
{
	struct err e = {0};

	if (!daiv_id_valid(c->param))
		err_set(&e, ERR_NOTFOUND, 0, "no session id");
	if (e.kind != ERR_NONE || c->ops->live->stop(c->backend, c->param, &e) < 0)
		native_run_fail(c, &e, "stop a session");
	else
		dialect_no_content(c);
}

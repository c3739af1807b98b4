/* What the sandbox's own command has written: all tries since it was started, line by line. */
#include <errno.h>
#include <string.h>

#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "isolate/own.h"

/* Bytes of output in one answer, which becomes a hundred times as large when all lines are empty. */
enum { TRIES_MAX = 32, PART = 16384, LOGS_BYTES_MAX = 256 << 10, LOGS_ANSWER_MAX = 48 << 20 };

/* The tries whose output is told: the last ones. */
struct tries {
	const char *since;
	char id[TRIES_MAX][RUN_ID_LEN + 1];
	unsigned n;
};

/* The output of one try on its way to lines. */
struct lines {
	struct buf *out;
	const char *time;
	struct buf part[SPOOL_STDERR + 1]; /* of each stream: a line that has not ended */
	bool any;
	int64_t left; /* bytes that are told yet */
};

static void pick(void *arg, const struct run_listed *r)
{
	static const size_t n = sizeof MANAGER_SERVICE - 1;
	struct tries *t = arg;

	if (r->about_bytes < n || memcmp(r->about + r->about_bytes - n, MANAGER_SERVICE, n) ||
		strcmp(r->id, t->since) < 0)
		return;
	memcpy(t->id[t->n++ % TRIES_MAX], r->id, RUN_ID_LEN + 1);
}

static void put_line(struct lines *l, enum spool_stream of)
{
	bool err = of == SPOOL_STDERR;

	if (l->any)
		buf_addc(l->out, ',');
	l->any = true;
	buf_addf(l->out,
		"{\"timestamp\":\"%s\",\"log_type\":\"%s\",\"level\":\"%s\",\"message\":", l->time,
		err ? "stderr" : "stdout", err ? "error" : "info");
	json_out_string(l->out, l->part[of].p ? l->part[of].p : "", l->part[of].len);
	buf_addc(l->out, '}');
	buf_clear(&l->part[of]);
}

static void put_bytes(struct lines *l, enum spool_stream of, const char *p, size_t n)
{
	for (const char *end; (end = memchr(p, '\n', n)); p = end + 1) {
		buf_add(&l->part[of], p, (size_t)(end - p));
		n -= (size_t)(end - p) + 1;
		put_line(l, of);
	}
	buf_add(&l->part[of], p, n);
}

/* What is kept of one run; of much the last. */
static int put_run(struct lines *l, const struct run_view *v, struct err *e)
{
	enum spool_stream of = SPOOL_STDOUT;
	struct spool_state st;
	char part[PART];
	uint64_t at, first;
	ssize_t n;

	spool_look(&v->spool, &st);
	at = st.start;
	if (st.written - at > (uint64_t)l->left)
		at = st.written - (uint64_t)l->left;
	for (;; at += (uint64_t)n) {
		n = spool_read(&v->spool, at, part, sizeof part, &of, &first);
		if (n < 0 && errno == ERANGE && first > at) { /* it still runs: gone is gone */
			at = first;
			n = 0;
			continue;
		}
		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read the output of a run");
		if (n == 0 || at >= st.written)
			break;
		put_bytes(l, of, part, (size_t)n);
	}
	for (of = SPOOL_OUTPUT; of <= SPOOL_STDERR; of++)
		if (l->part[of].len)
			put_line(l, of);
	l->left -= (int64_t)(st.written - st.start) < l->left ? (int64_t)(st.written - st.start)
							      : l->left;
	return 0;
}

static int put_try(struct dialect_call *c, struct lines *l, const char *run)
{
	char time[MANAGER_TIME_LEN];
	struct run_view v;
	struct err e = {0};
	int ret;

	if (c->ops->live->open(c->backend, c->param, run, FOLLOW_NOT, &v, &e) < 0) {
		if (e.kind == ERR_NOTFOUND) /* pruned meanwhile */
			return 0;
		manager_fail(c, &e, "open a run");
		return -1;
	}
	manager_time(v.spool.head->begun_us, time);
	l->time = time;
	ret = put_run(l, &v, &e);
	l->time = NULL;
	c->ops->live->close(&v);
	if (ret < 0)
		manager_fail(c, &e, "read the output of a run");
	return ret;
}

void manager_logs(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	struct tries t = {.n = 0};
	struct lines l = {.out = &c->rs->body, .left = LOGS_BYTES_MAX};
	struct err e = {0};
	char since[64];
	int ret = 0;

	if (query_get(c->rq->uri, "since", since, sizeof since) != 0) {
		dialect_detail(c, 422, "since: when a line was written is not kept");
		return;
	}
	if (manager_find(c, &b) < 0)
		return;
	t.since = kw_text(b.record, "since");
	if (c->ops->live->runs(c->backend, c->param, pick, &t, &e) < 0) {
		manager_fail(c, &e, "list the runs of a sandbox");
		return;
	}
	for (size_t i = 0; i < NELEM(l.part); i++)
		l.part[i] = BUF_INIT(LOGS_BYTES_MAX);
	l.out->max = LOGS_ANSWER_MAX;
	buf_adds(l.out, "{\"logs\":[");
	for (unsigned i = t.n > TRIES_MAX ? t.n - TRIES_MAX : 0; i < t.n && ret == 0; i++)
		ret = put_try(c, &l, t.id[i % TRIES_MAX]);
	for (size_t i = 0; i < NELEM(l.part); i++)
		buf_clear(&l.part[i]);
	if (ret < 0)
		return;
	buf_adds(l.out, "]}");
	dialect_status(c, 200);
}

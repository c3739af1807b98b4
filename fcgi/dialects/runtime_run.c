/* One command of the runtime, from its start to its end, and what it printed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/runtime.h"
#include "fcgi/json_out.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

enum { STEP = 65536, WAIT_MS = 60000 };

void rt_ran_clear(struct rt_ran *ran)
{
	buf_clear(&ran->out);
	buf_clear(&ran->err);
}

/* As much of n bytes as there is room for. */
static void keep(struct rt_ran *ran, struct buf *b, size_t max, const char *p, size_t n)
{
	size_t room = max > b->len ? max - b->len : 0;

	ran->cut |= n > room;
	buf_add(b, p, n < room ? n : room);
}

/*
 * The bytes that the spool kept, each stream by itself: of standard output all, since what the caller looks
 * for may be the last of it.
 */
static int collect(struct rt_ran *ran, const struct run_view *v, size_t max, struct err *e)
{
	enum spool_stream stream;
	struct spool_state st;
	OWN_MEM char *step = malloc(STEP);
	uint64_t at, first;
	ssize_t n;

	if (!step)
		return err_set(e, ERR_SETUP, ENOMEM, "read the output of a command");
	spool_look(&v->spool, &st);
	ran->cut |= st.start > 0;
	for (at = st.start; (n = spool_read(&v->spool, at, step, STEP, &stream, &first)) > 0;
		at += (uint64_t)n)
		if (stream == SPOOL_STDERR)
			keep(ran, &ran->err, max, step, (size_t)n);
		else
			buf_add(&ran->out, step, (size_t)n);
	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "read the output of a command");
	if (!buf_ok(&ran->out) || !buf_ok(&ran->err))
		return err_set(e, ERR_SETUP, ENOMEM, "keep the output of a command");
	return 0;
}

/* Until its end; the client's own end, too, ends the wait. */
static int await_end(struct dialect_call *c, struct run_view *v, struct result *r, struct err *e)
{
	struct err why = {0};

	while (!spool_result(&v->spool, r, &why))
		if (c->ops->live->wait(c->backend, v, UINT64_MAX, WAIT_MS, c->rq->conn, e) < 0)
			return -1;
	if (why.kind != ERR_NONE) {
		*e = why;
		return -1;
	}
	if (r->verdict == VERDICT_INTERRUPTED)
		return err_set(e, ERR_BUSY, 0, "the service or its machine ended under a command");
	return 0;
}

int rt_follow(struct dialect_call *c, struct run_view *v, struct rt_ran *ran, struct err *e)
{
	size_t max = (size_t)c->conf->output_max_bytes;
	int ret;

	*ran = (struct rt_ran){.out = BUF_INIT((size_t)c->conf->run_spool_max_bytes + 1024),
		.err = BUF_INIT(max + 1024)};
	ret = await_end(c, v, &ran->result, e);
	return ret == 0 ? collect(ran, v, max, e) : ret;
}

int rt_run(struct dialect_call *c, const char *session, struct run_spec *s, int64_t timeout_ms,
	struct rt_ran *ran, struct err *e)
{
	static const char about[] = "{\"dialect\":\"kweaver_runtime\"}";
	struct err ignored;
	struct run_view v;
	int ret;

	*ran = (struct rt_ran){.cut = false};
	s->workdir = RT_WORKSPACE;
	s->timeout_ms = timeout_ms;
	s->about = about;
	s->about_bytes = sizeof about - 1;
	if (c->ops->live->start(c->backend, session, s, &v, e) < 0)
		return -1;
	ret = rt_follow(c, &v, ran, e);
	/* nobody can ask for it again; one that still runs for a client that is gone ends */
	c->ops->live->forget(c->backend, session, v.id, &ignored);
	c->ops->live->close(&v);
	return ret;
}

void rt_explain(struct rt_ran *ran, int64_t timeout_ms)
{
	static const char *const reasons[VERDICT_MAX] = {
		[VERDICT_MEMORY] = "the memory limit was reached",
		[VERDICT_OUTPUT] = "the output limit was reached",
		[VERDICT_PIDS] = "the process limit was reached",
		[VERDICT_DISK] = "the disk limit was reached",
		[VERDICT_KILLED] = "it was stopped",
	};
	const char *gap = ran->err.len && ran->err.p[ran->err.len - 1] != '\n' ? "\n" : "";
	uint32_t verdict = ran->result.verdict;

	if (verdict == VERDICT_TIMEOUT)
		buf_addf(&ran->err, "%sCommand timed out after %gs\n", gap,
			(double)timeout_ms / 1000);
	else if (verdict < VERDICT_MAX && reasons[verdict])
		buf_addf(&ran->err, "%sCommand ended: %s\n", gap, reasons[verdict]);
}

size_t rt_put_output(struct buf *b, struct rt_ran *ran, const char *p, size_t n, size_t max)
{
	size_t shown = utf8_clip(p, n, max);

	ran->cut |= shown < n;
	json_out_raw(b, p, shown);
	return shown;
}

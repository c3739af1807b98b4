#include "fcgi/trace.h"

#include <string.h>
#include <time.h>

#include "fcgi/routes.h"
#include "fcgi/session_dir.h"

bool trace_id_ok(const char *s)
{
	static const char ok[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t n = s ? strspn(s, ok) : 0;

	return n > 0 && n <= REQUEST_ID_MAX && !s[n];
}

/* What we are at, for who finds us dead. */
static struct stats_flight *flight(struct trace *t)
{
	struct stats_seat *seat = t->stats ? t->stats->seat : NULL;

	return seat && atomic_load(&seat->kind) == SEAT_WORKER ? &seat->flight : NULL;
}

void trace_begin(struct trace *t, struct stats *s, const char *id)
{
	struct stats_flight *f;

	*t = (struct trace){.stats = s, .start_us = stats_now_us()};
	memcpy(t->id, id, strnlen(id, REQUEST_ID_MAX));
	f = flight(t);
	if (!f)
		return;
	*f = (struct stats_flight){.method = HTTP_OTHER + 1, .start_us = t->start_us};
	/* The id last: it says that the rest is there. */
	atomic_signal_fence(memory_order_release);
	memcpy(f->id, t->id, sizeof f->id);
	stats_gauge(s, WORKER_BUSY, 1);
}

void trace_route(struct trace *t, enum http_method method, unsigned route)
{
	struct stats_flight *f = t ? flight(t) : NULL;

	if (!t)
		return;
	t->has_method = true;
	t->method = method;
	t->route = route;
	if (!f)
		return;
	f->method = method;
	f->route = route;
}

void trace_session(struct trace *t, const char *id)
{
	struct stats_flight *f = t ? flight(t) : NULL;

	if (!t || !id || !session_id_valid(id))
		return;
	memcpy(t->session, id, sizeof t->session);
	if (f)
		memcpy(f->session, id, sizeof f->session);
}

void trace_run_begin(struct trace *t)
{
	struct stats_flight *f = t ? flight(t) : NULL;

	if (f)
		f->running++;
}

void trace_verdict(struct trace *t, const struct result *r)
{
	if (t && r->verdict < VERDICT_MAX)
		t->verdicts[r->verdict]++;
}

void trace_run_end(struct trace *t, const struct result *r)
{
	struct stats_flight *f = t ? flight(t) : NULL;

	if (!t)
		return;
	if (f)
		f->running--;
	if (!r) {
		stats_add(t->stats, COUNT_RUNS_FAILED, 1);
		return;
	}
	stats_run(t->stats, r);
	trace_verdict(t, r);
}

void trace_end(struct trace *t, uint64_t us)
{
	struct stats_flight *f = flight(t);

	stats_request(t->stats, t->route, t->status, us);
	stats_add(t->stats, COUNT_BYTES_IN, t->bytes_in);
	stats_add(t->stats, COUNT_BYTES_OUT, t->bytes_out);
	if (t->cut)
		stats_add(t->stats, COUNT_CUT, 1);
	if (!f)
		return;
	f->id[0] = '\0';
	stats_gauge(t->stats, WORKER_BUSY, 0);
}

/* The worker was ours, but it may have been turned: nothing of it is believed. */
bool trace_of_dead(struct trace *t, struct stats *s, pid_t pid)
{
	struct stats_flight f;
	const struct result lost = {.verdict = VERDICT_INTERRUPTED};

	if (!stats_bury(s, pid, &f) || !trace_id_ok(f.id))
		return false;
	*t = (struct trace){.stats = s,
		.has_method = f.method <= HTTP_OTHER,
		.method = (enum http_method)f.method,
		.route = f.route < routes_count() ? f.route : ROUTES_NONE,
		.start_us = f.start_us < stats_now_us() ? f.start_us : stats_now_us(),
		.cut = true};
	memcpy(t->id, f.id, sizeof t->id);
	if (session_id_valid(f.session))
		memcpy(t->session, f.session, sizeof t->session);
	for (uint32_t i = 0; i < f.running && i < 64; i++) {
		t->verdicts[VERDICT_INTERRUPTED]++;
		stats_run(s, &lost);
	}
	return true;
}

static void put_time(struct buf *out, uint64_t us)
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	char text[32];

	gmtime_r(&s, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	buf_addf(out, "\"%s.%03uZ\"", text, (unsigned)(us / 1000 % 1000));
}

static void put_verdicts(struct buf *out, const uint32_t n[VERDICT_MAX])
{
	const char *comma = "";

	buf_adds(out, "{");
	for (uint32_t v = 0; v < VERDICT_MAX; v++) {
		if (!n[v])
			continue;
		buf_addf(out, "%s\"%s\":%u", comma, verdict_name(v), n[v]);
		comma = ",";
	}
	buf_adds(out, "}");
}

void trace_line(const struct trace *t, uint64_t time_us, uint64_t us, pid_t pid, struct buf *out)
{
	buf_adds(out, "{\"time\":");
	put_time(out, time_us);
	buf_addf(out, ",\"id\":\"%s\",\"method\":", t->id);
	if (t->has_method)
		buf_addf(out, "\"%s\"", routes_method(t->method));
	else
		buf_adds(out, "null");
	buf_adds(out, ",\"route\":\"");
	routes_template(t->route, out);
	buf_addf(out, "\",\"status\":%d,\"bytes_in\":%llu,\"bytes_out\":%llu,\"ms\":%llu.%03u",
		t->status, (unsigned long long)t->bytes_in, (unsigned long long)t->bytes_out,
		(unsigned long long)(us / 1000), (unsigned)(us % 1000));
	if (*t->session)
		buf_addf(out, ",\"session\":\"%s\"", t->session);
	else
		buf_adds(out, ",\"session\":null");
	buf_adds(out, ",\"verdicts\":");
	put_verdicts(out, t->verdicts);
	buf_addf(out, ",\"cut\":%s,\"pid\":%d}\n", t->cut ? "true" : "false", (int)pid);
}

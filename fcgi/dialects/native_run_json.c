/* What is told of a run. */
#include <errno.h>
#include <string.h>

#include "fcgi/base64.h"
#include "fcgi/dialects/native_runs.h"
#include "fcgi/json_out.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

enum { STEP = 16384 };

/* Seconds since the epoch, or null for 0. */
static void put_time(struct buf *b, int64_t us)
{
	if (us <= 0)
		buf_adds(b, "null");
	else
		buf_addf(b, "%lld.%03lld", (long long)(us / 1000000),
			(long long)(us % 1000000 / 1000));
}

/* What only a control group tells is left out without one: a 0 would be made up. */
static void put_usage(struct buf *b, const struct result *r)
{
	buf_addf(b, ",\"usage\":{\"wall_ms\":%llu,\"user_ms\":%llu,\"system_ms\":%llu,",
		(unsigned long long)(r->wall_us / 1000), (unsigned long long)(r->user_us / 1000),
		(unsigned long long)(r->system_us / 1000));
	buf_addf(b, "\"memory_peak_bytes\":%llu,\"memory_peak_of\":\"%s\",",
		(unsigned long long)(r->in_cgroup ? r->memory_peak_bytes : r->rss_peak_kib * 1024),
		r->in_cgroup ? "sandbox" : "process");
	buf_addf(b, "\"disk_read_bytes\":%llu,\"disk_write_bytes\":%llu",
		(unsigned long long)r->disk_read_bytes, (unsigned long long)r->disk_write_bytes);
	if (r->processes)
		buf_addf(b, ",\"processes\":%u", r->processes);
	if (r->in_cgroup)
		buf_addf(b,
			",\"cpu_ms\":%llu,\"throttled_ms\":%llu,\"oom_kills\":%u,"
			"\"pids_denied\":%u,\"processes_peak\":%u",
			(unsigned long long)(r->cpu_us / 1000),
			(unsigned long long)(r->throttled_us / 1000), r->oom_kills, r->pids_denied,
			r->pids_peak);
	buf_addc(b, '}');
}

void native_put_receipt(struct buf *b, const struct result *r)
{
	bool known = r->verdict != VERDICT_INTERRUPTED;

	buf_addf(b, "\"verdict\":\"%s\",\"exit_code\":", verdict_name(r->verdict));
	if (known)
		buf_addf(b, "%d", r->exit_code);
	else
		buf_adds(b, "null"); /* nobody saw its end */
	if (known && r->signal)
		buf_addf(b, ",\"signal\":%d", r->signal);
	buf_addf(b, ",\"output_bytes\":%llu,\"truncated\":%s", (unsigned long long)r->output_bytes,
		r->truncated ? "true" : "false");
	if (known)
		put_usage(b, r);
}

void native_put_run(struct buf *b, const char *id, const struct spool_head *h, bool ended,
	const char *about, size_t about_bytes)
{
	bool failed = ended && h->err.kind != ERR_NONE;

	buf_addf(b, "{\"id\":\"%s\",\"state\":\"%s\",\"begun_at\":", id,
		failed  ? "failed"
		: ended ? "ended"
			: "running");
	put_time(b, h->begun_us);
	buf_adds(b, ",\"ended_at\":");
	put_time(b, ended ? h->ended_us : 0);
	buf_addf(b, ",\"output\":{\"first_offset\":%llu,\"end_offset\":%llu}",
		(unsigned long long)h->start, (unsigned long long)h->written);
	if (about_bytes > 0) {
		buf_adds(b, ",\"request\":");
		buf_add(b, about, about_bytes);
	}
	buf_addc(b, ',');
	if (failed) {
		buf_adds(b, "\"verdict\":null,\"error\":");
		json_out_text(b, h->err.msg);
	} else if (ended) {
		native_put_receipt(b, &h->result);
	} else {
		buf_adds(b, "\"verdict\":null");
	}
	buf_addc(b, '}');
}

void native_put_view(struct buf *b, const struct run_view *v)
{
	struct spool_head h = {.begun_us = v->spool.head->begun_us};
	OWN_MEM char *about = malloc(SPOOL_MARKS);
	struct spool_state st;
	bool ended = spool_result(&v->spool, &h.result, &h.err);
	ssize_t n = about && v->about_fd >= 0 ? pread(v->about_fd, about, SPOOL_MARKS, 0) : 0;

	spool_look(&v->spool, &st);
	h.ended_us = ended ? v->spool.head->ended_us : 0;
	h.start = st.start;
	h.written = st.written;
	native_put_run(b, v->id, &h, ended, about, n > 0 ? (size_t)n : 0);
}

void native_put_output(
	struct buf *b, enum spool_stream stream, uint64_t offset, const char *p, size_t n)
{
	static const char *const names[] = {"output", "stdout", "stderr"};

	buf_addf(b, "{\"type\":\"output\",\"stream\":\"%s\",\"offset\":%llu,\"next\":%llu,",
		names[stream <= SPOOL_STDERR ? stream : 0], (unsigned long long)offset,
		(unsigned long long)(offset + n));
	buf_adds(b, "\"data\":\"");
	if (utf8_valid(p, n)) {
		json_out_raw(b, p, n);
		buf_adds(b, "\"}");
	} else {
		base64_encode(b, p, n);
		buf_adds(b, "\",\"encoding\":\"base64\"}");
	}
}

int native_put_kept(struct buf *b, const struct run_view *v, enum spool_stream stream, size_t max,
	uint64_t *next, struct err *e)
{
	char step[STEP];
	size_t held = 0, done = 0;
	enum spool_stream of;
	struct spool_state st;
	uint64_t at, first;
	ssize_t n;

	spool_look(&v->spool, &st);
	buf_addc(b, '"');
	for (at = st.start; done < max; at += (uint64_t)n) {
		size_t whole;

		n = spool_read(&v->spool, at, step + held, sizeof step - held, &of, &first);
		if (n < 0 && errno == ERANGE &&
			first > at) { /* it still runs: what is gone is gone */
			at = first;
			n = 0;
			continue;
		}
		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read the output of a run");
		if (n == 0)
			break;
		if (of != stream)
			continue;
		done += (size_t)n;
		whole = held + (size_t)n;
		held = utf8_cut_tail(step, whole);
		json_out_raw(b, step, whole - held);
		memmove(step, step + whole - held, held);
	}
	json_out_raw(b, step, held);
	buf_addc(b, '"');
	*next = at;
	return 0;
}

#include "fcgi/metrics.h"

#include <string.h>

#include "fcgi/routes.h"
#include "fcgi/warm.h"
#include "isolate/own.h"

static uint64_t get(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

/* The inside of a label's value: backslash, quote and line feed escaped. */
static void put_label(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n') {
			buf_adds(out, "\\n");
			continue;
		}
		if (*text == '\\' || *text == '"')
			buf_addc(out, '\\');
		buf_addc(out, *text);
	}
}

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_addf(out, "# HELP cgibox_%s %s\n# TYPE cgibox_%s %s\n", name, help, name, type);
}

static void sample(
	struct buf *out, const char *name, const char *label, const char *value, uint64_t v)
{
	buf_addf(out, "cgibox_%s", name);
	if (label && value) {
		buf_addf(out, "{%s=\"", label);
		put_label(out, value);
		buf_adds(out, "\"}");
	}
	buf_addf(out, " %llu\n", (unsigned long long)v);
}

/* Microseconds as seconds, exactly. */
static void put_seconds(struct buf *out, uint64_t us)
{
	char text[32];
	int n = snprintf(text, sizeof text, "%llu.%06llu", (unsigned long long)(us / 1000000),
		(unsigned long long)(us % 1000000));

	while (text[n - 1] == '0' && text[n - 2] != '.')
		n--;
	buf_add(out, text, (size_t)n);
}

/* labels: "" or `a="b",`, as it stands before le. */
static void histogram(
	struct buf *out, const char *name, const char *labels, const struct stats_hist *h)
{
	uint64_t sum_us = get(&h->sum_us), count = 0;
	size_t n = strlen(labels);

	for (int i = 0; i <= STATS_BOUNDS; i++) {
		count += get(&h->in[i]);
		buf_addf(out, "cgibox_%s_bucket{%sle=\"", name, labels);
		if (i < STATS_BOUNDS)
			put_seconds(out, stats_bound_us[i]);
		else
			buf_adds(out, "+Inf");
		buf_addf(out, "\"} %llu\n", (unsigned long long)count);
	}
	for (int i = 0; i < 2; i++) {
		buf_addf(out, "cgibox_%s_%s", name, i ? "count" : "sum");
		if (n)
			buf_addf(out, "{%.*s}", (int)n - 1, labels); /* without the comma */
		buf_addc(out, ' ');
		if (i)
			buf_addf(out, "%llu\n", (unsigned long long)count);
		else
			put_seconds(out, sum_us);
		if (!i)
			buf_addc(out, '\n');
	}
}

static void put_route(struct buf *labels, unsigned number)
{
	const struct route *r = routes_at(number);
	OWN_BUF path = BUF_INIT(1024);

	routes_template(number, &path);
	buf_addf(labels, "method=\"%s\",route=\"", r ? routes_method(r->method) : "any");
	put_label(labels, path.p ? path.p : "");
	buf_adds(labels, "\",");
}

static void write_requests(const struct stats_page *p, struct buf *out)
{
	family(out, "http_requests_total", "counter", "Requests answered.");
	for (unsigned i = 0; i < routes_count(); i++) {
		OWN_BUF labels = BUF_INIT(2048);

		put_route(&labels, i);
		for (int s = 0; s < STATS_STATUSES; s++) {
			uint64_t v = get(&p->route[i].status[s]);

			if (!v)
				continue;
			buf_addf(out, "cgibox_http_requests_total{%sstatus=\"", labels.p);
			if (stats_status[s])
				buf_addf(out, "%d", stats_status[s]);
			else
				buf_adds(out, "other");
			buf_addf(out, "\"} %llu\n", (unsigned long long)v);
		}
	}
}

/* Routes that nobody used are left out: they would be most of the text. */
static void write_durations(const struct stats_page *p, struct buf *out)
{
	family(out, "http_request_duration_seconds", "histogram",
		"From the worker's first look to the end of the answer.");
	for (unsigned i = 0; i < routes_count(); i++) {
		OWN_BUF labels = BUF_INIT(2048);
		uint64_t used = 0;

		for (int b = 0; b <= STATS_BOUNDS; b++)
			used += get(&p->route[i].wall.in[b]);
		if (!used)
			continue;
		put_route(&labels, i);
		histogram(out, "http_request_duration_seconds", labels.p, &p->route[i].wall);
	}
}

static void write_runs(const struct stats_page *p, struct buf *out)
{
	family(out, "runs_total", "counter", "Commands that ended, by their verdict.");
	for (uint32_t v = 0; v < VERDICT_MAX; v++)
		sample(out, "runs_total", "verdict", verdict_name(v), get(&p->verdict[v]));
}

static void write_times(const struct stats_page *p, struct buf *out)
{
	static const struct {
		const char *name, *help;
	} of[HIST_MAX] = {
		[HIST_QUEUE] = {"queue_wait_seconds", "Wait of a connection for a worker."},
		[HIST_LOCK] = {"session_lock_wait_seconds", "Wait for a session that is busy."},
		[HIST_SANDBOX] = {"sandbox_ready_seconds", "Start of a sandbox until it is ready."},
		[HIST_RUN] = {"run_duration_seconds", "Wall time of commands."},
	};

	for (int i = 0; i < HIST_MAX; i++) {
		family(out, of[i].name, "histogram", of[i].help);
		histogram(out, of[i].name, "", &p->hist[i]);
	}
}

/* Counters without a label, or one of several with the same name and one label. */
static void write_counts(const struct stats_page *p, struct buf *out)
{
	static const struct {
		enum stats_count at;
		const char *name, *label, *value, *help;
	} of[] = {
		{COUNT_BYTES_IN, "http_request_bytes_total", NULL, NULL,
			"Bytes of request bodies."},
		{COUNT_BYTES_OUT, "http_response_bytes_total", NULL, NULL,
			"Bytes of answers' bodies."},
		{COUNT_CUT, "http_answers_cut_total", NULL, NULL,
			"Answers that did not reach their client whole."},
		{COUNT_LOG_LOST, "access_log_lost_total", NULL, NULL,
			"Lines of the access log that could not be written."},
		{COUNT_RUNS_FAILED, "runs_failed_total", NULL, NULL,
			"Commands that could not be started or followed."},
		{COUNT_OUTPUT_BYTES, "run_output_bytes_total", NULL, NULL,
			"Bytes that commands wrote, kept or not."},
		{COUNT_SANDBOX_FAILED, "sandboxes_failed_total", NULL, NULL,
			"Sandboxes that did not become ready."},
		{COUNT_WORKER_DEATHS, "process_deaths_total", "process", "worker",
			"Processes that ended unasked and were replaced."},
		{COUNT_KEEPER_DEATHS, "process_deaths_total", "process", "keeper", NULL},
		{COUNT_PULLS, "image_pulls_total", NULL, NULL, "Pulls of images that were begun."},
		{COUNT_PULLS_FAILED, "image_pulls_failed_total", NULL, NULL,
			"Pulls of images that failed."},
		{COUNT_KILL_MEMORY, "watchdog_kills_total", "reason", "memory",
			"Sandboxes that the watchdog ended."},
		{COUNT_KILL_SOCKETS, "watchdog_kills_total", "reason", "sockets", NULL},
		{COUNT_KILL_RESERVE, "watchdog_kills_total", "reason", "reserve", NULL},
		{COUNT_KILL_BLIND, "watchdog_kills_total", "reason", "unmeasurable", NULL},
		{COUNT_KILL_DISK, "watchdog_kills_total", "reason", "disk", NULL},
	};

	for (size_t i = 0; i < NELEM(of); i++) {
		if (of[i].help)
			family(out, of[i].name, "counter", of[i].help);
		sample(out, of[i].name, of[i].label, of[i].value, get(&p->count[of[i].at]));
	}
	family(out, "run_cpu_seconds_total", "counter",
		"Processor time of commands and the children they waited for.");
	for (int i = 0; i < 2; i++) {
		buf_addf(out, "cgibox_run_cpu_seconds_total{mode=\"%s\"} ", i ? "system" : "user");
		put_seconds(out, get(&p->count[i ? COUNT_SYSTEM_US : COUNT_USER_US]));
		buf_addc(out, '\n');
	}
}

/* The sums over all living processes of a kind. */
struct seats {
	uint64_t n[SEAT_KEEPER + 1];
	uint64_t gauge[SEAT_KEEPER + 1][STATS_GAUGES];
};

static void count_seats(const struct stats *s, struct seats *sum)
{
	*sum = (struct seats){0};
	for (int i = 0; i < STATS_SEATS; i++) {
		const struct stats_seat *seat = &s->page->seat[i];
		uint32_t kind = atomic_load(&seat->kind);

		if (kind < SEAT_MAIN || kind > SEAT_KEEPER || !stats_seated(s, seat))
			continue;
		sum->n[kind]++;
		for (int g = 0; g < STATS_GAUGES; g++)
			sum->gauge[kind][g] += get(&seat->gauge[g]);
	}
}

static void write_workers(const struct seats *sum, struct buf *out)
{
	uint64_t busy = sum->gauge[SEAT_WORKER][WORKER_BUSY], all = sum->n[SEAT_WORKER];

	busy = busy > all ? all : busy;
	family(out, "workers", "gauge", "Worker processes, by what they do.");
	sample(out, "workers", "state", "busy", busy);
	sample(out, "workers", "state", "idle", all - busy);
	family(out, "workers_max", "gauge", "Requests that can be handled at the same time.");
	sample(out, "workers_max", NULL, NULL, sum->gauge[SEAT_MAIN][MAIN_WORKERS_MAX]);
	family(out, "connections", "gauge", "Connections of the web server that no worker has.");
	sample(out, "connections", "state", "silent", sum->gauge[SEAT_MAIN][MAIN_SILENT]);
	sample(out, "connections", "state", "queued", sum->gauge[SEAT_MAIN][MAIN_QUEUED]);
}

static void write_keeper(const struct seats *sum, struct buf *out)
{
	static const struct {
		int at;
		const char *name, *help;
	} of[] = {
		{KEEPER_SESSIONS, "sessions", "Sessions on disk."},
		{KEEPER_SANDBOXES, "sandboxes", "Sandboxes that are alive."},
		{KEEPER_SANDBOXES_MAX, "sandboxes_max", "Sandboxes that may be alive at once."},
		{KEEPER_PULLS, "image_pulls_running", "Pulls of images that are going on."},
		{KEEPER_DISK_BYTES, "disk_bytes", "Size of the state directory's file system."},
		{KEEPER_DISK_FREE_BYTES, "disk_free_bytes", "What is free of it to the service."},
		{KEEPER_DISK_INODES, "disk_inodes", "Files that file system can hold."},
		{KEEPER_DISK_FREE_INODES, "disk_free_inodes", "What is free of them."},
		{KEEPER_MEMORY_BYTES, "service_memory_bytes",
			"Memory of the service's own processes that they do not share."},
		{KEEPER_SANDBOX_MEMORY_BYTES, "sandbox_memory_bytes",
			"Memory of all sandboxes; absent without a control group that tells."},
		{KEEPER_MACHINE_BYTES, "machine_memory_bytes", "Memory of the machine."},
		{KEEPER_MACHINE_FREE_BYTES, "machine_memory_available_bytes",
			"What of it is available."},
		{KEEPER_STARTED_S, "keeper_start_time_seconds",
			"When the process that holds the sessions began, since 1970."},
	};

	for (size_t i = 0; i < NELEM(of) && sum->n[SEAT_KEEPER]; i++) {
		uint64_t v = sum->gauge[SEAT_KEEPER][of[i].at];

		if (of[i].at == KEEPER_SANDBOX_MEMORY_BYTES && !v)
			continue; /* a 0 would be made up */
		family(out, of[i].name, "gauge", of[i].help);
		sample(out, of[i].name, NULL, NULL, v);
	}
}

/* Counters that begin anew with the keeper: Prometheus takes that for what it is. */
static void write_prepared(const struct seats *sum, struct buf *out)
{
	static const struct {
		int at;
		const char *event;
	} of[] = {{KEEPER_PREPARED_MADE, "made"}, {KEEPER_PREPARED_CLAIMED, "claimed"},
		{KEEPER_PREPARED_MISSED, "missed"}, {KEEPER_PREPARED_FAILED, "failed"},
		{KEEPER_PREPARED_TRIMMED, "trimmed"}};
	const uint64_t *gauge = sum->gauge[SEAT_KEEPER];

	if (!sum->n[SEAT_KEEPER])
		return;
	family(out, "prepared_ready", "gauge", "Sandboxes that were prepared ahead and wait.");
	sample(out, "prepared_ready", NULL, NULL, gauge[KEEPER_PREPARED]);
	family(out, "prepared_total", "counter",
		"What became of sandboxes that are prepared ahead; missed: a start found none.");
	for (size_t i = 0; i < NELEM(of); i++)
		sample(out, "prepared_total", "event", of[i].event, gauge[of[i].at]);
}

static void write_warm(const struct seats *sum, struct buf *out)
{
	static const struct {
		int at;
		const char *event;
	} of[] = {{KEEPER_WARM_MADE, "made"}, {KEEPER_WARM_CLAIMED, "claimed"},
		{KEEPER_WARM_MISSED, "missed"}, {KEEPER_WARM_FAILED, "failed"},
		{KEEPER_WARM_TRIMMED, "trimmed"}};
	const uint64_t *gauge = sum->gauge[SEAT_KEEPER];

	if (!sum->n[SEAT_KEEPER])
		return;
	family(out, "interpreters_ready", "gauge", "Interpreters that have started and wait.");
	sample(out, "interpreters_ready", NULL, NULL, gauge[KEEPER_WARM]);
	family(out, "interpreters_bytes", "gauge", "Private memory of those, as they say.");
	sample(out, "interpreters_bytes", NULL, NULL, gauge[KEEPER_WARM_BYTES]);
	family(out, "interpreters_total", "counter",
		"What became of interpreters that wait; missed: code found none.");
	for (size_t i = 0; i < NELEM(of); i++)
		sample(out, "interpreters_total", "event", of[i].event, gauge[of[i].at]);
	family(out, "interpreters_cold_total", "counter",
		"Code that no interpreter that waits could be given.");
	for (unsigned i = COLD_NOT + 1; i < COLD_REASONS; i++)
		sample(out, "interpreters_cold_total", "reason", warm_cold_name((enum code_cold)i),
			gauge[KEEPER_WARM_COLD + i]);
}

void metrics_write(const struct stats *s, const struct metrics_info *info, struct buf *out)
{
	struct seats sum;

	count_seats(s, &sum);
	family(out, "build_info", "gauge", "What runs here; always 1.");
	buf_adds(out, "cgibox_build_info{version=\"" VERSION "\",backend=\"");
	put_label(out, info->backend);
	buf_adds(out, "\"} 1\n");
	family(out, "up", "gauge", "Whether the process that holds the sessions answers.");
	sample(out, "up", NULL, NULL, info->keeper_up);
	write_requests(s->page, out);
	write_durations(s->page, out);
	write_runs(s->page, out);
	write_times(s->page, out);
	write_counts(s->page, out);
	write_workers(&sum, out);
	write_keeper(&sum, out);
	write_prepared(&sum, out);
	write_warm(&sum, out);
}

/* The report of a run: one JSON object, for programs. Numbers that nobody measured are null. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "isolate/main_run.h"
#include "isolate/own.h"

/* A JSON string. Messages quote names of any bytes: what is no ASCII becomes "?". */
static void put_string(struct buf *b, const char *s)
{
	buf_addc(b, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			buf_addf(b, "\\%c", c);
		else if (c < 0x20)
			buf_addf(b, "\\u%04x", c);
		else
			buf_addc(b, c < 0x7f ? (char)c : '?');
	}
	buf_addc(b, '"');
}

static void put_number(struct buf *b, const char *name, uint64_t value, bool known)
{
	buf_addf(b, ",\"%s\":", name);
	if (known)
		buf_addf(b, "%llu", (unsigned long long)value);
	else
		buf_adds(b, "null");
}

static void put_result(struct buf *b, const struct run_outcome *o)
{
	const struct result *r = &o->result;
	bool group = o->ran && r->in_cgroup;

	put_number(b, "signal", (uint64_t)r->signal, o->ran && r->signal);
	put_number(b, "wall_us", r->wall_us, o->ran);
	put_number(b, "user_us", r->user_us, o->ran);
	put_number(b, "system_us", r->system_us, o->ran);
	put_number(b, "rss_peak_kib", r->rss_peak_kib, o->ran);
	put_number(b, "disk_read_bytes", r->disk_read_bytes, o->ran);
	put_number(b, "disk_write_bytes", r->disk_write_bytes, o->ran);
	put_number(b, "processes", r->processes, o->ran && r->processes);
	put_number(b, "output_bytes", r->output_bytes, o->ran && o->output_counted);
	buf_addf(b, ",\"truncated\":%s", o->ran && r->truncated ? "true" : "false");
	put_number(b, "oom_kills", r->oom_kills, group);
	put_number(b, "pids_denied", r->pids_denied, group);
	put_number(b, "pids_peak", r->pids_peak, group && r->pids_peak);
	put_number(b, "memory_peak_bytes", r->memory_peak_bytes, group);
	put_number(b, "cpu_us", r->cpu_us, group);
	put_number(b, "throttled_us", r->throttled_us, group);
}

static int write_out(int fd, const struct buf *b, struct err *e)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = write(fd, b->p + at, b->len - at);

		if (n < 0 && errno != EINTR)
			return err_set(e, ERR_SETUP, errno, "write the report of --json");
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int json_write(int fd, const struct run_outcome *o, struct err *e)
{
	OWN_BUF b = BUF_INIT(1 << 16);
	char why[400];

	buf_adds(&b, "{\"verdict\":");
	if (o->ran)
		put_string(&b, verdict_name(o->result.verdict));
	else
		buf_adds(&b, "null");
	buf_addf(&b, ",\"exit_code\":%d", o->exit_code);
	put_result(&b, o);
	buf_adds(&b, ",\"error\":");
	if (o->err.kind != ERR_NONE)
		put_string(&b, err_text(&o->err, why, sizeof why));
	else
		buf_adds(&b, "null");
	buf_adds(&b, "}\n");
	if (!buf_ok(&b))
		return err_set(e, ERR_SETUP, ENOMEM, "make the report of --json");
	return write_out(fd, &b, e);
}

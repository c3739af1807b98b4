/* POST /session/{id}/: the archive in, the commands one by one, results and patch out. */
#include "fcgi/dialects/daiv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fcgi/base64.h"
#include "fcgi/json_out.h"
#include "fcgi/receipt.h"
#include "fcgi/receipt_log.h"
#include "fcgi/trace.h"
#include "fcgi/utf8.h"
#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	OUTPUT_TOTAL_MAX = 64 << 20, /* kept of all commands of a request; the rest is marked */
	OUTPUT_LEAST = 4096,         /* each command keeps this much in any case */
	READ_STEP = 48 * 1024,       /* a multiple of 3, for base64 */
};

/* One request while it runs. */
struct run {
	struct dialect_call *c;
	struct daiv_run r;
	struct session_info info;
	struct session_call *call;
	int64_t output_left; /* of OUTPUT_TOTAL_MAX */
	bool over;           /* no further command may run */
	struct buf receipts; /* struct receipt each */
};

/* Appends what the spool holds, as the inside of a JSON string. *last: its last byte, or 0. */
static int render_spool(struct buf *b, int fd, int64_t max, bool cut, char *last, struct err *e)
{
	char step[READ_STEP];
	size_t held = 0;
	off_t at = 0;

	*last = '\0';
	while (at < max) {
		size_t want = sizeof step - held, whole;
		ssize_t n;

		if ((int64_t)want > max - at)
			want = (size_t)(max - at);
		n = pread(fd, step + held, want, at);
		if (n < 0)
			return err_set(e, ERR_SETUP, errno, "read a command's output");
		if (n == 0)
			break;
		at += n;
		whole = held + (size_t)n;
		*last = step[whole - 1];
		held = utf8_cut_tail(step, whole);
		json_out_raw(b, step, whole - held);
		memmove(step, step + whole - held, held);
	}
	if (!cut) /* half a character at our own cut is no fault of the output */
		json_out_raw(b, step, held);
	return 0;
}

/* The lines that we add to an output, each on a line of its own. */
static void render_notes(struct buf *b, const struct result *res, int64_t timeout_s, char last)
{
	const char *line = last && last != '\n' ? "\\n" : "";
	unsigned long long dropped = res->output_bytes > res->output_kept
					     ? res->output_bytes - res->output_kept
					     : 0;

	if (res->truncated) {
		buf_addf(b, "%s[output truncated: %llu bytes dropped]\\n", line, dropped);
		line = "";
	}
	if (res->verdict == VERDICT_TIMEOUT)
		buf_addf(b, "%sCommand timed out after %llds", line, (long long)timeout_s);
}

int daiv_exec(struct dialect_call *c, struct session_call *call, const struct command_spec *s,
	struct result *res, struct err *e)
{
	int rc;

	trace_run_begin(c->rq->trace);
	rc = c->ops->exec(call, s, res, e);
	trace_run_end(c->rq->trace, rc < 0 ? NULL : res);
	if (rc == 0 && res->verdict == VERDICT_INTERRUPTED)
		return err_set(e, ERR_BUSY, ECONNRESET, "the sandbox ended under a command");
	return rc;
}

int daiv_put_output(
	struct buf *b, const struct command_spec *s, const struct result *res, struct err *e)
{
	char last;

	if (render_spool(b, s->output_fd, s->output_max_bytes, res->truncated, &last, e) < 0)
		return -1;
	render_notes(b, res, s->timeout_ms / 1000, last);
	return 0;
}

static int render_result(struct run *run, struct json_object *command, const struct command_spec *s,
	const struct result *res, struct err *e)
{
	struct buf *b = &run->c->rs->body;
	int code = res->verdict == VERDICT_TIMEOUT ? 124 : res->exit_code;

	buf_adds(b, "{\"command\":");
	json_out_string(
		b, json_object_get_string(command), (size_t)json_object_get_string_len(command));
	buf_adds(b, ",\"output\":\"");
	if (daiv_put_output(b, s, res, e) < 0)
		return -1;
	buf_addf(b, "\",\"exit_code\":%d,\"verdict\":\"%s\",\"duration_ms\":%llu,\"truncated\":%s",
		code, verdict_name(res->verdict), (unsigned long long)(res->wall_us / 1000),
		res->truncated ? "true" : "false");
	buf_adds(b, ",\"usage\":");
	receipt_usage(b, res);
	buf_addc(b, '}');
	run->over = res->verdict == VERDICT_TIMEOUT || res->verdict == VERDICT_KILLED ||
		    res->verdict == VERDICT_DISK || (run->r.fail_fast && code != 0);
	return 0;
}

/* What is told of it later; the first ones of very many. */
static void note(struct run *run, struct json_object *command, const struct command_spec *s,
	const struct result *res)
{
	struct receipt r = {.result = *res};

	if (!run->c->conf->receipts_kept_max || run->receipts.len / sizeof r >= RECEIPTS_MAX)
		return;
	r.ended_us = clock_real_us();
	r.begun_us = r.ended_us - (int64_t)res->wall_us;
	receipt_describe(&r, json_object_get_string(command),
		(size_t)json_object_get_string_len(command), run->r.workdir, s->timeout_ms);
	buf_add(&run->receipts, &r, sizeof r);
}

/* Before the patch, which may fail. */
static void store_receipts(struct run *run)
{
	const struct buf *b = &run->receipts;
	OWN_FD fd = b->len && run->c->ops->receipts ? memfd_create("receipts", MFD_CLOEXEC) : -1;

	if (fd >= 0 && buf_ok(b) && write(fd, b->p, b->len) == (ssize_t)b->len)
		run->c->ops->receipts(run->call, fd, (unsigned)(b->len / sizeof(struct receipt)));
}

static int run_command(struct run *run, struct json_object *command, bool last, struct err *e)
{
	/* A spool for each: what a straggler writes later cannot reach another's output. */
	OWN_FD fd = memfd_create("output", MFD_CLOEXEC);
	struct command_spec spec = {
		.command = json_object_get_string(command),
		.workdir = *run->r.workdir ? run->r.workdir : NULL,
		.timeout_ms = run->r.timeout_s * 1000,
		.output_max_bytes = run->c->conf->output_max_bytes,
		.output_fd = fd,
		.last = last,
	};
	struct result res = {0};

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "memory for a command's output");
	if (spec.output_max_bytes > run->output_left)
		spec.output_max_bytes = run->output_left > OUTPUT_LEAST ? run->output_left
									: OUTPUT_LEAST;
	if (daiv_exec(run->c, run->call, &spec, &res, e) < 0)
		return -1;
	run->output_left -= (int64_t)res.output_kept < run->output_left ? (int64_t)res.output_kept
									: run->output_left;
	note(run, command, &spec, &res);
	return render_result(run, command, &spec, &res, e);
}

static int run_commands(struct run *run, struct err *e)
{
	size_t n = json_object_array_length(run->r.commands);
	struct buf *b = &run->c->rs->body;

	buf_adds(b, "{\"results\":[");
	for (size_t i = 0; i < n && !run->over; i++) {
		if (i)
			buf_addc(b, ',');
		if (run_command(run, json_object_array_get_idx(run->r.commands, i), i + 1 == n, e) <
			0)
			return -1;
	}
	buf_addc(b, ']');
	return 0;
}

int daiv_put_base64(struct buf *b, int fd, uint64_t bytes, struct err *e)
{
	char step[READ_STEP];

	for (uint64_t at = 0; at < bytes;) {
		size_t have = 0, want = sizeof step;

		if (want > bytes - at)
			want = (size_t)(bytes - at);
		while (have < want) {
			ssize_t n = pread(fd, step + have, want - have, (off_t)(at + have));

			if (n <= 0)
				return err_set(
					e, ERR_SETUP, n < 0 ? errno : EIO, "read what was made");
			have += (size_t)n;
		}
		base64_encode(b, step, have);
		at += have;
	}
	return 0;
}

static int run_patch(struct run *run, struct err *e)
{
	struct buf *b = &run->c->rs->body;
	bool wanted = run->info.extract_patch || run->r.extract_patch;
	OWN_FD fd = -1;
	uint64_t bytes = 0;

	buf_adds(b, ",\"patch\":");
	if (wanted && run->info.has_baseline) {
		fd = memfd_create("patch", MFD_CLOEXEC);
		if (fd < 0)
			return err_set(e, ERR_SETUP, errno, "memory for the patch");
		if (run->c->ops->patch(run->call, fd, &bytes, e) < 0)
			return -1;
	}
	if (bytes == 0) {
		buf_adds(b, "null}");
		return 0;
	}
	buf_addc(b, '"');
	if (daiv_put_base64(b, fd, bytes, e) < 0)
		return -1;
	buf_adds(b, "\"}");
	return 0;
}

static void open_failed(struct dialect_call *c, const struct err *e)
{
	struct err named = *e;

	if (e->kind == ERR_NOTFOUND) {
		dialect_detail(c, 404, "Session not found or already closed");
		return;
	}
	if (e->kind == ERR_BUSY && e->errnum == EWOULDBLOCK) {
		dialect_detail(c, 409, "Session is busy");
		return;
	}
	if (e->kind == ERR_REQUEST && c->body->archive_fd >= 0)
		err_in(&named, "archive is invalid");
	dialect_fail(c, &named, "open a session");
}

static void patch_failed(struct dialect_call *c, const struct err *e)
{
	if (e->kind == ERR_BUSY) {
		dialect_fail(c, e, "make a patch");
		return;
	}
	log_err(LOG_ERROR, e, "request %s: make a patch", c->rq->request_id);
	dialect_detail(c, 500,
		e->kind == ERR_LIMIT ? e->msg
				     : "Failed to extract patch with the changes made by the "
				       "commands. Check the logs for more details.");
}

/* The largest body that the limits allow: every byte of output escaped, the patch in base64. */
size_t daiv_body_max(const struct conf *conf)
{
	int64_t outputs = conf->output_max_bytes > OUTPUT_TOTAL_MAX ? conf->output_max_bytes
								    : OUTPUT_TOTAL_MAX;

	outputs += conf->commands_max * (OUTPUT_LEAST + 512);
	return (size_t)(6 * (outputs + conf->json_max_bytes) + 2 * conf->patch_max_bytes);
}

static void run_open(struct run *run)
{
	struct dialect_call *c = run->c;
	struct err e = {0};
	int ret;

	c->rs->body.max = daiv_body_max(c->conf);
	ret = run_commands(run, &e);
	store_receipts(run);
	if (ret < 0)
		dialect_fail(c, &e, "run a command");
	else if (run_patch(run, &e) < 0)
		patch_failed(c, &e);
	else
		dialect_status(c, 200);
}

void daiv_run(struct dialect_call *c)
{
	struct run run = {.c = c,
		.output_left = OUTPUT_TOTAL_MAX,
		.receipts = BUF_INIT(RECEIPTS_MAX * sizeof(struct receipt) + 1)};
	struct err e = {0};

	if (daiv_check_run(c, &run.r) > 0)
		return;
	if (c->conf->output_max_bytes > run.output_left)
		run.output_left = c->conf->output_max_bytes;
	if (!daiv_id_valid(c->param)) {
		err_set(&e, ERR_NOTFOUND, 0, "no session id");
		open_failed(c, &e);
		return;
	}
	run.call = c->ops->open(c->backend, c->param, c->body->archive_fd, &run.info, &e);
	if (!run.call) {
		open_failed(c, &e);
		return;
	}
	run_open(&run);
	c->ops->close(run.call);
	buf_clear(&run.receipts);
}

/*
 * The first generation of daiv-sandbox: a request has a session of its own, which is gone with it.
 * /repo is the run's directory. Runs in a worker.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fcgi/capabilities.h"
#include "fcgi/deps.h"
#include "fcgi/dialects/daiv.h"
#include "fcgi/dialects/files_call.h"
#include "fcgi/json_out.h"
#include "fcgi/languages.h"
#include "fcgi/one_file.h"
#include "fcgi/trace.h"
#include "fcgi/warm.h"
#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { TIMEOUT_CODE = 124, FOLLOW_MS = 60000, OUTPUT_TOTAL_MAX = 64 << 20, OUTPUT_LEAST = 4096 };

/* One request while it runs. */
struct once {
	struct dialect_call *c;
	struct session_made made;  /* its session, which ends with made.tie */
	struct session_call *call; /* NULL: not open */
	int64_t until_ms;          /* of all its commands together */
	int64_t output_left;
	int64_t mark_ns; /* what is changed from here on, the last command has changed */
	bool over;       /* no further command may run */
};

/* Of all commands of a request together. */
static int64_t time_limit_ms(const struct conf *conf)
{
	return 1000 *
	       (conf->command_timeout_s ? conf->command_timeout_s : conf->command_timeout_max_s);
}

static void once_begin(struct once *o, struct dialect_call *c)
{
	*o = (struct once){.c = c, .made = {.tie = -1}};
	o->output_left = c->conf->output_max_bytes > OUTPUT_TOTAL_MAX ? c->conf->output_max_bytes
								      : OUTPUT_TOTAL_MAX;
	c->rs->body.max = daiv_body_max(c->conf);
}

/* The next tick of the clock that file times come from: everything before it has an earlier time. */
static int64_t mark(void)
{
	const struct timespec step = {0, 500000};
	struct timespec before, now;

	clock_gettime(CLOCK_REALTIME, &before);
	do {
		nanosleep(&step, NULL);
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_sec < before.tv_sec ||
		 (now.tv_sec == before.tv_sec && now.tv_nsec <= before.tv_nsec));
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Runs one command of the request. spool: for its output, the caller's. */
static int execute(struct once *o, const char *command, const char *workdir, int spool,
	struct command_spec *s, struct result *res, struct err *e)
{
	int64_t left = o->until_ms - clock_ms(), max = o->c->conf->output_max_bytes;

	if (max > o->output_left)
		max = o->output_left > OUTPUT_LEAST ? o->output_left : OUTPUT_LEAST;
	*s = (struct command_spec){.command = command,
		.workdir = *workdir ? workdir : NULL,
		.timeout_ms = left > 1 ? left : 1,
		.output_max_bytes = max,
		.output_fd = spool};
	if (daiv_exec(o->c, o->call, s, res, e) < 0)
		return -1;
	/* the note tells the limit, not what earlier commands had left of it */
	s->timeout_ms = time_limit_ms(o->c->conf);
	o->output_left -= (int64_t)res->output_kept;
	o->over = res->verdict == VERDICT_TIMEOUT || res->verdict == VERDICT_KILLED ||
		  res->verdict == VERDICT_DISK;
	return 0;
}

static int run_command(
	struct once *o, struct json_object *command, const char *workdir, struct err *e)
{
	OWN_FD spool = memfd_create("output", MFD_CLOEXEC);
	struct buf *b = &o->c->rs->body;
	struct command_spec s;
	struct result res = {0};

	if (spool < 0)
		return err_set(e, ERR_SETUP, errno, "memory for a command's output");
	if (execute(o, json_object_get_string(command), workdir, spool, &s, &res, e) < 0)
		return -1;
	buf_adds(b, "{\"command\":");
	json_out_string(
		b, json_object_get_string(command), (size_t)json_object_get_string_len(command));
	buf_adds(b, ",\"output\":\"");
	if (daiv_put_output(b, &s, &res, e) < 0)
		return -1;
	buf_addf(b, "\",\"exit_code\":%d}",
		res.verdict == VERDICT_TIMEOUT ? TIMEOUT_CODE : res.exit_code);
	return 0;
}

static int run_all(struct once *o, const struct daiv_once *r, struct err *e)
{
	size_t n = json_object_array_length(r->commands);
	struct buf *b = &o->c->rs->body;

	buf_adds(b, "{\"results\":[");
	for (size_t i = 0; i < n && !o->over; i++) {
		if (i)
			buf_addc(b, ',');
		if (i + 1 == n)
			o->mark_ns = mark();
		if (run_command(o, json_object_array_get_idx(r->commands, i), r->workdir, e) < 0)
			return -1;
	}
	buf_adds(b, "],\"archive\":");
	return 0;
}

/* No process is left in it from here on. */
static void once_rest(struct once *o)
{
	o->c->ops->close(o->call);
	o->call = NULL;
}

static void once_end(struct once *o)
{
	once_rest(o);
	own_close(&o->made.tie);
}

/* What the last command changed; null when that is nothing, or when it was not reached. */
static int put_changed(struct once *o, struct err *e)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_PACK);
	struct buf *b = &o->c->rs->body;

	if (o->mark_ns) {
		files_call_text(&f, "/repo");
		f.o.flags = FILES_CHANGED_ONLY | FILES_AT_REST;
		f.o.offset = o->mark_ns;
		f.o.limit = o->c->conf->patch_max_bytes;
		f.data = memfd_create("changed", MFD_CLOEXEC);
		if (f.data < 0)
			return err_set(e, ERR_SETUP, errno, "memory for the changed files");
		once_rest(o);
		if (o->c->ops->files(o->c->backend, o->made.id, &f.o, &f.texts, f.data, &f.r, e) <
			0)
			return -1;
		if (f.r.code != FILES_OK)
			return err_set(e, f.r.code == FILES_TOO_LARGE ? ERR_LIMIT : ERR_SETUP, 0,
				"the changed files: %s",
				*f.r.text ? f.r.text : files_code_text(f.r.code));
	}
	if (!f.r.records) {
		buf_adds(b, "null}");
		return 0;
	}
	buf_addc(b, '"');
	if (daiv_put_base64(b, f.data, (uint64_t)f.r.bytes, e) < 0)
		return -1;
	buf_adds(b, "\"}");
	return 0;
}

/* No session, or its archive is a bad one. field: the member that names the image, NULL: none. */
static void open_failed(struct dialect_call *c, const struct session_made *made, const char *field,
	const struct err *e)
{
	struct err named = *e;

	if (!*made->id && e->kind == ERR_NOTFOUND && field)
		daiv_refuse_create(c, e, "image_not_found", field);
	else if (!*made->id && e->kind == ERR_LIMIT)
		dialect_detail(c, 422, e->msg);
	else if (*made->id && e->kind == ERR_REQUEST)
		dialect_fail(c, (err_in(&named, "archive is invalid"), &named), "take an archive");
	else if (e->kind == ERR_NOTFOUND)
		dialect_detail(c, 503, e->msg);
	else
		dialect_fail(c, e, "make a session");
}

/* False: the answer is complete. once_end() in any case. */
static bool once_open(struct once *o, struct session_spec *spec, int archive, const char *field)
{
	struct dialect_call *c = o->c;
	struct session_info info;
	struct err e = {0};

	spec->tied = true;
	if (c->ops->create(c->backend, spec, &o->made, &e) == 0) {
		trace_session(c->rq->trace, o->made.id);
		o->call = c->ops->open(c->backend, o->made.id, archive, &info, &e);
	}
	o->until_ms = clock_ms() + time_limit_ms(c->conf);
	if (!o->call)
		open_failed(c, &o->made, field, &e);
	return o->call;
}

/* Clients of that generation count on a network; sandbox.conf says whether there is one. */
static void spec_init(struct session_spec *s, const struct conf *conf, const char *image)
{
	*s = (struct session_spec){.network = conf->network != NETWORK_NONE};
	memccpy(s->image, image, '\0', sizeof s->image - 1);
}

void daiv_run_commands(struct dialect_call *c)
{
	struct session_spec spec;
	struct err e = {0};
	struct daiv_once r;
	struct once o;

	if (daiv_check_once(c, &r) > 0)
		return;
	once_begin(&o, c);
	spec_init(&spec, c->conf, r.image);
	if (!once_open(&o, &spec, c->body->archive_fd, "base_image"))
		; /* answered */
	else if (run_all(&o, &r, &e) < 0 || put_changed(&o, &e) < 0)
		dialect_fail(c, &e, "run commands");
	else
		dialect_status(c, 200);
	once_end(&o);
}

/* --- code --- */

/* The answer: {"output"}, or 400 when the code failed. */
static int answer_code(
	struct once *o, const struct command_spec *s, const struct result *res, struct err *e)
{
	struct buf *b = &o->c->rs->body;
	bool good = res->verdict == VERDICT_OK;

	buf_adds(b, good ? "{\"output\":\"" : "{\"detail\":\"");
	if (daiv_put_output(b, s, res, e) < 0)
		return -1;
	buf_adds(b, "\"}");
	dialect_status(o->c, good ? 200 : 400);
	return 0;
}

static void run_language(struct once *o, const struct daiv_code *r)
{
	OWN_FD spool = memfd_create("output", MFD_CLOEXEC);
	struct command_spec s;
	struct result res = {0};
	struct err e = {0};

	if (spool < 0)
		err_set(&e, ERR_SETUP, errno, "memory for the output");
	else if (execute(o, r->language->command, "", spool, &s, &res, &e) == 0)
		answer_code(o, &s, &res, &e);
	if (e.kind != ERR_NONE)
		dialect_fail(o->c, &e, "run code");
}

/* Until it has ended, or the client has. */
static int follow_code(const struct once *o, struct run_view *v, struct result *res, struct err *e)
{
	struct dialect_call *c = o->c;
	struct err why = {0};

	while (!spool_result(&v->spool, res, &why))
		if (c->ops->live->wait(c->backend, v, UINT64_MAX, FOLLOW_MS, c->rq->conn, e) < 0)
			return -1;
	if (why.kind != ERR_NONE) {
		*e = why;
		return -1;
	}
	trace_verdict(c->rq->trace, res);
	if (res->verdict == VERDICT_INTERRUPTED)
		return err_set(e, ERR_BUSY, ECONNRESET, "the sandbox ended under a command");
	return 0;
}

/* In an interpreter that waits, if code in that session can be given to one. False: it cannot. */
static bool run_waiting(struct once *o, const struct daiv_code *r, const struct session_spec *spec)
{
	const struct live_ops *live = o->c->ops->live;
	enum code_language usual = warm_file_language(r->language);
	OWN_FD spool = live && live->waiting ? memfd_create("output", MFD_CLOEXEC) : -1;
	struct command_spec s = {.output_fd = spool,
		.timeout_ms = time_limit_ms(o->c->conf),
		.output_max_bytes = o->c->conf->output_max_bytes};
	struct code_wanted w = {.language = usual ? usual : warm_row_language(r->language),
		.form = CODE_FILE,
		.cold = !usual      ? COLD_COMMAND
			: r->set->n ? COLD_DEPENDENCIES
				    : COLD_NOT,
		.session = spec,
		.code = r->code,
		.code_bytes = r->code_bytes,
		.input_fd = -1,
		.output_fd = spool,
		.output_max_bytes = s.output_max_bytes,
		.timeout_ms = s.timeout_ms};
	struct result res = {0};
	struct err e = {0};
	struct run_view v;
	int got = spool < 0 || !w.language ? 0 : live->waiting(o->c->backend, &w, &v, &e);

	if (got == 0)
		return false;
	if (got > 0) {
		trace_session(o->c->rq->trace, v.session);
		got = follow_code(o, &v, &res, &e);
		live->close(&v);
		if (got == 0)
			got = answer_code(o, &s, &res, &e);
	}
	if (got < 0)
		dialect_fail(o->c, &e, "run code");
	return true;
}

/* 400 with what the installer said. */
static void install_failed(struct dialect_call *c, const struct deps_answer *a)
{
	struct command_spec s = {.output_fd = a->output_fd,
		.output_max_bytes = c->conf->output_max_bytes,
		.timeout_ms = 1000};
	struct result res = {.verdict = VERDICT_EXIT};
	struct err e = {0};
	struct buf *b = &c->rs->body;

	buf_addf(b, "{\"detail\":\"The dependencies could not be installed (%s %d):\\n",
		a->timed_out ? "timed out, exit code" : "exit code", a->exit_code);
	if (daiv_put_output(b, &s, &res, &e) < 0) {
		dialect_fail(c, &e, "tell why dependencies cannot be installed");
		return;
	}
	buf_adds(b, "\"}");
	dialect_status(c, 400);
}

/* Sets spec->deps to key. False: the answer is complete. */
static bool install(
	struct once *o, const struct daiv_code *r, struct session_spec *spec, struct deps_answer *a)
{
	const struct deps_order order = {.image = spec->image,
		.language = r->language->name,
		.index_url = "",
		.set = r->set};
	struct dialect_call *c = o->c;
	struct err e = {0};

	if (!c->ops->deps) {
		capability_lacking(CAN_DEPENDENCIES, &e);
		dialect_detail(c, 422, e.msg);
		return false;
	}
	if (c->ops->deps->install(c->backend, &order, a, &e) < 0) {
		if (e.kind == ERR_LIMIT || e.kind == ERR_NOTFOUND)
			dialect_detail(c, 422, e.msg);
		else
			dialect_fail(c, &e, "install dependencies");
		return false;
	}
	if (a->failed)
		install_failed(c, a);
	spec->deps = a->key;
	return !a->failed;
}

static void start_code(struct once *o, const struct daiv_code *r, struct session_spec *spec)
{
	struct err e = {0};
	OWN_FD archive = -1;

	archive = one_file_archive(r->language->file, r->code, r->code_bytes, &e);
	if (archive < 0) {
		dialect_fail(o->c, &e, "store the code");
		return;
	}
	if (once_open(o, spec, archive, NULL))
		run_language(o, r);
	once_end(o);
}

static void run_code(struct once *o, const struct daiv_code *r)
{
	struct deps_answer a = {.output_fd = -1};
	struct session_spec spec;

	spec_init(&spec, o->c->conf, r->language->image);
	if ((r->set->n == 0 || install(o, r, &spec, &a)) && !run_waiting(o, r, &spec))
		start_code(o, r, &spec);
	own_close(&a.output_fd);
}

void daiv_run_code(struct dialect_call *c)
{
	struct deps_set set = {.n = 0};
	struct daiv_code r = {.set = &set};
	struct once o;

	if (daiv_check_code(c, &r) > 0)
		return;
	once_begin(&o, c);
	run_code(&o, &r);
}

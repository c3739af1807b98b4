/* POST /session/{id}/runs: what was asked becomes a run; answered at once, at its end, or as a stream. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/dialects/native_runs.h"
#include "fcgi/env_merge.h"
#include "fcgi/json_out.h"
#include "fcgi/schema.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

enum { ARGS_MAX = 1024, ABOUT_MAX = 60000, ABOUT_COMMAND_MAX = 4096, TTY_ROWS = 24, TTY_COLS = 80 };

enum {
	F_COMMAND,
	F_ARGV,
	F_ENV,
	F_WORKDIR,
	F_TIMEOUT,
	F_STDIN,
	F_STDIN_OPEN,
	F_PTY,
	F_MERGE,
	F_DETACH,
	F_STREAM,
	F_MAX
};

static const struct schema_field fields[F_MAX] = {
	[F_COMMAND] = {"command", SCHEMA_STRING, false, true, NULL, NULL},
	[F_ARGV] = {"argv", SCHEMA_STRING_LIST, false, true, NULL, NULL},
	[F_ENV] = {"env", SCHEMA_STRING_MAP, false, true, NULL, NULL},
	[F_WORKDIR] = {"workdir", SCHEMA_STRING, false, true, NULL, NULL},
	[F_TIMEOUT] = {"timeout", SCHEMA_FLOAT, false, true, NULL, NULL},
	[F_STDIN] = {"stdin", SCHEMA_STRING, false, true, NULL, NULL},
	[F_STDIN_OPEN] = {"stdin_open", SCHEMA_BOOL, false, true, NULL, NULL},
	[F_PTY] = {"pty", SCHEMA_ANY, false, true, NULL, NULL},
	[F_MERGE] = {"merge", SCHEMA_BOOL, false, true, NULL, NULL},
	[F_DETACH] = {"detach", SCHEMA_BOOL, false, true, NULL, NULL},
	[F_STREAM] = {"stream", SCHEMA_BOOL, false, true, NULL, NULL},
};

/* One request on its way to a run. */
struct start {
	struct dialect_call *c;
	struct schema_value v[F_MAX];
	const char *argv[ARGS_MAX + 1];
	struct buf env, about;
	char workdir[4096];
	struct run_spec spec;
	bool stream;
};

/* The text of a string without NUL; NULL when it has one. */
static const char *plain(struct json_object *o)
{
	const char *s = json_object_get_string(o);

	return strlen(s) == (size_t)json_object_get_string_len(o) ? s : NULL;
}

static int bad(struct err *e, const char *what)
{
	return err_set(e, ERR_REQUEST, 0, "%s", what);
}

static int take_command(struct start *s, struct err *e)
{
	struct json_object *list = s->v[F_ARGV].json;
	size_t n = s->v[F_ARGV].given ? json_object_array_length(list) : 0;

	if (s->v[F_COMMAND].given == s->v[F_ARGV].given)
		return bad(e, "one of command and argv is needed");
	if (s->v[F_COMMAND].given) {
		s->spec.shell = plain(s->v[F_COMMAND].json);
		if (!s->spec.shell || strlen(s->spec.shell) > (size_t)s->c->conf->command_max_bytes)
			return bad(e, "command: too long, or it holds a NUL character");
		return 0;
	}
	if (n < 1 || n > ARGS_MAX)
		return bad(e, "argv: 1 to 1024 arguments");
	for (size_t i = 0; i < n; i++) {
		s->argv[i] = plain(json_object_array_get_idx(list, i));
		if (!s->argv[i] || strlen(s->argv[i]) > (size_t)s->c->conf->command_max_bytes)
			return bad(e, "argv: an argument is too long or holds a NUL character");
	}
	if (!*s->argv[0])
		return bad(e, "argv: the first argument is empty");
	s->spec.argv = s->argv;
	return 0;
}

int native_put_env(struct json_object *map, struct buf *out, struct err *e)
{
	json_object_object_foreach(map, name, value)
	{
		const char *text = plain(value);
		size_t from = out->len;

		if (!text || strchr(name, '='))
			return bad(
				e, "env: names match [A-Za-z_][A-Za-z0-9_]*, values hold no NUL");
		buf_addf(out, "%s=", name);
		buf_adds(out, text);
		if (!buf_ok(out))
			return bad(e, "env: all variables together are too large");
		if (!env_var_valid(out->p + from, out->len - from))
			return bad(
				e, "env: names match [A-Za-z_][A-Za-z0-9_]*, values hold no NUL");
		buf_add(out, "", 1);
	}
	return buf_ok(out) ? 0 : bad(e, "env: all variables together are too large");
}

static int take_env(struct start *s, struct err *e)
{
	if (!s->v[F_ENV].given)
		return 0;
	if (native_put_env(s->v[F_ENV].json, &s->env, e) < 0)
		return -1;
	s->spec.env = s->env.p;
	s->spec.env_bytes = s->env.len;
	return 0;
}

int native_timeout(const struct conf *c, const struct schema_value *v, int64_t *ms, struct err *e)
{
	int64_t max = c->command_timeout_max_s;
	double t = v->given ? v->d : (double)c->command_timeout_s;

	if (!(t >= 0) || t > (double)max)
		return err_set(e, ERR_REQUEST, 0, "timeout: from 0 (the most) to %lld seconds",
			(long long)max);
	*ms = t > 0 ? (int64_t)(t * 1000) : max * 1000;
	*ms += *ms == 0;
	return 0;
}

static int take_place(struct start *s, struct err *e)
{
	const char *dir = s->v[F_WORKDIR].given ? plain(s->v[F_WORKDIR].json) : "";
	int n;

	if (!dir)
		return bad(e, "workdir must not contain a NUL character");
	n = snprintf(s->workdir, sizeof s->workdir, "%s%s", *dir == '/' ? "" : "/repo/", dir);
	if (n >= (int)sizeof s->workdir)
		return bad(e, "workdir is too long");
	s->spec.workdir = s->workdir;
	return native_timeout(s->c->conf, &s->v[F_TIMEOUT], &s->spec.timeout_ms, e);
}

/* 1 to 4096. */
static int tty_size(struct json_object *pty, const char *name, uint32_t usual, uint32_t *out)
{
	struct json_object *o;
	int64_t v = usual;

	if (json_object_object_get_ex(pty, name, &o)) {
		if (!json_object_is_type(o, json_type_int))
			return -1;
		v = json_object_get_int64(o);
	}
	*out = (uint32_t)v;
	return v < 1 || v > 4096 ? -1 : 0;
}

static int take_streams(struct start *s, struct err *e)
{
	struct json_object *pty = s->v[F_PTY].json;
	bool object = s->v[F_PTY].given && json_object_is_type(pty, json_type_object);
	bool tty = object || (s->v[F_PTY].given && json_object_is_type(pty, json_type_boolean) &&
				     json_object_get_boolean(pty));

	if (s->v[F_PTY].given && !object && !json_object_is_type(pty, json_type_boolean))
		return bad(e, "pty: true, false, or an object with rows and cols");
	s->spec.flags = (tty ? RUN_TTY : 0) | (s->v[F_MERGE].b ? RUN_MERGE : 0) |
			(s->v[F_STDIN_OPEN].b && !tty ? RUN_INPUT : 0);
	if (tty && (tty_size(object ? pty : NULL, "rows", TTY_ROWS, &s->spec.rows) < 0 ||
			   tty_size(object ? pty : NULL, "cols", TTY_COLS, &s->spec.cols) < 0))
		return bad(e, "pty: rows and cols are numbers from 1 to 4096");
	if (s->v[F_DETACH].b && s->v[F_STREAM].b)
		return bad(e, "one of detach and stream");
	s->stream = !s->v[F_DETACH].b && (s->v[F_STREAM].b || native_wants_events(s->c));
	return 0;
}

static void put_flag(struct buf *b, const char *name, bool on)
{
	buf_addf(b, ",\"%s\":%s", name, on ? "true" : "false");
}

/* What GET tells later. Values of variables are not among it: they may be secrets. */
static void describe(struct start *s, const struct session_status *of)
{
	const struct conf *f = s->c->conf;
	struct buf *b = &s->about;
	const char *text = s->spec.shell;

	buf_adds(b, text ? "{\"command\":" : "{\"argv\":[");
	if (text)
		json_out_string(b, text, utf8_clip(text, strlen(text), ABOUT_COMMAND_MAX));
	for (size_t i = 0; !text && s->argv[i] && b->len < ABOUT_COMMAND_MAX; i++) {
		if (i)
			buf_addc(b, ',');
		json_out_string(b, s->argv[i], utf8_clip(s->argv[i], strlen(s->argv[i]), 1024));
	}
	if (!text)
		buf_addc(b, ']');
	buf_adds(b, ",\"workdir\":");
	json_out_text(b, s->workdir);
	put_flag(b, "pty", s->spec.flags & RUN_TTY);
	put_flag(b, "merge", s->spec.flags & (RUN_MERGE | RUN_TTY));
	put_flag(b, "stdin_open", s->spec.flags & (RUN_INPUT | RUN_TTY));
	buf_addf(b, ",\"limits\":{\"timeout_ms\":%lld,\"output_kept_bytes\":%lld,",
		(long long)s->spec.timeout_ms, (long long)f->run_spool_max_bytes);
	buf_addf(b,
		"\"processes\":%lld,\"memory_bytes\":%lld,\"memory_process_bytes\":%lld,"
		"\"file_bytes\":%lld,\"disk_bytes\":%lld,\"cpu_time_s\":%lld}}",
		(long long)f->processes_max,
		(long long)native_least(of->memory_limit, f->memory_max_bytes),
		(long long)f->memory_process_max_bytes, (long long)f->file_max_bytes,
		(long long)native_least(of->disk_limit, f->session_disk_max_bytes),
		(long long)f->cpu_time_max_s);
	s->spec.about = b->p;
	s->spec.about_bytes = b->len;
}

/* Input that is all there from the beginning is a file, which nobody has to pump. */
static int open_stdin(struct start *s, struct err *e)
{
	struct json_object *o = s->v[F_STDIN].json;
	int fd;

	if (!s->v[F_STDIN].given || s->spec.flags & (RUN_TTY | RUN_INPUT))
		return -1;
	fd = memfd_create("stdin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 ||
		write(fd, json_object_get_string(o), (size_t)json_object_get_string_len(o)) !=
			json_object_get_string_len(o) ||
		lseek(fd, 0, SEEK_SET) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) <
			0) {
		err_set(e, ERR_SETUP, errno, "memory for the input");
		own_close(&fd);
	}
	return fd;
}

/* Input for what stays open: as much as the command takes now. */
static int feed_first(struct start *s, struct run_view *v, struct err *e)
{
	struct json_object *o = s->v[F_STDIN].json;
	size_t done = 0;
	OWN_FD fd = -1;

	if (!s->v[F_STDIN].given || !(s->spec.flags & (RUN_TTY | RUN_INPUT)))
		return 0;
	fd = s->c->ops->live->input(v, e);
	if (fd >= 0)
		native_feed(s->c, fd, json_object_get_string(o),
			(size_t)json_object_get_string_len(o), &done, e);
	/* A command that has ended, or does not read, says so by what it does. */
	if (e->kind == ERR_NOTFOUND)
		*e = (struct err){0};
	return e->kind == ERR_NONE ? 0 : -1;
}

int native_put_streams(
	struct buf *b, const struct run_view *v, size_t max, bool *cut, struct err *e)
{
	struct spool_state st;
	uint64_t next;

	spool_look(&v->spool, &st);
	buf_adds(b, "\"stdout\":");
	if (native_put_kept(b, v, SPOOL_STDOUT, max, &next, e) < 0)
		return -1;
	*cut = next < st.written;
	buf_adds(b, ",\"stderr\":");
	if (native_put_kept(b, v, SPOOL_STDERR, max, &next, e) < 0)
		return -1;
	*cut |= next < st.written;
	return 0;
}

static int put_outputs(struct start *s, struct run_view *v, bool *cut, struct err *e)
{
	struct buf *b = &s->c->rs->body;
	size_t max = (size_t)s->c->conf->output_max_bytes;
	struct spool_state st;
	uint64_t next;

	buf_addc(b, ',');
	if (!(s->spec.flags & (RUN_MERGE | RUN_TTY)))
		return native_put_streams(b, v, max, cut, e);
	spool_look(&v->spool, &st);
	buf_adds(b, "\"output\":");
	if (native_put_kept(b, v, SPOOL_OUTPUT, max, &next, e) < 0)
		return -1;
	*cut = next < st.written;
	return 0;
}

/* The whole result of a run that has ended. */
static void answer_result(struct start *s, struct run_view *v, struct result *r)
{
	struct buf *b = &s->c->rs->body;
	struct err e = {0};
	bool cut = false;

	b->max = 16 * (size_t)s->c->conf->output_max_bytes + 65536;
	buf_addf(b, "{\"id\":\"%s\"", v->id);
	if (put_outputs(s, v, &cut, &e) < 0) {
		native_run_fail(s->c, &e, "read the output of a run");
		return;
	}
	r->truncated |= cut;
	buf_addc(b, ',');
	native_put_receipt(b, r);
	buf_adds(b, ",\"request\":");
	buf_add(b, s->spec.about, s->spec.about_bytes);
	buf_addc(b, '}');
	dialect_status(s->c, 200);
}

static void await_result(struct start *s, struct run_view *v)
{
	struct err e = {0}, why;
	struct result r;

	while (!spool_result(&v->spool, &r, &why))
		if (s->c->ops->live->wait(s->c->backend, v, UINT64_MAX, 60000, s->c->rq->conn, &e) <
			0) {
			native_run_fail(s->c, &e, "follow a run");
			return;
		}
	answer_result(s, v, &r);
}

static void answer(struct start *s, struct run_view *v)
{
	struct buf *b = &s->c->rs->body;

	if (s->stream) {
		native_stream(s->c, v, 0, true);
		return;
	}
	if (s->v[F_DETACH].b) {
		struct spool_head h = {.begun_us = v->spool.head->begun_us};

		native_put_run(b, v->id, &h, false, s->spec.about, s->spec.about_bytes);
		dialect_status(s->c, 202);
	} else {
		await_result(s, v);
	}
	s->c->ops->live->close(v);
}

static void begin(struct start *s)
{
	struct dialect_call *c = s->c;
	struct session_status of;
	struct err e = {0};
	struct run_view v;
	OWN_FD in = -1;

	if (take_command(s, &e) < 0 || take_env(s, &e) < 0 || take_place(s, &e) < 0 ||
		take_streams(s, &e) < 0) {
		dialect_detail(c, 422, e.msg);
		return;
	}
	if (c->ops->live->status(c->backend, c->param, &of, &e) < 0) {
		native_run_fail(c, &e, "look at a session");
		return;
	}
	describe(s, &of);
	if (!buf_ok(&s->about) || s->about.len > ABOUT_MAX)
		err_set(&e, ERR_REQUEST, 0, "the request cannot be described");
	in = e.kind == ERR_NONE ? open_stdin(s, &e) : -1;
	s->spec.stdin_fd = in;
	s->spec.follow = s->stream ? FOLLOW_STREAM : FOLLOW_NOT;
	if (e.kind != ERR_NONE || c->ops->live->start(c->backend, c->param, &s->spec, &v, &e) < 0) {
		native_run_fail(c, &e, "start a run");
	} else if (feed_first(s, &v, &e) < 0) {
		native_run_fail(c, &e, "write to a run");
		c->ops->live->close(&v);
	} else {
		answer(s, &v);
	}
}

void native_start(struct dialect_call *c)
{
	OWN_MEM struct start *s = calloc(1, sizeof *s);
	struct err e = {0};

	if (!s) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	s->c = c;
	s->env = BUF_INIT((size_t)c->conf->environment_max_bytes);
	s->about = BUF_INIT(2 * ABOUT_MAX);
	s->spec.stdin_fd = -1;
	if (schema_check(fields, F_MAX, c->body->doc, s->v, NULL, &c->rs->body) > 0) {
		dialect_status(c, 422);
	} else if (buf_clear(&c->rs->body), !daiv_id_valid(c->param)) {
		err_set(&e, ERR_NOTFOUND, 0, "no session id");
		native_run_fail(c, &e, "start a run");
	} else {
		begin(s);
	}
	buf_clear(&s->env);
	buf_clear(&s->about);
}

/* Commands besides the sandbox's own: their output when they have ended, or as it comes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/dialects/native_runs.h"
#include "fcgi/json_out.h"
#include "fcgi/schema.h"
#include "fcgi/utf8.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { ABOUT_MAX = 60000, ABOUT_COMMAND_MAX = 4096, PART = 16384 };

static const char *take_command(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"command", SCHEMA_STRING, true, false, NULL, NULL}};
	struct schema_value v[NELEM(fields)];
	const char *s;

	if (schema_check(fields, NELEM(fields), c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return NULL;
	}
	buf_clear(&c->rs->body);
	s = json_object_get_string(v[0].json);
	if (strlen(s) == (size_t)json_object_get_string_len(v[0].json) &&
		strlen(s) <= (size_t)c->conf->command_max_bytes)
		return s;
	dialect_detail(c, 422, "command: too long, or it holds a NUL character");
	return NULL;
}

static int start(
	struct dialect_call *c, const char *command, enum run_follow how, struct run_view *v)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	OWN_BUF env = BUF_INIT(0), about = BUF_INIT(ABOUT_MAX);
	int64_t s = c->conf->command_timeout_s;
	struct run_spec spec = {.shell = command,
		.flags = RUN_MERGE,
		.follow = how,
		.stdin_fd = -1,
		.timeout_ms = 1000 * (s ? s : c->conf->command_timeout_max_s)};
	struct err e = {0};

	if (manager_find_started(c, &b) < 0)
		return -1;
	buf_adds(&about, "{\"command\":");
	json_out_string(&about, command, utf8_clip(command, strlen(command), ABOUT_COMMAND_MAX));
	buf_addf(&about,
		",\"workdir\":\"/repo\",\"pty\":false,\"merge\":true,\"stdin_open\":false,"
		"\"limits\":{\"timeout_ms\":%lld}}",
		(long long)spec.timeout_ms);
	if (manager_environment(c, &b, &env, &e) == 0) {
		spec.env = env.p;
		spec.env_bytes = env.len;
		spec.about = about.p;
		spec.about_bytes = about.len;
		if (c->ops->live->start(c->backend, c->param, &spec, v, &e) == 0)
			return 0;
	}
	manager_fail(c, &e, "start a command");
	return -1;
}

/* It was this request's alone; what is kept for others would push out the sandbox's own runs. */
static void end(
	const struct live_ops *live, struct backend *b, const char *session, struct run_view *v)
{
	char id[RUN_ID_LEN + 1];
	struct err e = {0};

	memcpy(id, v->id, sizeof id);
	live->close(v);
	if (live->forget(b, session, id, &e) < 0 && e.kind != ERR_NOTFOUND)
		log_err(LOG_INFO, &e, "forget run %s", id);
}

static void answer(struct dialect_call *c, struct run_view *v, const struct result *r)
{
	struct buf *b = &c->rs->body;
	struct result told = *r;
	struct spool_state st;
	struct err e = {0};
	uint64_t next;

	b->max = 8 * (size_t)c->conf->output_max_bytes + 65536;
	buf_adds(b, "{\"output\":");
	if (native_put_kept(b, v, SPOOL_OUTPUT, (size_t)c->conf->output_max_bytes, &next, &e) < 0) {
		manager_fail(c, &e, "read the output of a command");
		return;
	}
	spool_look(&v->spool, &st);
	buf_addc(b, ',');
	told.truncated |= next < st.written;
	native_put_receipt(b, &told);
	buf_addc(b, '}');
	dialect_status(c, 200);
}

void manager_exec(struct dialect_call *c)
{
	const char *command = take_command(c);
	struct err e = {0}, why = {0};
	struct run_view v;
	struct result r;

	if (!command || start(c, command, FOLLOW_NOT, &v) < 0)
		return;
	while (!spool_result(&v.spool, &r, &why))
		if (c->ops->live->wait(c->backend, &v, UINT64_MAX, 60000, c->rq->conn, &e) < 0) {
			manager_fail(c, &e, "follow a command");
			break;
		}
	if (c->rs->status == 0 && why.kind != ERR_NONE)
		manager_fail(c, &why, "start a command");
	else if (c->rs->status == 0)
		answer(c, &v, &r);
	end(c->ops->live, c->backend, c->param, &v);
}

struct stream {
	const struct live_ops *live;
	struct backend *backend;
	char session[SESSION_ID_LEN + 1];
	struct run_view view;
	uint64_t at;
	int conn;
	char part[PART];
};

static void stream_free(void *arg)
{
	struct stream *s = arg;

	end(s->live, s->backend, s->session, &s->view);
	free(s);
}

/* Bytes as they are. What a slow reader missed cannot be said in plain text, so the answer breaks off. */
static int next(struct http_response *rs, struct buf *out)
{
	struct stream *s = rs->more_arg;
	enum spool_stream of;
	struct err why = {0}, e = {0};
	struct result r;
	bool ended = spool_result(&s->view.spool, &r, &why);
	uint64_t first;
	ssize_t n = spool_read(&s->view.spool, s->at, s->part, PART, &of, &first);

	if (n < 0 || (n == 0 && ended && why.kind != ERR_NONE))
		return -1;
	if (n > 0) {
		buf_add(out, s->part, (size_t)n);
		s->at += (uint64_t)n;
		return 1;
	}
	if (ended)
		return 0;
	if (s->live->wait(s->backend, &s->view, s->at, 60000, s->conn, &e) >= 0)
		return 1;
	log_err(LOG_INFO, &e, "follow run %s", s->view.id);
	return -1;
}

void manager_exec_stream(struct dialect_call *c)
{
	const char *command = take_command(c);
	struct stream *s;
	struct run_view v;

	if (!command || start(c, command, FOLLOW_STREAM, &v) < 0)
		return;
	s = calloc(1, sizeof *s);
	if (!s) {
		end(c->ops->live, c->backend, c->param, &v);
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	*s = (struct stream){
		.live = c->ops->live, .backend = c->backend, .view = v, .conn = c->rq->conn};
	memcpy(s->session, c->param, SESSION_ID_LEN);
	c->rs->more = next;
	c->rs->more_arg = s;
	c->rs->more_end = stream_free;
	c->rs->status = 200;
	c->rs->content_type = "text/plain; charset=utf-8";
}

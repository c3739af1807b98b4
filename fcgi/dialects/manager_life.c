/* The life of a sandbox: made, started, stopped, removed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "fcgi/utf8.h"
#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { ABOUT_MAX = 60000, ABOUT_COMMAND_MAX = 4096 };

/* A word for the shell. */
static void put_word(struct buf *b, const char *s)
{
	if (b->len)
		buf_addc(b, ' ');
	buf_addc(b, '\'');
	for (; *s; s++)
		if (*s == '\'')
			buf_adds(b, "'\\''");
		else
			buf_addc(b, *s);
	buf_addc(b, '\'');
}

/* A string is words for the shell as it is; of a list each is one. */
static void put_words(struct buf *b, struct json_object *o)
{
	const char *text = json_object_is_type(o, json_type_string) ? json_object_get_string(o)
								    : "";

	if (*text && b->len)
		buf_addc(b, ' ');
	buf_adds(b, text);
	for (size_t i = 0;
		json_object_is_type(o, json_type_array) && i < json_object_array_length(o); i++)
		put_word(b, json_object_get_string(json_object_array_get_idx(o, i)));
}

/* Entrypoint and command as one line of shell; "" when there are none. -1: too long. */
static int make_line(struct dialect_call *c, const struct manager_box *b, struct buf *line)
{
	struct json_object *o;

	*line = BUF_INIT((size_t)c->conf->command_max_bytes);
	json_object_object_get_ex(b->shown, "entrypoint", &o);
	put_words(line, o);
	json_object_object_get_ex(b->shown, "command", &o);
	put_words(line, o);
	if (buf_ok(line))
		return 0;
	dialect_detail(c, 422, "command and entrypoint are too long");
	return -1;
}

static int set_line(struct dialect_call *c, struct manager_box *b)
{
	OWN_BUF line = BUF_INIT(0);

	if (make_line(c, b, &line) < 0)
		return -1;
	manager_put(b->record, "line", line.len ? line.p : "");
	return 0;
}

int manager_environment(
	const struct dialect_call *c, const struct manager_box *b, struct buf *out, struct err *e)
{
	struct json_object *vars = NULL;

	*out = BUF_INIT((size_t)c->conf->environment_max_bytes);
	json_object_object_get_ex(b->shown, "environment", &vars);
	if (vars) {
		json_object_object_foreach(vars, name, value)
			buf_addf(out, "%s=%s%c", name, json_object_get_string(value), 0);
	}
	return buf_ok(out) ? 0
			   : err_set(e, ERR_REQUEST, 0,
				     "environment: all variables together are over %lld bytes",
				     (long long)c->conf->environment_max_bytes);
}

static int64_t resource(const struct manager_box *b, const char *name)
{
	struct json_object *o = NULL, *v = NULL;

	json_object_object_get_ex(b->shown, "resources", &o);
	json_object_object_get_ex(o, name, &v);
	return v ? json_object_get_int64(v) : 0;
}

/* What GET /session/{id}/runs tells of it; values of variables are not among it. */
static void describe(const char *line, int64_t timeout_ms, struct buf *b)
{
	*b = BUF_INIT(ABOUT_MAX);
	buf_adds(b, "{\"command\":");
	json_out_string(b, line, utf8_clip(line, strlen(line), ABOUT_COMMAND_MAX));
	buf_addf(b,
		",\"workdir\":\"/repo\",\"pty\":false,\"merge\":false,\"stdin_open\":false,"
		"\"limits\":{\"timeout_ms\":%lld}," MANAGER_SERVICE,
		(long long)timeout_ms);
}

/* Begins the command of the sandbox as a run, when it has one. */
static int begin(struct dialect_call *c, struct manager_box *b, struct err *e)
{
	int64_t age = c->conf->manager_age_max_s, timeout = resource(b, "timeout");
	OWN_BUF env = BUF_INIT(0), about = BUF_INIT(0);
	struct run_spec s = {.shell = kw_text(b->record, "line"), .stdin_fd = -1};
	struct run_view v;

	if (!*s.shell)
		return 0;
	if (manager_environment(c, b, &env, e) < 0)
		return -1;
	s.timeout_ms = 1000 * (timeout ? timeout : age ? age : SESSION_AGE_MAX_S);
	s.retries = (unsigned)resource(b, "max_retries");
	describe(s.shell, s.timeout_ms, &about);
	s.env = env.p;
	s.env_bytes = env.len;
	s.about = about.p;
	s.about_bytes = about.len;
	if (!buf_ok(&about))
		return err_set(e, ERR_SETUP, ENOMEM, "describe a command");
	if (c->ops->live->start(c->backend, kw_text(b->shown, "container_id"), &s, &v, e) < 0)
		return -1;
	c->ops->live->close(&v);
	return 0;
}

/*
 * The record says first that it runs, so that of two requests only one begins it; and runs that are
 * younger than that moment are its own.
 */
static int start(struct dialect_call *c, struct manager_box *b)
{
	int64_t now = clock_real_us();
	char time[MANAGER_TIME_LEN], since[24];
	struct err e = {0};

	manager_time(now, time);
	snprintf(since, sizeof since, "%016llx", (unsigned long long)now);
	manager_put(b->record, "wanted", "running");
	manager_put(b->record, "since", since);
	manager_put(b->shown, "started_at", time);
	manager_put(b->shown, "last_active", time);
	b->run[0] = '\0';
	b->tries = 0;
	if (set_line(c, b) < 0 || manager_write(c, b, INDEX_CHANGE, b->version) < 0)
		return -1;
	if (begin(c, b, &e) == 0)
		return 0;
	manager_put(b->record, "wanted", "stopped");
	if (manager_write(c, b, INDEX_CHANGE, 0) == 0)
		manager_fail(c, &e, "start a sandbox");
	return -1;
}

/* --- made --- */

/* What the client can change is a 422. */
static void creation_failed(struct dialect_call *c, const struct err *e)
{
	if (e->kind == ERR_NOTFOUND || e->kind == ERR_LIMIT || e->kind == ERR_REQUEST)
		dialect_detail(c, 422, e->msg);
	else
		dialect_fail(c, e, "make a sandbox");
}

static void set_urls(const struct dialect_call *c, struct manager_box *b)
{
	const char *id = kw_text(b->shown, "container_id");
	struct json_object *ports, *urls;

	json_object_object_get_ex(b->shown, "ports", &ports);
	json_object_object_get_ex(b->shown, "urls", &urls);
	for (size_t i = 0; i < json_object_array_length(ports); i++) {
		struct json_object *p = json_object_array_get_idx(ports, i), *n;
		OWN_BUF url = BUF_INIT(4096);
		char port[16];

		json_object_object_get_ex(p, "internal_port", &n);
		snprintf(port, sizeof port, "%d", json_object_get_int(n));
		buf_addf(&url, "%s/sandboxes/%s/ports/%s/", c->conf->api_prefix, id, port);
		manager_put(p, "url", url.p);
		manager_put(urls, port, url.p);
	}
}

static void name_it(struct manager_box *b, const char *id)
{
	struct json_object *name;
	char usual[32];

	snprintf(usual, sizeof usual, "sandbox-%.8s", id);
	manager_put(b->shown, "container_id", id);
	json_object_object_add(b->shown, "id",
		json_object_new_int64(
			(int64_t)(strtoul(usual + strlen("sandbox-"), NULL, 16) >> 1)));
	if (!json_object_object_get_ex(b->shown, "name", &name) || !name)
		manager_put(b->shown, "name", usual);
}

/* Half of a sandbox is none. */
static void undo(struct dialect_call *c, const char *id)
{
	struct index_question q = kw_question(INDEX_REMOVE, MANAGER_SANDBOX, id);
	struct index_answer a;
	struct err e = {0};

	if (c->ops->destroy(c->backend, id, &e) < 0 && e.kind != ERR_NOTFOUND)
		log_err(LOG_WARN, &e, "sandbox %s", id);
	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, NULL, &e) < 0)
		log_err(LOG_WARN, &e, "sandbox %s", id);
}

void manager_create(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	OWN_MEM struct manager_order *o = calloc(1, sizeof *o);
	struct session_made made = {.tie = -1};
	struct err e = {0};
	OWN_FD turn = -1;

	if (!o) {
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	if (manager_check(c, &b, o) < 0)
		return;
	manager_sweep(c);
	o->spec.tied = true; /* until it is all there */
	if (c->ops->create(c->backend, &o->spec, &made, &e) < 0) {
		creation_failed(c, &e);
		return;
	}
	name_it(&b, made.id);
	set_urls(c, &b);
	if (manager_volumes_make(c, &b, o->volumes, o->nvolumes, &e) < 0)
		creation_failed(c, &e);
	else if ((turn = manager_turn_of(c, made.id)) >= 0 &&
		 manager_write(c, &b, INDEX_ADD, 0) == 0 && start(c, &b) == 0 &&
		 manager_look(c, &b) == 0) {
		if (c->ops->keep(c->backend, &made, &e) == 0) {
			manager_put(b.shown, "status", manager_status(&b));
			kw_answer(c, 201, b.shown);
			return;
		}
		manager_fail(c, &e, "make a sandbox");
	}
	undo(c, made.id);
	own_close(&made.tie);
}

/* --- started and stopped --- */

static int stop_seconds(struct dialect_call *c, int64_t *out)
{
	uint64_t n = MANAGER_STOP_S;

	if (query_number(c->rq->uri, "timeout", &n) < 0 || n > MANAGER_STOP_MAX_S) {
		dialect_detail(c, 422, "timeout: whole seconds, at most 300");
		return -1;
	}
	*out = (int64_t)n;
	return 0;
}

/* SIGTERM, and the time to heed it. What cannot be told is ended all the same. */
static void ask_to_end(struct dialect_call *c, const struct manager_box *b, int64_t seconds)
{
	struct err e = {0}, why;
	struct run_view v;
	struct result r;

	if (c->ops->live->open(c->backend, kw_text(b->shown, "container_id"), b->run,
		    seconds > 0 ? FOLLOW_WAIT : FOLLOW_NOT, &v, &e) < 0)
		return;
	if (!spool_result(&v.spool, &r, &why) && c->ops->live->signal(&v, SIGTERM, &e) == 0 &&
		seconds > 0)
		c->ops->live->wait(
			c->backend, &v, UINT64_MAX, (int)seconds * 1000, c->rq->conn, &e);
	c->ops->live->close(&v);
}

static int stop(struct dialect_call *c, struct manager_box *b, int64_t seconds)
{
	struct err e = {0};

	manager_put(b->record, "wanted", "stopped");
	if (manager_write(c, b, INDEX_CHANGE, b->version) < 0)
		return -1;
	if (*b->run && !b->ended)
		ask_to_end(c, b, seconds);
	if (c->ops->live->stop(c->backend, kw_text(b->shown, "container_id"), &e) == 0)
		return 0;
	manager_fail(c, &e, "stop a sandbox");
	return -1;
}

/* Finds one whose session is there. */
static int find_alive(struct dialect_call *c, struct manager_box *b)
{
	if (manager_find(c, b) < 0 || manager_look(c, b) < 0)
		return -1;
	if (!b->gone)
		return 0;
	dialect_detail(c, 404, "Sandbox has been terminated");
	return -1;
}

/* It runs, as its record says. Whoever wrote that may have died before the one or the other came true. */
static bool runs_as_wanted(const struct manager_box *b)
{
	return !strcmp(manager_status(b), "running") &&
	       !strcmp(kw_text(b->record, "wanted"), "running");
}

/* Starts it anew: what it sees may have been written and not been told. */
static int start_again(struct dialect_call *c, struct manager_box *b)
{
	struct err e = {0};

	if (manager_volumes_give(c, b, &e) == 0)
		return start(c, b);
	manager_fail(c, &e, "start a sandbox");
	return -1;
}

void manager_start(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	OWN_FD turn = manager_turn(c);

	if (turn < 0 || find_alive(c, &b) < 0)
		return;
	if (!runs_as_wanted(&b) &&
		((*b.run && !b.ended && stop(c, &b, MANAGER_STOP_S) < 0) || start_again(c, &b) < 0))
		return;
	manager_done(c, "started");
}

void manager_stop(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	OWN_FD turn = -1;
	int64_t seconds;

	if (stop_seconds(c, &seconds) == 0 && (turn = manager_turn(c)) >= 0 &&
		find_alive(c, &b) == 0 && stop(c, &b, seconds) == 0)
		manager_done(c, "stopped");
}

void manager_restart(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	OWN_FD turn = -1;
	int64_t seconds;

	if (stop_seconds(c, &seconds) == 0 && (turn = manager_turn(c)) >= 0 &&
		find_alive(c, &b) == 0 && stop(c, &b, seconds) == 0 && start_again(c, &b) == 0)
		manager_done(c, "restarted");
}

int manager_apply(struct dialect_call *c, struct manager_box *b)
{
	OWN_BUF line = BUF_INIT(0);

	if (make_line(c, b, &line) < 0 || manager_look(c, b) < 0)
		return -1; /* before anything is stopped for it */
	if (!*b->run || b->ended || b->gone)
		return manager_write(c, b, INDEX_CHANGE, b->version);
	return stop(c, b, MANAGER_STOP_S) < 0 ? -1 : start(c, b);
}

int manager_renew(struct dialect_call *c, struct manager_box *b)
{
	struct err e = {0};

	if (*b->run && !b->ended)
		return stop(c, b, MANAGER_STOP_S) < 0 ? -1 : start(c, b);
	if (manager_write(c, b, INDEX_CHANGE, b->version) < 0)
		return -1;
	if (c->ops->live->stop(c->backend, kw_text(b->shown, "container_id"), &e) == 0)
		return 0;
	manager_fail(c, &e, "end a sandbox");
	return -1;
}

void manager_remove(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	struct index_question q = kw_question(INDEX_REMOVE, MANAGER_SANDBOX, c->param);
	struct index_answer a;
	struct err e = {0};

	if (manager_find(c, &b) < 0)
		return;
	if (c->ops->destroy(c->backend, c->param, &e) < 0 && e.kind != ERR_NOTFOUND)
		manager_fail(c, &e, "delete a sandbox");
	else if (kw_ask(c, &q, NULL, &a, NULL, &e) == 0)
		manager_done(c, "deleted");
}

/* Containers: made, started, killed, removed, and how they ended. Their names are ours. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>

#include "fcgi/engine_int.h"
#include "fcgi/engine_reason.h"
#include "images/own_json.h"
#include "images/ref.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/* "/containers/NAME" and tail; for questions with a box. */
static void ask_box(struct job *j, const char *what, const char *method, const char *tail,
	void (*next)(struct job *j))
{
	char path[160];

	snprintf(path, sizeof path, "/containers/" ENGINE_NAME "%s%s", j->q.box, tail);
	job_ask(j, what, method, path, NULL, next);
}

/* --- made and started */

/* The Engine follows names itself, later: nothing that a tenant can write lies on the way. */
static int source_is_there(const struct engine *g, const char *source, struct err *e)
{
	OWN_FD fd = sys_openat2(g->state, source, O_PATH | O_CLOEXEC, 0,
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);

	return fd < 0 ? err_set(e, ERR_BUG, errno, "a mount of STATE/%.150s", source) : 0;
}

static void failed_and_removed(struct job *j)
{
	job_fail(j, &j->reason);
}

/* A container that is of no use to anybody; whether it goes or not, this is the answer. */
static void undo(struct job *j, const struct err *e)
{
	j->reason = *e;
	j->failed = failed_and_removed;
	ask_box(j, "remove a container", "DELETE", "?force=1&v=1", failed_and_removed);
}

static void not_started(struct job *j)
{
	struct err e = j->x.e;

	if (!e.kind)
		engine_reason(j->x.status, j->x.answer.p, j->x.answer.len, j->what, &e);
	undo(j, &e);
}

static void not_created(struct job *j)
{
	/* Without an answer nobody knows whether it is there. */
	if (j->x.e.kind)
		undo(j, &j->x.e);
	else
		job_refused(j);
}

static void start(struct job *j)
{
	j->failed = not_started;
	ask_box(j, "start a container", "POST", "/start", job_answer);
}

static void attached(struct job *j, const struct err *e)
{
	if (e->kind)
		undo(j, e);
	else
		start(j);
}

static void created(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	const char *id = engine_json_text(o, "Id");
	struct err e;

	if (!ref_is_hex(id, 64)) {
		err_set(&e, ERR_SETUP, 0, "the Engine does not name the container it has made");
		undo(j, &e);
		return;
	}
	snprintf(j->a.container, sizeof j->a.container, "%s", id);
	if (j->q.flags & ENGINE_CREATE_ONLY) {
		job_answer(j);
		return;
	}
	j->attached = attached;
	if (j->q.flags & ENGINE_STREAM)
		attach_begin(j);
	else
		start(j);
}

void container_make(struct job *j)
{
	struct engine *g = j->engine;
	OWN_BUF body = BUF_INIT(1 << 20);
	char path[160];
	struct err e = {0};

	for (uint32_t i = 0; i < j->q.nmounts && !e.kind; i++)
		if (j->q.mounts[i].kind == ENGINE_BIND)
			source_is_there(g, j->q.mounts[i].source, &e);
	if (e.kind || engine_spec_write(&g->settings, &j->q, &body, &e) < 0) {
		job_fail(j, &e);
		return;
	}
	snprintf(path, sizeof path, "/containers/create?name=" ENGINE_NAME "%s", j->q.box);
	j->failed = not_created;
	job_ask(j, "create a container", "POST", path, body.p, created);
}

static void start_inspected(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	const char *id = engine_json_text(o, "Id");

	if (ref_is_hex(id, 64))
		snprintf(j->a.container, sizeof j->a.container, "%s", id);
	ask_box(j, "start a container", "POST", "/start", job_answer);
}

void container_start(struct job *j)
{
	ask_box(j, "look at a container", "GET", "/json", start_inspected);
}

/* --- killed and removed */

/* 404: it is not there. 409: it has ended, or is being removed. That is what was asked for. */
static void gone_is_fine(struct job *j)
{
	if (!j->x.e.kind && (j->x.status == 404 || j->x.status == 409 || j->x.status == 304))
		job_answer(j);
	else
		job_refused(j);
}

void container_kill(struct job *j)
{
	j->failed = gone_is_fine;
	ask_box(j, "kill a container", "POST", "/kill?signal=SIGKILL", job_answer);
}

/* One whose removal has failed once may have lost its name, but not its labels. */
static void remove_unnamed(struct job *j)
{
	if (!j->x.e.kind && j->x.status == 404)
		sweep_one(j);
	else
		gone_is_fine(j);
}

void container_remove(struct job *j)
{
	j->failed = remove_unnamed;
	ask_box(j, "remove a container", "DELETE", "?force=1&v=1", job_answer);
}

/* --- how it is, how it ended */

static void stats_read(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	struct json_object *memory = engine_json_at(o, "memory_stats");
	struct json_object *of = engine_json_at(memory, "stats");
	uint64_t used = engine_json_number(memory, "usage");
	/* caches that are given back when asked for: v2's name, then v1's */
	uint64_t cache = engine_json_number(of, "inactive_file");

	if (!cache)
		cache = engine_json_number(of, "total_inactive_file");
	j->a.memory_bytes = used > cache ? used - cache : 0;
	j->a.processes = (uint32_t)engine_json_number(engine_json_at(o, "pids_stats"), "current");
	j->a.cpu_us = engine_json_number(
			      engine_json_at(engine_json_at(o, "cpu_stats"), "cpu_usage"),
			      "total_usage") /
		      1000;
	job_answer(j);
}

void container_stats(struct job *j)
{
	ask_box(j, "measure a container", "GET", "/stats?stream=false&one-shot=true", stats_read);
}

static void ended_read(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	struct json_object *state = engine_json_at(o, "State");

	/* One that has been started again meanwhile has ended all the same. */
	if (!json_object_get_boolean(engine_json_at(state, "Running"))) {
		uint64_t code = engine_json_number(state, "ExitCode");

		j->a.exit_code = code < 256 ? (int32_t)code : 255;
		j->a.oom_killed = json_object_get_boolean(engine_json_at(state, "OOMKilled")) != 0;
	}
	job_answer(j);
}

void container_ended(struct job *j)
{
	j->failed = job_answer; /* it is being removed, say: what the event told is told */
	ask_box(j, "look at a container", "GET", "/json", ended_read);
}

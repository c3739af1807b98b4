/*
 * Whether the Engine is there: its version, what it can hold, and its events, whose stream stays. While
 * that stream lives the Engine does; when it breaks, whoever asks and a clock look for it again.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/engine_int.h"
#include "fcgi/engine_reason.h"
#include "images/own_json.h"
#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

void engine_path(const struct engine *g, struct buf *out)
{
	buf_addf(out, "/v1.%u", g->api);
}

void engine_escape(struct buf *out, const char *s)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:@";

	for (; *s; s++)
		if (strchr(plain, *s))
			buf_addc(out, *s);
		else
			buf_addf(out, "%%%02X", (unsigned char)*s);
}

void engine_filter(const struct engine *g, struct buf *out, const char *more)
{
	OWN_BUF label = BUF_INIT(ENGINE_URL_MAX), filter = BUF_INIT(ENGINE_URL_MAX);
	OWN_JSON *text = NULL;

	buf_addf(&label, "%s=%s", ENGINE_LABEL_STATE, g->settings.state);
	text = json_object_new_string(buf_ok(&label) ? label.p : "");
	buf_addf(&filter, "{\"label\":[%s]%s%s}", json_object_to_json_string(text),
		*more ? "," : "", more);
	engine_escape(out, buf_ok(&filter) ? filter.p : "");
}

enum { API_CGROUPNS = 41 /* CgroupnsMode came with it; any kernel of ours has the namespace */ };

/* --- closing */

void engine_close(struct engine *g, const struct err *why)
{
	struct engine_answer a = {.op = ENGINE_STATE, .err = *why};
	struct job *j;

	engine_http_abandon(&g->open_x);
	engine_http_abandon(&g->events_x);
	g->phase = PHASE_CLOSED;
	g->trouble = *why;
	g->pause_ms = g->pause_ms ? g->pause_ms * 2 : ENGINE_RETRY_MS;
	if (g->pause_ms > ENGINE_RETRY_MAX_MS)
		g->pause_ms = ENGINE_RETRY_MAX_MS;
	g->again_ms = clock_ms() + g->pause_ms;
	if (!g->told_closed && !g->checking) {
		log_err(LOG_ERROR, why, "engine");
		engine_tell(g, &a, -1);
	}
	g->told_closed = true;
	/* What waits has waited for this; what runs has exchanges of its own. */
	while ((j = TAILQ_FIRST(&g->waiting))) {
		TAILQ_REMOVE(&g->waiting, j, link);
		TAILQ_INSERT_TAIL(&g->running, j, link);
		job_fail(j, why);
	}
}

static void close_refused(struct engine *g, struct exchange *x, const char *what)
{
	struct err e = x->e;

	if (!e.kind)
		engine_reason(x->status, x->answer.p, x->answer.len, what, &e);
	engine_close(g, &e);
}

static void close_no_sense(struct engine *g, const char *what)
{
	struct err e;

	err_set(&e, ERR_SETUP, 0,
		"what answers at \"%.100s\" is no Docker Engine: %s is not as it should be",
		g->conf->engine, what);
	engine_close(g, &e);
}

/* --- events */

/* A question of our own, served when the loop comes to it. */
static struct job *ask_ourselves(struct engine *g, uint32_t op, const char *box)
{
	struct engine_question q = {.op = op};

	snprintf(q.box, sizeof q.box, "%s", box);
	return job_new(g, &q, -1);
}

static void events_line(void *arg, const char *line, size_t n)
{
	struct engine *g = arg;
	struct engine_answer a = {.op = ENGINE_ENDED};
	struct engine_event ev;
	struct job *j;

	if (!engine_event_read(line, n, &ev))
		return;
	memcpy(a.box, ev.box, sizeof a.box);
	memcpy(a.container, ev.container, sizeof ev.container);
	if (ev.oom) {
		a.op = ENGINE_OOM;
		engine_tell(g, &a, -1);
		return;
	}
	a.exit_code = ev.exit_code;
	j = ask_ourselves(g, ENGINE_ENDED, ev.box);
	if (j)
		j->a = a; /* if nothing better is to be had */
	else
		engine_tell(g, &a, -1);
}

static int events_bytes(struct exchange *x, const char *p, size_t n)
{
	struct engine *g = x->owner;

	if (engine_lines_feed(&g->lines, p, n, events_line, g) == 0)
		return 0;
	return err_set(&x->e, ERR_SETUP, EMSGSIZE, "an event of the Engine's is over %d bytes",
		ENGINE_LINE_MAX);
}

/* They are there from now on: what ended before is asked for. */
static void opened(struct exchange *x)
{
	struct engine *g = x->owner;
	struct engine_answer a = {.op = ENGINE_STATE};

	if (g->phase != PHASE_EVENTS)
		return;
	g->phase = PHASE_OPEN;
	g->again_ms = g->pause_ms = 0;
	if (g->told_closed)
		log_line(LOG_INFO, "the Engine answers again");
	g->told_closed = false;
	engine_tell(g, &a, -1);
	ask_ourselves(g, ENGINE_STATE, "");
}

static void events_done(struct exchange *x)
{
	struct engine *g = x->owner;
	struct err e;

	if (x->e.kind || x->status != 200) {
		close_refused(g, x, "tell events");
		return;
	}
	err_set(&e, ERR_BUSY, EPIPE, "the Engine has ended its events: it restarts");
	engine_close(g, &e);
}

static void ask_events(struct engine *g)
{
	OWN_BUF url = BUF_INIT(ENGINE_URL_MAX);

	g->phase = PHASE_EVENTS;
	g->begun_ms = clock_ms();
	buf_clear(&g->lines.part);
	g->lines.part = BUF_INIT(ENGINE_LINE_MAX);
	g->events_x = (struct exchange){.done = events_done,
		.take = events_bytes,
		.begun = opened,
		.owner = g,
		.upload = -1};
	engine_path(g, &url);
	buf_adds(&url, "/events?filters=");
	engine_filter(g, &url, "\"type\":[\"container\"],\"event\":[\"die\",\"oom\"]");
	engine_http_begin(g->http, &g->events_x, "GET", buf_ok(&url) ? url.p : "", NULL);
}

/* --- what it can hold */

static bool has(const char *list, const char *word)
{
	return strstr(list, word) != NULL;
}

static void join(struct json_object *names, bool keys, char *out, size_t size)
{
	size_t at = 0;

	*out = '\0';
	if (keys && json_object_is_type(names, json_type_object)) {
		json_object_object_foreach(names, key, value)
		{
			(void)value;
			if (at < size)
				at += (size_t)snprintf(
					out + at, size - at, "%s%s", at ? " " : "", key);
		}
	} else if (json_object_is_type(names, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(names) && at < size; i++)
			at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "",
				json_object_get_string(json_object_array_get_idx(names, i)));
	}
}

static bool yes(struct json_object *o, const char *key)
{
	return json_object_get_boolean(engine_json_at(o, key));
}

static void read_info(struct engine_info *i, struct json_object *o)
{
	join(engine_json_at(o, "Runtimes"), true, i->runtimes, sizeof i->runtimes);
	join(engine_json_at(o, "SecurityOptions"), false, i->security, sizeof i->security);
	snprintf(i->storage, sizeof i->storage, "%s", engine_json_text(o, "Driver"));
	snprintf(i->cgroup_driver, sizeof i->cgroup_driver, "%s",
		engine_json_text(o, "CgroupDriver"));
	i->cgroup_version = !strcmp(engine_json_text(o, "CgroupVersion"), "2") ? 2 : 1;
	i->rootless = has(i->security, "name=rootless") || yes(o, "Rootless");
	i->lacks = (yes(o, "MemoryLimit") ? 0 : ENGINE_LACKS_MEMORY) |
		   (yes(o, "SwapLimit") ? 0 : ENGINE_LACKS_SWAP) |
		   (yes(o, "CpuCfsQuota") ? 0 : ENGINE_LACKS_CPUS) |
		   (yes(o, "PidsLimit") ? 0 : ENGINE_LACKS_PIDS) |
		   (has(i->security, "name=seccomp") ? 0 : ENGINE_LACKS_SECCOMP);
}

/* i->runtime, named by sandbox.conf or the Engine's own choice. */
static int check_runtime(
	const struct engine_info *i, struct json_object *o, const struct conf *f, struct err *e)
{
	struct json_object *r = engine_json_at(engine_json_at(o, "Runtimes"), i->runtime);

	if (*f->engine_runtime && !r)
		return err_set(e, ERR_CONF, 0,
			"engine_runtime: the Engine has no \"%.40s\", but: %.80s", i->runtime,
			i->runtimes);
	if (engine_streamed(f))
		return strncmp(f->engine, "unix://", 7)
			       ? err_set(e, ERR_CONF, 0,
					 "the runtime %.40s needs engine = unix:///PATH",
					 i->runtime)
			       : 0;
	if (strstr(i->runtime, "runsc") || strstr(engine_json_text(r, "path"), "runsc"))
		return err_set(e, ERR_CONF, 0,
			"the runtime %.40s is gVisor's: it must be named by engine_runtime, and "
			"have "
			"\"runsc\" in its name, for its containers are spoken with otherwise",
			i->runtime);
	return 0;
}

/* What no container of ours may do without. */
static int check_info(struct engine *g, struct json_object *o, struct err *e)
{
	struct engine_info *i = &g->info;

	if (strcmp(engine_json_text(o, "OSType"), "linux") != 0 &&
		!*engine_json_text(o, "OperatingSystem"))
		return err_set(e, ERR_CONF, 0, "the Engine runs no Linux containers");
	if (!strcmp(i->name, "podman"))
		return err_set(e, ERR_CONF, 0,
			"podman is not supported: it takes neither a filter as text nor the owner "
			"of a tmpfs; engine must be Docker's");
	if (check_runtime(i, o, g->conf, e) < 0)
		return -1;
	if (i->lacks & ENGINE_LACKS_SECCOMP)
		return err_set(e, ERR_CONF, 0, "the Engine has no seccomp: its kernel lacks it");
	if (has(i->security, "name=userns"))
		return err_set(e, ERR_CONF, 0,
			"the Engine maps users (userns-remap): containers could not use the "
			"state directory");
	/* of a rootless Engine root is who it runs as, and that must be us */
	g->settings.uid = i->rootless ? 0 : getuid();
	g->settings.gid = i->rootless ? 0 : getgid();
	if (g->settings.uid == 0 && !i->rootless && g->conf->engine_as_root != ENGINE_AS_ROOT_ALLOW)
		return err_set(e, ERR_CONF, 0,
			"the service runs as root, so would commands: run it as a user of the "
			"socket's group, or set engine_as_root = allow");
	return 0;
}

static void info_done(struct exchange *x)
{
	struct engine *g = x->owner;
	struct engine_info *i = &g->info;
	OWN_JSON *o = NULL;
	struct err e;

	if (x->e.kind || x->status != 200) {
		close_refused(g, x, "tell about itself");
		return;
	}
	o = engine_json(x->answer.p, x->answer.len);
	if (!*engine_json_text(o, "ID") && !*engine_json_text(o, "Driver")) {
		close_no_sense(g, "/info");
		return;
	}
	read_info(i, o);
	snprintf(i->runtime, sizeof i->runtime, "%s",
		*g->conf->engine_runtime ? g->conf->engine_runtime
					 : engine_json_text(o, "DefaultRuntime"));
	if (check_info(g, o, &e) < 0) {
		engine_close(g, &e);
		return;
	}
	g->settings.private_cgroup = g->api >= API_CGROUPNS;
	ask_events(g);
}

/* "1.41": 41; 0: no version of this API. */
static unsigned api_of(const char *text)
{
	unsigned minor;
	char rest;

	return sscanf(text, "1.%3u%c", &minor, &rest) == 1 ? minor : 0;
}

static int choose_api(struct engine *g, struct json_object *o, struct err *e)
{
	unsigned newest = api_of(engine_json_text(o, "ApiVersion"));
	unsigned oldest = api_of(engine_json_text(o, "MinAPIVersion"));

	if (newest < ENGINE_API_LEAST)
		return err_set(e, ERR_CONF, 0,
			"the Engine is too old: it speaks API %.20s, 1.%d is needed (Docker "
			"19.03)",
			engine_json_text(o, "ApiVersion"), ENGINE_API_LEAST);
	if (oldest > ENGINE_API_KNOWN)
		return err_set(e, ERR_CONF, 0,
			"the Engine is too new: it speaks API 1.%u and later, this program 1.%d",
			oldest, ENGINE_API_KNOWN);
	g->api = newest < ENGINE_API_KNOWN ? newest : ENGINE_API_KNOWN;
	snprintf(g->info.api, sizeof g->info.api, "1.%u", g->api);
	return 0;
}

static bool is_podman(struct json_object *o)
{
	struct json_object *parts = engine_json_at(o, "Components");

	return json_object_is_type(parts, json_type_array) &&
	       !strncmp(engine_json_text(json_object_array_get_idx(parts, 0), "Name"), "Podman", 6);
}

static void version_done(struct exchange *x)
{
	struct engine *g = x->owner;
	OWN_JSON *o = NULL;
	OWN_BUF url = BUF_INIT(ENGINE_URL_MAX);
	struct err e;

	if (x->e.kind || x->status != 200) {
		close_refused(g, x, "tell its version");
		return;
	}
	o = engine_json(x->answer.p, x->answer.len);
	if (!api_of(engine_json_text(o, "ApiVersion"))) {
		close_no_sense(g, "/version");
		return;
	}
	if (choose_api(g, o, &e) < 0) {
		engine_close(g, &e);
		return;
	}
	snprintf(g->info.version, sizeof g->info.version, "%s", engine_json_text(o, "Version"));
	snprintf(g->info.name, sizeof g->info.name, "%s", is_podman(o) ? "podman" : "docker");
	g->phase = PHASE_INFO;
	x->done = info_done;
	engine_path(g, &url);
	buf_adds(&url, "/info");
	engine_http_begin(g->http, x, "GET", url.p, NULL);
}

void engine_open(struct engine *g)
{
	if (g->phase != PHASE_CLOSED)
		return;
	g->phase = PHASE_VERSION;
	g->again_ms = 0;
	memset(&g->info, 0, sizeof g->info);
	g->open_x = (struct exchange){.done = version_done,
		.owner = g,
		.upload = -1,
		.timeout_ms = (long)g->conf->engine_timeout_s * 1000};
	engine_http_begin(g->http, &g->open_x, "GET", "/version", NULL);
}

void engine_tick(struct engine *g, int64_t now_ms)
{
	struct err e;

	if (g->phase == PHASE_CLOSED && g->again_ms && now_ms >= g->again_ms)
		engine_open(g);
	if (g->phase == PHASE_EVENTS && now_ms - g->begun_ms >= g->conf->engine_timeout_s * 1000) {
		err_set(&e, ERR_BUSY, ETIMEDOUT,
			"the Engine is too slow (engine_timeout_s): no events");
		engine_close(g, &e);
	}
}

int engine_wait_ms(const struct engine *g, int64_t now_ms)
{
	int64_t until = INT_MAX;

	if (g->phase == PHASE_CLOSED && g->again_ms)
		until = g->again_ms - now_ms;
	if (g->phase == PHASE_EVENTS)
		until = g->begun_ms + g->conf->engine_timeout_s * 1000 - now_ms;
	return until < 0 ? 0 : until > 60000 ? 60000 : (int)until;
}

/* What all routes of the Docker Sandbox Manager share, its health, and its table of routes. */
#include "fcgi/dialects/manager.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/dialects/kweaver.h"
#include "fcgi/json_out.h"
#include "images/own_json.h"
#include "isolate/clock.h"
#include "isolate/own.h"

/* The version that the original tells, whatever its own is. */
#define HEALTH_VERSION "1.0.0"

#define MANAGER_ALIVE  "alive" /* to the index, until its end was noted */

enum { SWEPT_AT_ONCE = 4 };

void manager_box_clear(struct manager_box *b)
{
	json_object_put(b->record);
	b->record = b->shown = NULL;
}

void manager_time(int64_t us, char out[MANAGER_TIME_LEN])
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(out, MANAGER_TIME_LEN, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, MANAGER_TIME_LEN - n, ".%06dZ", (int)(us % 1000000));
}

void manager_put(struct json_object *o, const char *name, const char *text)
{
	json_object_object_add(o, name, text ? json_object_new_string(text) : NULL);
}

void manager_done(struct dialect_call *c, const char *word)
{
	buf_clear(&c->rs->body);
	buf_addf(&c->rs->body, "{\"status\":\"%s\"}", word);
	dialect_status(c, 200);
}

void manager_fail(struct dialect_call *c, const struct err *e, const char *doing)
{
	if (e->kind == ERR_NOTFOUND)
		dialect_detail(c, 404, "Sandbox not found");
	else if (e->kind == ERR_BUSY && e->errnum == EWOULDBLOCK)
		dialect_detail(c, 409, "Sandbox is busy");
	else
		dialect_fail(c, e, doing);
}

int manager_find(struct dialect_call *c, struct manager_box *b)
{
	struct index_question q = kw_question(INDEX_GET, MANAGER_SANDBOX, c->param);
	struct index_answer a = {0};
	struct err e = {0};

	*b = (struct manager_box){.record = NULL};
	if (!daiv_id_valid(c->param) || kw_ask(c, &q, NULL, &a, &b->record, &e) == -1)
		dialect_detail(c, 404, "Sandbox not found");
	if (!b->record)
		return -1;
	b->version = a.version;
	json_object_object_get_ex(b->record, "shown", &b->shown);
	return 0;
}

int manager_turn_of(struct dialect_call *c, const char *id)
{
	struct err e = {0};
	int fd = c->ops->live->turn(c->backend, id, &e);

	if (fd < 0)
		manager_fail(c, &e, "wait for a sandbox");
	return fd;
}

int manager_turn(struct dialect_call *c)
{
	if (daiv_id_valid(c->param))
		return manager_turn_of(c, c->param);
	dialect_detail(c, 404, "Sandbox not found");
	return -1;
}

/* One that has ended is final, and goes when there are many. */
static int write_record(struct dialect_call *c, struct manager_box *b, enum index_op op,
	uint64_t version, struct err *e)
{
	struct index_question q = kw_question(
		op, MANAGER_SANDBOX, kw_text(b->shown, "container_id"));
	struct index_answer a = {0};
	OWN_MEM char *text = NULL;
	const char *body = json_object_to_json_string_ext(b->record, JSON_C_TO_STRING_PLAIN);

	q.version = version;
	q.final = *kw_text(b->shown, "terminated_at") != '\0';
	snprintf(q.status, sizeof q.status, "%s", q.final ? "ended" : MANAGER_ALIVE);
	q.keep = KW_SESSIONS_KEPT;
	if (index_ask(c->conf->state_dir, &q, body, strlen(body), &a, &text, e) < 0)
		return -1;
	b->version = a.version;
	return 0;
}

int manager_write(struct dialect_call *c, struct manager_box *b, enum index_op op, uint64_t version)
{
	struct err e = {0};

	if (write_record(c, b, op, version, &e) == 0)
		return 0;
	if (e.kind == ERR_BUSY && e.errnum == ESTALE)
		dialect_detail(c, 409, "Another request changes this sandbox");
	else if (e.errnum == EEXIST && op == INDEX_CHANGE)
		dialect_detail(c, 404, "Sandbox has been terminated");
	else
		manager_fail(c, &e, "write the record of a sandbox");
	return -1;
}

static void pick(void *arg, const struct run_listed *r)
{
	static const size_t n = sizeof MANAGER_SERVICE - 1;
	struct manager_box *b = arg;

	if (r->about_bytes < n || memcmp(r->about + r->about_bytes - n, MANAGER_SERVICE, n) ||
		strcmp(r->id, kw_text(b->record, "since")) < 0)
		return;
	memcpy(b->run, r->id, sizeof b->run);
	b->ended = r->ended;
	b->head = *r->head;
	b->tries++;
}

/* One that the service has removed, because it was old or nobody used it. */
static int note_end(struct dialect_call *c, struct manager_box *b)
{
	char now[MANAGER_TIME_LEN];
	struct err e = {0};

	b->gone = true;
	if (*kw_text(b->shown, "terminated_at"))
		return 0;
	manager_time(clock_real_us(), now);
	manager_put(b->shown, "terminated_at", now);
	manager_put(b->record, "wanted", "stopped");
	if (write_record(c, b, INDEX_CHANGE, b->version, &e) == 0 || e.errnum == ESTALE ||
		e.errnum == EEXIST || e.kind == ERR_NOTFOUND) /* another request notes it, too */
		return 0;
	manager_fail(c, &e, "write the record of a sandbox");
	return -1;
}

int manager_look(struct dialect_call *c, struct manager_box *b)
{
	const char *id = kw_text(b->shown, "container_id");
	struct err e = {0};

	if (*kw_text(b->shown, "terminated_at")) {
		b->gone = true;
		return 0;
	}
	if (c->ops->live->runs(c->backend, id, pick, b, &e) == 0)
		return 0;
	if (e.kind == ERR_NOTFOUND)
		return note_end(c, b);
	manager_fail(c, &e, "look at a sandbox");
	return -1;
}

/*
 * Each new one looks at a few others, the oldest and some anywhere, so that records of those that nobody asks
 * for do not pile up. What goes wrong here the next one tries again.
 */
void manager_sweep(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, MANAGER_SANDBOX, "");
	struct index_answer a = {0};
	struct err e = {0};

	snprintf(q.status, sizeof q.status, MANAGER_ALIVE);
	q.order = INDEX_OLDEST;
	q.limit = SWEPT_AT_ONCE;
	for (int round = 0; round < 2; round++) {
		OWN_JSON *list = NULL;

		if (kw_ask(c, &q, NULL, &a, &list, &e) == 0)
			for (size_t i = 0; i < json_object_array_length(list); i++) {
				struct json_object *o = json_object_array_get_idx(list, i);
				OWN_MANAGER_BOX b = {.record = json_object_get(o)};

				json_object_object_get_ex(o, "shown", &b.shown);
				manager_look(c, &b);
			}
		q.offset = a.total ? (uint32_t)((uint64_t)clock_real_us() % a.total) : 0;
	}
	c->rs->status = c->rs->retry_after_s = 0; /* the request is about something else */
	buf_clear(&c->rs->body);
}

const char *manager_status(const struct manager_box *b)
{
	bool wanted = !strcmp(kw_text(b->record, "wanted"), "running");

	if (b->gone)
		return "terminated";
	if (*b->run)
		return b->ended ? "exited" : "running";
	if (*kw_text(b->record, "line"))
		return wanted ? "created" : "exited";
	return wanted ? "running" : "exited"; /* nothing to run: it stands for exec */
}

int manager_find_started(struct dialect_call *c, struct manager_box *b)
{
	if (manager_find(c, b) < 0 || manager_look(c, b) < 0)
		return -1;
	if (!b->gone && !strcmp(kw_text(b->record, "wanted"), "running"))
		return 0;
	dialect_detail(c, b->gone ? 404 : 409,
		b->gone ? "Sandbox has been terminated" : "Sandbox is not running");
	return -1;
}

static void health(struct dialect_call *c)
{
	struct err e = {0};

	if (c->ops->health(c->backend, &e) < 0) {
		dialect_fail(c, &e, "health");
		return;
	}
	buf_addf(&c->rs->body,
		"{\"status\":\"healthy\",\"version\":\"" HEALTH_VERSION
		"\",\"metrics_enabled\":true,\"cleanup_enabled\":%s}",
		c->conf->manager_age_max_s || c->conf->manager_idle_s ? "true" : "false");
	dialect_status(c, 200);
}

static void no_networks(struct dialect_call *c)
{
	dialect_detail(c, 422,
		"networks between sandboxes are not made here: each sandbox is alone; publish a "
		"port, or share a volume");
}

const struct route manager_routes[] = {
	{HTTP_GET, "health", ROUTE_OPEN, health},
	{HTTP_POST, "sandboxes", ROUTE_JSON, manager_create},
	{HTTP_GET, "sandboxes", 0, manager_list},
	{HTTP_GET, "sandboxes/*", 0, manager_get},
	{HTTP_DELETE, "sandboxes/*", 0, manager_remove},
	{HTTP_POST, "sandboxes/*/start", 0, manager_start},
	{HTTP_POST, "sandboxes/*/stop", 0, manager_stop},
	{HTTP_POST, "sandboxes/*/restart", 0, manager_restart},
	{HTTP_POST, "sandboxes/*/exec", ROUTE_JSON, manager_exec},
	{HTTP_POST, "sandboxes/*/exec/stream", ROUTE_JSON, manager_exec_stream},
	{HTTP_GET, "sandboxes/*/env", 0, manager_env_get},
	{HTTP_POST, "sandboxes/*/env", ROUTE_JSON, manager_env_set},
	{HTTP_GET, "sandboxes/*/entrypoint", 0, manager_entrypoint_get},
	{HTTP_POST, "sandboxes/*/entrypoint", ROUTE_JSON, manager_entrypoint_set},
	{HTTP_POST, "sandboxes/*/timeout", ROUTE_JSON, manager_timeout_set},
	{HTTP_GET, "sandboxes/*/urls", 0, manager_urls},
	{HTTP_GET, "sandboxes/*/logs", 0, manager_logs},
	{HTTP_GET, "sandboxes/*/stats", 0, manager_stats},
	{HTTP_GET, "sandboxes/*/metrics", 0, manager_stats},
	{HTTP_GET, "sandboxes/*/alerts", 0, manager_alerts},
	{HTTP_GET, "sandboxes/*/export", 0, manager_export},
	{HTTP_GET, "sandboxes/*/ports/**", ROUTE_RAW | ROUTE_PAGES, manager_port},
	{HTTP_HEAD, "sandboxes/*/ports/**", ROUTE_RAW | ROUTE_PAGES, manager_port},
	{HTTP_POST, "sandboxes/*/ports/**", ROUTE_RAW | ROUTE_PAGES, manager_port},
	{HTTP_PUT, "sandboxes/*/ports/**", ROUTE_RAW | ROUTE_PAGES, manager_port},
	{HTTP_DELETE, "sandboxes/*/ports/**", ROUTE_RAW | ROUTE_PAGES, manager_port},
	{HTTP_PATCH, "sandboxes/*/ports/**", ROUTE_RAW | ROUTE_PAGES, manager_port},
	{HTTP_OPTIONS, "sandboxes/*/ports/**", ROUTE_RAW | ROUTE_PAGES, manager_port},
	{HTTP_GET, "metrics/*", 0, manager_stats},
	{HTTP_POST, "volumes/network", ROUTE_JSON, manager_volume_add},
	{HTTP_DELETE, "volumes/network/*", 0, manager_volume_remove},
	{HTTP_GET, "volumes/*/*/ls", 0, manager_volume_list},
	{HTTP_GET, "sandboxes/*/volumes/*/ls", 0, manager_volume_list},
	{HTTP_POST, "sandboxes/*/volumes/*/mkdir", 0, manager_volume_mkdir},
	{HTTP_GET, "sandboxes/*/volumes/*/read", 0, manager_volume_read},
	{HTTP_POST, "sandboxes/*/volumes/*/write", ROUTE_JSON, manager_volume_write},
	{HTTP_POST, "sandboxes/*/volumes/*/upload", ROUTE_RAW, manager_volume_upload},
	{HTTP_POST, "sandboxes/*/volumes/*/mount", 0, manager_volume_mount},
	{HTTP_POST, "sandboxes/*/volumes/*/unmount", 0, manager_volume_unmount},
	{HTTP_POST, "networks", 0, no_networks},
	{HTTP_POST, "sandboxes/*/networks/*/connect", 0, no_networks},
	{HTTP_POST, "sandboxes/*/networks/*/disconnect", 0, no_networks},
};
const size_t manager_nroutes = NELEM(manager_routes);

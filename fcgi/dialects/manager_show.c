/* What there is: lists, states, logs, use of resources, exports. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/dialects/files_call.h"
#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "fcgi/upload.h"
#include "images/own_json.h"
#include "isolate/clock.h"
#include "isolate/own.h"

enum { LIST_PART = 32 };

static void put_time(struct json_object *o, const char *name, int64_t us)
{
	char text[MANAGER_TIME_LEN];

	manager_time(us, text);
	manager_put(o, name, us > 0 ? text : NULL);
}

/* Nothing is made up: a code that nobody saw is null. */
static struct json_object *state_of(const struct manager_box *b, bool capitals)
{
	static const char *const names[2][5] = {
		{"status", "running", "exit_code", "started_at", "finished_at"},
		{"Status", "Running", "ExitCode", "StartedAt", "FinishedAt"}};
	const char *const *n = names[capitals];
	const char *status = manager_status(b), *started = kw_text(b->shown, "started_at");
	const struct spool_head *h = &b->head;
	bool seen = b->ended && h->err.kind == ERR_NONE && h->result.verdict != VERDICT_INTERRUPTED;
	struct json_object *o = json_object_new_object();

	manager_put(o, n[0], status);
	json_object_object_add(o, n[1], json_object_new_boolean(!strcmp(status, "running")));
	json_object_object_add(o, n[2], seen ? json_object_new_int(h->result.exit_code) : NULL);
	if (*b->run)
		put_time(o, n[3], h->begun_us);
	else
		manager_put(o, n[3], *started ? started : NULL);
	put_time(o, n[4], b->ended ? h->ended_us : 0);
	if (b->ended)
		manager_put(o, "verdict",
			h->err.kind == ERR_NONE ? verdict_name(h->result.verdict) : NULL);
	json_object_object_add(o, "tries", json_object_new_int((int)b->tries));
	return o;
}

void manager_get(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};

	if (manager_find(c, &b) < 0 || manager_look(c, &b) < 0)
		return;
	json_object_object_add(b.shown, "status", state_of(&b, false));
	kw_answer(c, 200, b.shown);
}

static void add_row(struct json_object *list, const struct manager_box *b)
{
	struct json_object *o = json_object_new_object();

	manager_put(o, "container_id", kw_text(b->shown, "container_id"));
	manager_put(o, "image", kw_text(b->shown, "image"));
	manager_put(o, "status", manager_status(b));
	manager_put(o, "name", kw_text(b->shown, "name"));
	manager_put(o, "created", kw_text(b->shown, "created_at"));
	json_object_object_add(o, "state", state_of(b, true));
	json_object_array_add(list, o);
}

/* Rows of the records in the list. -1: the response is complete. */
static int add_rows(struct dialect_call *c, struct json_object *list, const char *status,
	struct json_object *rows)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *record = json_object_array_get_idx(list, i);
		OWN_MANAGER_BOX b = {.record = json_object_get(record)};

		json_object_object_get_ex(record, "shown", &b.shown);
		if (manager_look(c, &b) < 0)
			return -1;
		if (!status || !strcmp(status, manager_status(&b)))
			add_row(rows, &b);
	}
	return 0;
}

/* A part at a time: together the records may be more than one answer of the index holds. */
void manager_list(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, MANAGER_SANDBOX, "");
	OWN_JSON *out = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	char status[32] = "";
	struct index_answer a = {0};
	struct err e = {0};
	bool any = query_get(c->rq->uri, "status", status, sizeof status) == 0;

	json_object_object_add(out, "sandboxes", rows);
	q.limit = LIST_PART;
	do {
		OWN_JSON *list = NULL;

		if (kw_ask(c, &q, NULL, &a, &list, &e) < 0 ||
			add_rows(c, list, any ? NULL : status, rows) < 0)
			return;
		q.offset += q.limit;
	} while (q.offset < a.total);
	kw_answer(c, 200, out);
}

void manager_urls(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	OWN_JSON *o = json_object_new_object();
	struct json_object *urls;

	if (manager_find(c, &b) < 0)
		return;
	json_object_object_get_ex(b.shown, "urls", &urls);
	json_object_object_add(o, "urls", json_object_get(urls));
	kw_answer(c, 200, o);
}

/* Memory is known where the sandbox has a control group; what nobody counts is null. */
void manager_stats(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	struct session_status s;
	struct err e = {0};
	struct buf *out = &c->rs->body;
	char now[MANAGER_TIME_LEN];
	uint64_t limit;

	if (manager_find_started(c, &b) < 0)
		return;
	if (c->ops->live->status(c->backend, c->param, &s, &e) < 0) {
		manager_fail(c, &e, "look at a sandbox");
		return;
	}
	limit = s.memory_limit ? s.memory_limit : (uint64_t)c->conf->memory_max_bytes;
	manager_time(clock_real_us(), now);
	buf_addf(out, "{\"timestamp\":\"%s\",\"cpu_percent\":null,\"mem_usage\":", now);
	if (s.memory_bytes)
		buf_addf(out, "%llu", (unsigned long long)s.memory_bytes);
	else
		buf_adds(out, "null");
	buf_addf(out, ",\"mem_limit\":%llu,\"mem_percent\":", (unsigned long long)limit);
	if (s.memory_bytes && limit)
		buf_addf(out, "%.2f", 100.0 * (double)s.memory_bytes / (double)limit);
	else
		buf_adds(out, "null");
	buf_addf(out, ",\"net_rx\":null,\"net_tx\":null,\"runs\":%u}", s.runs);
	dialect_status(c, 200);
}

/* Nothing here raises any. */
void manager_alerts(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};

	if (manager_find(c, &b) < 0)
		return;
	buf_adds(&c->rs->body, "{\"alerts\":[]}");
	dialect_status(c, 200);
}

/* "sandbox-0123_workspace_src.zip", of characters that are safe in a header and a file's name. */
static void name_export(struct dialect_call *c, const struct manager_box *b, const char *path)
{
	OWN_BUF name = BUF_INIT(1024);
	const char *from = path + strspn(path, "/");

	buf_addf(&name, "attachment; filename=\"%.8s", kw_text(b->shown, "container_id"));
	if (*from)
		buf_addc(&name, '_');
	for (; *from && name.len < 200; from++) {
		bool safe = strchr("-.", *from) || (*from >= '0' && *from <= '9') ||
			    ((*from | 32) >= 'a' && (*from | 32) <= 'z');

		buf_addc(&name, safe ? *from : '_');
	}
	buf_adds(&name, ".zip\"");
	dialect_header(c, "Content-Disposition", name.p);
}

void manager_export(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_PACK);
	OWN_MANAGER_BOX b = {.record = NULL};
	char path[FILES_PATH_MAX + 1] = "/";

	if (query_get(c->rq->uri, "folder_path", path, sizeof path) < 0 || *path != '/') {
		dialect_detail(c, 422, "folder_path must be absolute and of at most 4095 bytes");
		return;
	}
	if (manager_find(c, &b) < 0)
		return;
	f.o.flags = FILES_ZIP;
	files_call_text(&f, path);
	f.data = upload_spool(c);
	if (f.data < 0 || files_call(c, &f) < 0)
		return;
	if (f.r.code != FILES_OK) {
		dialect_detail(c,
			f.r.code == FILES_NOT_FOUND   ? 404
			: f.r.code == FILES_TOO_LARGE ? 413
						      : 422,
			*f.r.text ? f.r.text : files_code_text(f.r.code));
		return;
	}
	name_export(c, &b, path);
	if (lseek(f.data, 0, SEEK_SET) == 0)
		dialect_stream(c, 200, "application/zip", take_fd(&f.data), f.r.bytes);
	else
		dialect_detail(c, 500, "Internal Server Error");
}

/*
 * Installations that outlast requests. A session's record says what is being installed for it; the keeper
 * does that, and whoever looks at the session after its end (kw_session()) gives it what was installed, as
 * results of executions are stored. For one that is there the set is what was asked for before, with
 * what is new in place of what has the same name, and the old state comes back when that fails.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "fcgi/dialects/kweaver_deps.h"
#include "images/own_json.h"
#include "isolate/own.h"

/* Of the public document: what an installation changes, and its failure brings back. */
static const char *const changed[] = {"python_package_index_url", "requested_dependencies",
	"installed_dependencies", "dependency_install_status", "dependency_install_error",
	"dependency_install_started_at", "dependency_install_completed_at"};

static void copy_members(struct json_object *from, struct json_object *to)
{
	for (size_t i = 0; i < NELEM(changed); i++) {
		struct json_object *v = json_object_object_get(from, changed[i]);

		json_object_object_add(to, changed[i], json_object_get(v));
	}
}

void kw_deps_pending(struct json_object *record, int64_t timeout_s, bool lenient)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "timeout", json_object_new_int64(timeout_s));
	json_object_object_add(o, "lenient", json_object_new_boolean(lenient));
	json_object_object_add(record, "install", o);
}

bool kw_deps_installing(struct json_object *record)
{
	return !strcmp(kw_text(kw_public(record), "dependency_install_status"), "installing");
}

/* What the record waits for. */
static struct kw_deps order_of(struct json_object *record)
{
	struct json_object *o = kw_public(record);

	return (struct kw_deps){.image = kw_text(record, "image"),
		.language = kw_text(record, "language"),
		.index_url = kw_text(o, "python_package_index_url"),
		.list = json_object_object_get(o, "requested_dependencies"),
		.timeout_s = json_object_get_int64(json_object_object_get(
			json_object_object_get(record, "install"), "timeout"))};
}

static void settled(struct json_object *record)
{
	json_object_object_del(record, "before");
	json_object_object_del(record, "install");
}

static void succeeded(struct dialect_call *c, struct json_object *record)
{
	kw_deps_ended(kw_public(record), NULL);
	kw_deps_list(c, record);
	if (strcmp(kw_text(kw_public(record), "status"), "running"))
		kw_set_status(record, "running", false);
	settled(record);
}

/* The old state; why (NULL: it was told) says what became of the new one. */
static void roll_back(struct json_object *record, const char *why)
{
	copy_members(json_object_object_get(record, "before"), kw_public(record));
	if (why)
		kw_deps_ended(kw_public(record), why);
	settled(record);
}

/* 1: the session has come to its end with it. -1: the response is complete. */
static int failed(struct dialect_call *c, struct json_object *record, const char *why)
{
	bool lenient = json_object_get_boolean(
		json_object_object_get(json_object_object_get(record, "install"), "lenient"));

	if (json_object_object_get(record, "before")) {
		roll_back(record, why);
		return 0;
	}
	kw_deps_ended(kw_public(record), why);
	settled(record);
	if (!lenient)
		return kw_session_end(c, record, "failed") < 0 ? -1 : 1;
	kw_set_status(record, "running", false);
	return 0;
}

static bool too_old(struct json_object *record)
{
	const char *since = kw_text(kw_public(record), "dependency_install_started_at");

	return (int64_t)time(NULL) - kw_seconds(since) >= KW_INSTALL_MAX_S;
}

/* 0: it has ended, and text says why it failed, or is empty. 1: it goes on. */
static int look(struct dialect_call *c, struct json_object *record, struct buf *text)
{
	struct kw_deps d = order_of(record);
	struct kw_deps_result r;
	struct err e = {0};
	int ret = kw_deps_install(c, &d, &r, &e);

	if (ret == 0 && !r.pending && !r.failed)
		ret = c->ops->deps->attach(c->backend, kw_text(record, "session"), r.key, &e);
	if (ret == 0 && r.failed)
		buf_adds(text, buf_ok(&r.why) && r.why.len ? r.why.p : "it failed");
	else if (ret < 0 && e.kind != ERR_BUSY)
		buf_adds(text, e.msg);
	buf_clear(&r.why);
	if (ret < 0 ? e.kind != ERR_BUSY : !r.pending)
		return 0;
	if (!too_old(record))
		return 1;
	buf_adds(text, "Dependency installation timed out");
	return 0;
}

int kw_deps_settle(struct dialect_call *c, struct json_object *record, uint64_t *version)
{
	OWN_BUF text = BUF_INIT(65536);
	struct err e = {0};
	int ret = 0;

	if (look(c, record, &text) > 0)
		return 0;
	if (text.len)
		ret = failed(c, record, text.p);
	else
		succeeded(c, record);
	if (ret != 0)
		return ret < 0 ? -1 : 0;
	/* when it is another version by now, somebody else has settled it, in the same way */
	ret = kw_session_write(c, INDEX_CHANGE, record, *version, &e);
	*version += ret == 0;
	return ret == -2 ? -1 : 0;
}

/* --- POST /sessions/{id}/dependencies/install --- */

static const struct schema_bounds url_length = {.length_max = DEPS_INDEX_MAX};

enum { D_LIST, D_URL, D_MAX };

static const struct schema_field fields[D_MAX] = {
	[D_LIST] = {"dependencies", SCHEMA_ANY, true, false, kw_check_dependencies, NULL},
	[D_URL] = {"python_package_index_url", SCHEMA_STRING, false, true, NULL, &url_length},
};

static bool has_name(struct json_object *list, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!strcasecmp(kw_text(json_object_array_get_idx(list, i), "name"), name))
			return true;
	return false;
}

/* What was asked for before and is not asked for anew, then what is. The caller puts it. */
static struct json_object *merge(struct json_object *record, struct json_object *more)
{
	struct json_object *all = json_object_new_array();
	struct json_object *old = json_object_object_get(
		kw_public(record), "requested_dependencies");

	for (size_t i = 0; old && i < json_object_array_length(old); i++) {
		struct json_object *o = json_object_array_get_idx(old, i);

		if (!has_name(more, kw_text(o, "name")))
			json_object_array_add(all, json_object_get(o));
	}
	for (size_t i = 0; i < json_object_array_length(more); i++)
		json_object_array_add(all, json_object_get(json_object_array_get_idx(more, i)));
	return all;
}

static void answer_error(struct dialect_call *c, const struct err *e)
{
	if (e->kind == ERR_BUSY && e->errnum == EWOULDBLOCK)
		kw_conflict(c, "Session is busy", c->param);
	else if (e->kind == ERR_LIMIT)
		dialect_detail(c, 503, e->msg);
	else if (e->kind == ERR_REQUEST || e->kind == ERR_NOTFOUND)
		dialect_detail(c, 400, e->msg);
	else
		dialect_fail(c, e, "install dependencies");
}

/* 0: installed and seen by the session. 1: it goes on. -1: the response is complete. */
static int install(struct dialect_call *c, struct json_object *record)
{
	struct kw_deps d = order_of(record);
	struct kw_deps_result r;
	struct err e = {0};
	int ret;

	d.fresh = true;
	d.wait_ms = (unsigned)c->conf->kweaver_install_wait_s * 1000;
	ret = kw_deps_install(c, &d, &r, &e);
	if (ret == 0 && r.failed)
		dialect_detail(c, r.timed_out ? 503 : 400,
			buf_ok(&r.why) ? r.why.p : "Dependency installation failed");
	else if (ret < 0 || (!r.pending && c->ops->deps->attach(c->backend,
						   kw_text(record, "session"), r.key, &e) < 0))
		answer_error(c, &e);
	buf_clear(&r.why);
	return c->rs->status ? -1 : r.pending;
}

/* The answer that is there stays, whatever becomes of this. */
static void write_old(struct dialect_call *c, struct json_object *record, uint64_t version)
{
	struct http_response kept = *c->rs;
	struct err e = {0};

	roll_back(record, NULL);
	c->rs->body = BUF_INIT(kept.body.max);
	kw_session_write(c, INDEX_CHANGE, record, version, &e);
	buf_clear(&c->rs->body);
	*c->rs = kept;
}

/* What the record is to have, with what it had kept for the case that it fails. */
static void begin(struct json_object *record, const struct schema_value *v)
{
	struct json_object *o = kw_public(record), *before = json_object_new_object();
	OWN_JSON *all = merge(record, v[D_LIST].json);

	copy_members(o, before);
	json_object_object_add(record, "before", before);
	kw_deps_begun(o, all, v[D_URL].given ? json_object_get_string(v[D_URL].json) : "");
	kw_deps_pending(record, 0, false);
}

static void install_for(struct dialect_call *c, struct json_object *record,
	const struct schema_value *v, uint64_t version)
{
	struct err e = {0};
	int ret;

	begin(record, v);
	ret = kw_session_write(c, INDEX_CHANGE, record, version, &e);
	if (ret == -1)
		kw_conflict(c, "Session is busy", c->param);
	if (ret < 0)
		return;
	ret = install(c, record);
	if (ret < 0) {
		write_old(c, record, version + 1);
		return;
	}
	if (ret == 0) {
		succeeded(c, record);
		ret = kw_session_write(c, INDEX_CHANGE, record, version + 1, &e);
		if (ret == -1 && e.errnum != ESTALE) /* else it was settled by who looked at it */
			kw_conflict(c, "Session is not active", c->param);
	}
	if (c->rs->status == 0)
		kw_answer(c, 200, kw_public(record));
}

void kw_deps_add(struct dialect_call *c)
{
	struct schema_value v[D_MAX];
	uint64_t version;
	OWN_JSON *record = NULL;

	if (schema_check(fields, D_MAX, c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	record = kw_session(c, c->param, &version);
	if (!record)
		return;
	if (strcmp(kw_text(kw_public(record), "status"), "running"))
		kw_conflict(c, "Session is not active", c->param);
	else if (kw_deps_installing(record))
		kw_conflict(c, "Session is busy", c->param);
	else
		install_for(c, record, v, version);
}

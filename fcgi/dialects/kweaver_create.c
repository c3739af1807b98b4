/* POST /sessions: a document in the index and a session of ours, in that order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fcgi/dialects/kweaver_deps.h"
#include "fcgi/env_merge.h"
#include "fcgi/schema.h"
#include "fcgi/query.h"
#include "images/own_json.h"
#include "images/store.h"
#include "isolate/own.h"

/* What the original calls the place of a session's files, wherever they are. */
#define WORKSPACE_PREFIX "s3://sandbox-workspace/sessions/"

enum { INSTALL_S = 300, INSTALL_GLANCE_MS = 1000 };

static const struct schema_bounds id_length = {.length_min = 1, .length_max = KW_ID_MAX},
				  timeout_range = {.min = 1, .max = 3600},
				  install_range = {.min = 30, .max = 1800},
				  index_length = {.length_max = 512};

static void check_nul(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *text = json_object_get_string(v->json);

	(void)arg;
	if (strlen(text) != (size_t)json_object_get_string_len(v->json))
		schema_value_error(r, f, NULL, -1, v->json, "must not contain a NUL character");
}

static bool parse_cores(const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	return *text >= '0' && *text <= '9' && !*end && *out > 0 && *out <= 1024;
}

static void check_cpu(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	double cores;

	(void)arg;
	if (!parse_cores(json_object_get_string(v->json), &cores))
		schema_value_error(
			r, f, NULL, -1, v->json, "cpu must be a number of cores, as \"0.5\"");
}

void kw_check_env(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	struct buf *env = arg;

	json_object_object_foreach(v->json, name, value)
	{
		const char *text = json_object_get_string(value);

		if (!*name || strchr(name, '=') ||
			strlen(text) != (size_t)json_object_get_string_len(value)) {
			schema_value_error(r, f, name, -1, value,
				"a variable needs a name without \"=\", and no NUL character");
			continue;
		}
		buf_addf(env, "%s=%s%c", name, text, 0);
	}
	if (!buf_ok(env))
		schema_value_error(r, f, NULL, -1, v->json, "all variables together are too large");
}

enum {
	S_TEMPLATE,
	S_ID,
	S_TIMEOUT,
	S_CPU,
	S_MEMORY,
	S_DISK,
	S_ENV,
	S_EVENT,
	S_DEPENDENCIES,
	S_INSTALL,
	S_INDEX_URL,
	S_FAIL,
	S_CONFLICTS,
	S_RESOURCES,
	S_MAX
};

static const struct schema_field fields[S_MAX] = {
	[S_TEMPLATE] = {"template_id", SCHEMA_STRING, true, false, check_nul, &id_length},
	[S_ID] = {"id", SCHEMA_STRING, false, true, check_nul, &id_length},
	[S_TIMEOUT] = {"timeout", SCHEMA_INT, false, false, NULL, &timeout_range},
	[S_CPU] = {"cpu", SCHEMA_STRING, false, false, check_cpu, NULL},
	[S_MEMORY] = {"memory", SCHEMA_STRING, false, false, check_nul, NULL},
	[S_DISK] = {"disk", SCHEMA_STRING, false, false, check_nul, NULL},
	[S_ENV] = {"env_vars", SCHEMA_STRING_MAP, false, true, kw_check_env, NULL},
	[S_EVENT] = {"event", SCHEMA_ANY, false, true, NULL, NULL},
	[S_DEPENDENCIES] = {"dependencies", SCHEMA_ANY, false, true, kw_check_dependencies, NULL},
	[S_INSTALL] = {"install_timeout", SCHEMA_INT, false, false, NULL, &install_range},
	[S_INDEX_URL] = {"python_package_index_url", SCHEMA_STRING, false, true, NULL,
		&index_length},
	[S_FAIL] = {"fail_on_dependency_error", SCHEMA_BOOL, false, false, NULL, NULL},
	[S_CONFLICTS] = {"allow_version_conflicts", SCHEMA_BOOL, false, false, NULL, NULL},
	[S_RESOURCES] = {"resources", SCHEMA_ANY, false, true, NULL, NULL},
};

/* A request on its way to a session. */
struct making {
	struct schema_value v[S_MAX];
	struct buf env;
	struct json_object *template, *doc;
	struct session_spec spec;
	char deps[DEPS_KEY_LEN + 1];
	bool installing;                 /* what it is to see; it has a session meanwhile */
	const char *cpu, *memory, *disk; /* as text, the client's or the template's */
	char text[3][24];
};

static void making_clear(struct making *m)
{
	buf_clear(&m->env);
	json_object_put(m->template);
	json_object_put(m->doc);
}

/* "512Mi" and "1Gi": bytes, or -1. */
static int64_t parse_size(const char *text)
{
	char *end;
	long long n = strtoll(text, &end, 10);
	int shift = !strcmp(end, "Mi") ? 20 : !strcmp(end, "Gi") ? 30 : 0;

	if (*text < '0' || *text > '9' || !shift || n <= 0 || n > (INT64_MAX >> shift))
		return -1;
	return (int64_t)n << shift;
}

/* The request's own member, or that of "resources", which the README of the original documents. */
static const char *limit_text(const struct making *m, int field, const char *fallback)
{
	struct json_object *o;

	if (m->v[field].given)
		return json_object_get_string(m->v[field].json);
	if (m->v[S_RESOURCES].given &&
		json_object_object_get_ex(m->v[S_RESOURCES].json, fields[field].name, &o) &&
		json_object_is_type(o, json_type_string))
		return json_object_get_string(o);
	return fallback;
}

static double number_of(struct json_object *o, const char *name)
{
	struct json_object *v;

	return json_object_object_get_ex(o, name, &v) ? json_object_get_double(v) : 0;
}

/* -1: the response is complete. */
static int read_limits(struct dialect_call *c, struct making *m)
{
	int64_t memory, disk, most = c->conf->session_disk_max_bytes;
	double cores;

	snprintf(m->text[0], sizeof m->text[0], "%g", number_of(m->template, "default_cpu_cores"));
	snprintf(m->text[1], sizeof m->text[1], "%dMi",
		(int)number_of(m->template, "default_memory_mb"));
	snprintf(m->text[2], sizeof m->text[2], "%dMi",
		(int)number_of(m->template, "default_disk_mb"));
	m->cpu = limit_text(m, S_CPU, m->text[0]);
	m->memory = limit_text(m, S_MEMORY, m->text[1]);
	m->disk = limit_text(m, S_DISK, m->text[2]);
	memory = parse_size(m->memory);
	if (memory < 0) {
		kw_refuse(c, 400, "Invalid memory format", m->memory);
		return -1;
	}
	disk = parse_size(m->disk);
	if (disk < 0) {
		kw_refuse(c, 400, "Invalid disk format", m->disk);
		return -1;
	}
	if (!parse_cores(m->cpu, &cores)) {
		kw_refuse(c, 400, "Invalid CPU format", m->cpu);
		return -1;
	}
	/* What the client asked for is held or refused; a template's default as far as it goes. */
	if (m->memory != m->text[1] || memory <= c->conf->memory_max_bytes)
		m->spec.memory_bytes = memory;
	m->spec.cpus = m->cpu != m->text[0] ? cores : 0;
	/*
	 * The host's own limit is the smaller one more often than not: the answer says which is
	 * held.
	 */
	m->spec.disk_bytes = most && disk > most ? most : disk;
	if (most && disk > most) {
		snprintf(m->text[2], sizeof m->text[2], "%lldMi", (long long)(most >> 20));
		m->disk = m->text[2];
	}
	return 0;
}

static struct json_object *limits_document(const struct dialect_call *c, const struct making *m)
{
	struct json_object *o = json_object_new_object();

	kw_add_text(o, "cpu", m->cpu);
	kw_add_text(o, "memory", m->memory);
	kw_add_text(o, "disk", m->disk);
	json_object_object_add(o, "max_processes", json_object_new_int64(c->conf->processes_max));
	return o;
}

static struct json_object *given_or(const struct schema_value *v, struct json_object *other)
{
	return v->given ? json_object_get(v->json) : other;
}

/* "python3.11" runs python, "nodejs20" javascript, and so on. */
static const char *language_of(const char *runtime)
{
	return !strncmp(runtime, "nodejs", 6) ? "javascript"
	       : !strncmp(runtime, "java", 4) ? "java"
	       : !strncmp(runtime, "go", 2)   ? "go"
					      : "python";
}

static bool wants_dependencies(const struct making *m)
{
	return m->v[S_DEPENDENCIES].given &&
	       json_object_array_length(m->v[S_DEPENDENCIES].json) > 0;
}

static void add_dependencies(struct json_object *o, const struct making *m)
{
	/* "": the installer's own; never null, which the original does not say */
	json_object_object_add(o, "python_package_index_url",
		given_or(&m->v[S_INDEX_URL], json_object_new_string("")));
	json_object_object_add(o, "requested_dependencies", json_object_new_array());
	json_object_object_add(o, "installed_dependencies", json_object_new_array());
	kw_add_text(o, "dependency_install_status", "completed");
	kw_add_text(o, "dependency_install_error", NULL);
	kw_add_text(o, "dependency_install_started_at", NULL);
	kw_add_text(o, "dependency_install_completed_at", NULL);
	if (wants_dependencies(m))
		kw_deps_begun(o, m->v[S_DEPENDENCIES].json, "");
}

/* In the order of the original's answers. */
static struct json_object *new_document(
	const struct dialect_call *c, const struct making *m, const char *id)
{
	struct json_object *o = json_object_new_object();
	const char *runtime = kw_text(m->template, "runtime_type");
	char path[sizeof WORKSPACE_PREFIX + 4 * KW_ID_MAX], box[8 + 4 * KW_ID_MAX];
	char now[KW_TIME_LEN];

	kw_now(now);
	snprintf(path, sizeof path, WORKSPACE_PREFIX "%s", id);
	snprintf(box, sizeof box, "sandbox-%s", id);
	kw_add_text(o, "id", id);
	kw_add_text(o, "template_id", kw_text(m->template, "id"));
	kw_add_text(o, "status", "creating");
	json_object_object_add(o, "resource_limit", limits_document(c, m));
	kw_add_text(o, "workspace_path", path);
	kw_add_text(o, "language_runtime", language_of(runtime));
	kw_add_text(o, "runtime_type", runtime);
	kw_add_text(o, "runtime_node", "local");
	kw_add_text(o, "container_id", box);
	kw_add_text(o, "pod_name", NULL);
	json_object_object_add(o, "env_vars", given_or(&m->v[S_ENV], json_object_new_object()));
	json_object_object_add(o, "timeout",
		json_object_new_int64(m->v[S_TIMEOUT].given ? m->v[S_TIMEOUT].i
							    : (int64_t)number_of(m->template,
								      "default_timeout_sec")));
	add_dependencies(o, m);
	kw_add_text(o, "created_at", now);
	kw_add_text(o, "updated_at", now);
	kw_add_text(o, "completed_at", NULL);
	kw_add_text(o, "last_activity_at", now);
	return o;
}

/* What is stored: what clients see, and what is ours. */
static struct json_object *new_record(
	struct dialect_call *c, const struct making *m, const char *id)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "public", new_document(c, m, id));
	kw_add_text(o, "session", "");
	kw_add_text(o, "image", m->spec.image);
	kw_add_text(o, "language", language_of(kw_text(m->template, "runtime_type")));
	json_object_object_add(o, "event", given_or(&m->v[S_EVENT], NULL));
	return o;
}

static void forget(struct dialect_call *c, const char *id)
{
	struct index_question q = kw_question(INDEX_REMOVE, KW_SESSION, id);
	struct index_answer a;
	struct err e = {0};

	if (index_ask(c->conf->state_dir, &q, NULL, 0, &a, NULL, &e) < 0)
		dialect_fail(c, &e, "forget a session that was not made");
}

/* A name is taken first, so that of two requests for one only one makes a session. */
static int reserve(struct dialect_call *c, struct making *m, struct err *e)
{
	bool given = m->v[S_ID].given;
	char made[KW_ID_SIZE];
	int ret;

	for (int i = 0; i < 8; i++) {
		if (!given && kw_make_id(made, "sess_%Y%m%d_", e) < 0) {
			dialect_fail(c, e, "make a session");
			return -1;
		}
		json_object_put(m->doc);
		m->doc = new_record(c, m, given ? json_object_get_string(m->v[S_ID].json) : made);
		ret = kw_session_write(c, INDEX_ADD, m->doc, 0, e);
		if (ret == 0 || ret == -2)
			return ret;
		if (given)
			break;
	}
	kw_refuse(c, 409, "Session ID already exists", kw_text(kw_public(m->doc), "id"));
	return -1;
}

/* 400 for whatever the client can change, as the original. */
static void creation_failed(struct dialect_call *c, const struct err *e)
{
	if (e->kind == ERR_NOTFOUND || e->kind == ERR_LIMIT || e->kind == ERR_REQUEST)
		dialect_detail(c, 400, e->msg);
	else
		dialect_fail(c, e, "make a session");
}

/*
 * Its sandbox stays between executions, and its files are where clients look for them. Who ends it
 * is this file's dialect, which has results stored first; the keeper would only where nobody asks
 * any more.
 */
static void complete_spec(struct dialect_call *c, struct session_spec *spec)
{
	int64_t idle = c->conf->kweaver_idle_s;

	spec->live = true;
	spec->tied = true; /* until its document says which it is */
	spec->at_workspace = true;
	spec->bounded = true;
	spec->idle_s = idle && idle < 31536000 - KW_KEPT_S ? idle + KW_KEPT_S : 31536000;
}

/* Clients of the original expect to be told that it is being made, and look again. */
static void answer_made(struct dialect_call *c, struct json_object *record)
{
	kw_add_text(kw_public(record), "status", "creating");
	dialect_header(c, "X-Session-Id", kw_text(record, "session"));
	kw_answer(c, 201, kw_public(record));
}

/* -1: the response is complete, and the record has gone. */
static int not_made(struct dialect_call *c, struct making *m, const struct err *e)
{
	if (e->kind == ERR_LIMIT && e->errnum == ENOTSUP)
		dialect_detail(c, 503, e->msg);
	else
		creation_failed(c, e);
	forget(c, kw_text(kw_public(m->doc), "id"));
	return -1;
}

/*
 * Begins to install what the session is to see; what is there or fails at once needs no second look. 0: go
 * on. 1: it has failed, which is the session's end and the answer. -1: the response is complete.
 */
static int install(struct dialect_call *c, struct making *m)
{
	struct json_object *o = kw_public(m->doc);
	struct kw_deps d = {.image = m->spec.image,
		.language = kw_text(m->doc, "language"),
		.index_url = kw_text(o, "python_package_index_url"),
		.list = m->v[S_DEPENDENCIES].json,
		.timeout_s = m->v[S_INSTALL].given ? m->v[S_INSTALL].i : INSTALL_S,
		.fresh = true,
		.wait_ms = INSTALL_GLANCE_MS};
	bool lenient = m->v[S_FAIL].given && !m->v[S_FAIL].b;
	struct kw_deps_result r;
	struct err e = {0};

	if (!wants_dependencies(m))
		return 0;
	if (kw_deps_install(c, &d, &r, &e) < 0)
		return not_made(c, m, &e);
	if (r.pending) {
		m->installing = true;
		kw_deps_pending(m->doc, d.timeout_s, lenient);
		buf_clear(&r.why);
		return 0;
	}
	kw_deps_ended(o, r.failed ? (buf_ok(&r.why) ? r.why.p : "it failed") : NULL);
	buf_clear(&r.why);
	if (!r.failed) {
		memcpy(m->deps, r.key, sizeof m->deps);
		m->spec.deps = m->deps;
	}
	if (!r.failed || lenient)
		return 0;
	kw_set_status(m->doc, "failed", true);
	if (kw_session_write(c, INDEX_CHANGE, m->doc, 0, &e) == 0)
		kw_answer(c, 201, o);
	else if (c->rs->status == 0)
		kw_not_found(c, "Session not found", kw_text(o, "id"));
	return 1;
}

static void make_session(struct dialect_call *c, struct making *m)
{
	struct session_made made = {.tie = -1};
	struct err e = {0};

	kw_sweep(c);
	complete_spec(c, &m->spec);
	if (reserve(c, m, &e) < 0 || install(c, m) != 0)
		return;
	if (c->ops->create(c->backend, &m->spec, &made, &e) < 0) {
		not_made(c, m, &e);
		return;
	}
	kw_add_text(m->doc, "session", made.id);
	if (!m->installing)
		kw_set_status(m->doc, "running", false);
	if (m->spec.deps)
		kw_deps_list(c, m->doc);
	if (kw_session_write(c, INDEX_CHANGE, m->doc, 0, &e) == 0) {
		if (c->ops->keep(c->backend, &made, &e) == 0)
			answer_made(c, m->doc);
		else
			not_made(c, m, &e);
	} else if (c->rs->status == 0) { /* removed by another request meanwhile */
		kw_not_found(c, "Session not found", kw_text(kw_public(m->doc), "id"));
	}
	own_close(&made.tie);
}

/* The template's variables, then the client's. */
static int fill_environment(struct making *m, struct err *e)
{
	OWN_BUF all = BUF_INIT(m->env.max);
	struct json_object *vars;

	if (json_object_object_get_ex(m->template, "default_env_vars", &vars) && vars) {
		json_object_object_foreach(vars, name, value)
		{
			OWN_BUF one = BUF_INIT(m->env.max);

			buf_addf(&one, "%s=%s", name, json_object_get_string(value));
			if (!buf_ok(&one) || env_put(&all, one.p, e) < 0)
				return err_set(e, ERR_LIMIT, 0, "the template's variables");
		}
	}
	if (m->env.len && env_put_block(&all, m->env.p, m->env.len, e) < 0)
		return -1;
	buf_clear(&m->env);
	m->env = all;
	all = BUF_INIT(0);
	m->spec.env = m->env.p;
	m->spec.env_bytes = m->env.len;
	return 0;
}

/*
 * The original's own images are on no registry; a host's is in their place, wherever they are said
 * to be.
 */
static const char *image_of(const struct dialect_call *c, const char *url)
{
	static const char own[] = "sandbox-template-";
	const char *slash = strrchr(url, '/');

	return strncmp(slash ? slash + 1 : url, own, sizeof own - 1) ? url : c->conf->kweaver_image;
}

void kw_sessions_add(struct dialect_call *c)
{
	struct making m = {.env = BUF_INIT((size_t)c->conf->environment_max_bytes)};
	struct err e = {0};
	bool gone;

	if (schema_check(fields, S_MAX, c->body->doc, m.v, &m.env, &c->rs->body)) {
		dialect_status(c, 422);
		making_clear(&m);
		return;
	}
	m.template = kw_template(c, json_object_get_string(m.v[S_TEMPLATE].json), &gone);
	if (gone) {
		kw_refuse(
			c, 400, "Template not found", json_object_get_string(m.v[S_TEMPLATE].json));
	} else if (m.template && read_limits(c, &m) == 0) {
		snprintf(m.spec.image, sizeof m.spec.image, "%s",
			image_of(c, kw_text(m.template, "image_url")));
		if (fill_environment(&m, &e) < 0)
			creation_failed(c, &e);
		else
			make_session(c, &m);
	}
	making_clear(&m);
}

/* Templates of the control plane: an image with defaults, under a name of the client's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fcgi/dialects/kweaver.h"
#include "fcgi/schema.h"
#include "images/own_json.h"
#include "images/store.h"
#include "isolate/own.h"

static const char *const runtimes[] = {"python3.11", "nodejs20", "java17", "go1.21", NULL};
static const struct schema_bounds id_length = {.length_min = 1, .length_max = KW_ID_MAX},
				  name_length = {.length_min = 1, .length_max = 255},
				  image_length = {.length_min = 1, .length_max = 512},
				  runtime_names = {.literals = runtimes},
				  cpu_range = {.min = 0.1, .max = 4},
				  memory_range = {.min = 128, .max = 8192},
				  disk_range = {.min = 256, .max = 51200},
				  timeout_range = {.min = 60, .max = 3600};

/* The original takes any text and fails when a session is made. */
static void check_image(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *text = json_object_get_string(v->json);

	(void)arg;
	if (strlen(text) != (size_t)json_object_get_string_len(v->json) || !store_ref_valid(text))
		schema_value_error(r, f, NULL, -1, v->json, "not an image reference");
}

/* It is a part of a path, too. */
static void check_id(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *text = json_object_get_string(v->json);

	(void)arg;
	if (strlen(text) != (size_t)json_object_get_string_len(v->json))
		schema_value_error(
			r, f, NULL, -1, v->json, "an id must not contain a NUL character");
}

enum { T_ID, T_RUNTIME, T_NAME, T_IMAGE, T_CPU, T_MEMORY, T_DISK, T_TIMEOUT, T_ENV, T_MAX };

/* The first two are not for PUT. */
static const struct schema_field new_fields[T_MAX] = {
	[T_ID] = {"id", SCHEMA_STRING, true, false, check_id, &id_length},
	[T_RUNTIME] = {"runtime_type", SCHEMA_STRING, true, false, NULL, &runtime_names},
	[T_NAME] = {"name", SCHEMA_STRING, true, false, NULL, &name_length},
	[T_IMAGE] = {"image_url", SCHEMA_STRING, true, false, check_image, &image_length},
	[T_CPU] = {"default_cpu_cores", SCHEMA_FLOAT, false, false, NULL, &cpu_range},
	[T_MEMORY] = {"default_memory_mb", SCHEMA_INT, false, false, NULL, &memory_range},
	[T_DISK] = {"default_disk_mb", SCHEMA_INT, false, false, NULL, &disk_range},
	[T_TIMEOUT] = {"default_timeout", SCHEMA_INT, false, false, NULL, &timeout_range},
	[T_ENV] = {"default_env_vars", SCHEMA_STRING_MAP, false, true, kw_check_env, NULL},
};

static void set(struct json_object *o, const char *name, struct json_object *value)
{
	json_object_object_add(o, name, value);
}

static void set_text(struct json_object *o, const char *name, const char *text)
{
	set(o, name, json_object_new_string(text));
}

/* In the order of the original's answers. */
static struct json_object *new_document(
	const char *id, const char *name, const char *image, const char *runtime)
{
	struct json_object *o = json_object_new_object();
	char now[KW_TIME_LEN];

	kw_now(now);
	set_text(o, "id", id);
	set_text(o, "name", name);
	set_text(o, "image_url", image);
	set_text(o, "runtime_type", runtime);
	set(o, "default_cpu_cores", json_object_new_double_s(0.5, "0.5"));
	set(o, "default_memory_mb", json_object_new_int(512));
	set(o, "default_disk_mb", json_object_new_int(1024));
	set(o, "default_timeout_sec", json_object_new_int(300));
	set(o, "default_env_vars", NULL);
	set(o, "is_active", json_object_new_boolean(true));
	set_text(o, "created_at", now);
	set_text(o, "updated_at", now);
	return o;
}

/* What a request gives replaces what is there; the place of a member stays. */
static void apply(struct json_object *o, const struct schema_value *v)
{
	if (v[T_NAME].given)
		set(o, "name", json_object_get(v[T_NAME].json));
	if (v[T_IMAGE].given)
		set(o, "image_url", json_object_get(v[T_IMAGE].json));
	if (v[T_CPU].given)
		set(o, "default_cpu_cores", json_object_new_double(v[T_CPU].d));
	if (v[T_MEMORY].given)
		set(o, "default_memory_mb", json_object_new_int64(v[T_MEMORY].i));
	if (v[T_DISK].given)
		set(o, "default_disk_mb", json_object_new_int64(v[T_DISK].i));
	if (v[T_TIMEOUT].given)
		set(o, "default_timeout_sec", json_object_new_int64(v[T_TIMEOUT].i));
	if (v[T_ENV].given)
		set(o, "default_env_vars", json_object_get(v[T_ENV].json));
}

static int add(struct dialect_call *c, struct json_object *o, struct err *e)
{
	struct index_question q = kw_question(INDEX_ADD, KW_TEMPLATE, kw_text(o, "id"));
	struct index_answer a;

	snprintf(q.tag, sizeof q.tag, "%s", kw_text(o, "name"));
	return kw_ask(c, &q, o, &a, NULL, e);
}

/* The template that the original comes with, once: it may be removed. -1: the response is complete. */
static int seed(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_GET, KW_META, "seeded");
	struct index_answer a;
	OWN_JSON *o = NULL;
	struct err e = {0};
	int got = kw_ask(c, &q, NULL, &a, NULL, &e);

	if (got == 0)
		return 0;
	if (got == -2)
		return -1;
	o = new_document("python-basic", "Python Basic", c->conf->kweaver_image, "python3.11");
	set(o, "default_cpu_cores", json_object_new_double_s(1, "1.0"));
	if (add(c, o, &e) == -2)
		return -1;
	q = kw_question(INDEX_ADD, KW_META, "seeded");
	return kw_ask(c, &q, o, &a, NULL, &e) == -2 ? -1 : 0;
}

struct json_object *kw_template(struct dialect_call *c, const char *id, bool *gone)
{
	struct index_question q = kw_question(INDEX_GET, KW_TEMPLATE, id);
	struct index_answer a;
	struct json_object *o = NULL;
	struct err e = {0};

	*gone = false;
	if (seed(c) < 0)
		return NULL;
	*gone = kw_ask(c, &q, NULL, &a, &o, &e) == -1;
	return *gone ? NULL : o;
}

/* Two that come at once may both be the last. -1: the response is complete. */
static int check_room(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, KW_TEMPLATE, "");
	struct index_answer a;
	OWN_JSON *list = NULL;
	struct err e = {0};

	if (kw_ask(c, &q, NULL, &a, &list, &e) < 0)
		return -1;
	if (a.total < (uint64_t)c->conf->kweaver_templates_max)
		return 0;
	err_set(&e, ERR_BUSY, EUSERS, "kweaver_templates_max templates exist already");
	dialect_fail(c, &e, "make a template");
	return -1;
}

void kw_templates_add(struct dialect_call *c)
{
	OWN_BUF env = BUF_INIT((size_t)c->conf->environment_max_bytes);
	struct schema_value v[T_MAX];
	OWN_JSON *o = NULL;
	struct err e = {0};

	if (schema_check(new_fields, T_MAX, c->body->doc, v, &env, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	if (seed(c) < 0 || check_room(c) < 0)
		return;
	o = new_document(json_object_get_string(v[T_ID].json), "", "",
		json_object_get_string(v[T_RUNTIME].json));
	apply(o, v);
	switch (add(c, o, &e)) {
	case 0:
		kw_answer(c, 201, o);
		break;
	case -1:
		kw_conflict(c, "Template ID already exists", kw_text(o, "id"));
	}
}

void kw_templates_list(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_LIST, KW_TEMPLATE, "");
	struct index_answer a;
	OWN_JSON *list = NULL;
	int64_t limit, offset;
	struct err e = {0};

	if (kw_query_number(c, "limit", 50, 1, KW_LIST_MAX, true, &limit) < 0 ||
		kw_query_number(c, "offset", 0, 0, UINT32_MAX, true, &offset) < 0 || seed(c) < 0)
		return;
	q.order = INDEX_BY_TAG;
	q.limit = (uint32_t)limit;
	q.offset = (uint32_t)offset;
	if (kw_ask(c, &q, NULL, &a, &list, &e) == 0)
		kw_answer(c, 200, list);
}

void kw_templates_get(struct dialect_call *c)
{
	bool gone;
	OWN_JSON *o = kw_template(c, c->param, &gone);

	if (o)
		kw_answer(c, 200, o);
	else if (gone)
		kw_not_found(c, "Template not found", c->param);
}

/* All members are optional and may be null. */
static unsigned check_change(struct dialect_call *c, struct schema_value *v)
{
	OWN_BUF env = BUF_INIT((size_t)c->conf->environment_max_bytes);
	struct schema_field fields[T_MAX];
	const size_t skip = T_NAME;

	memcpy(fields, new_fields, sizeof fields);
	for (size_t i = 0; i < T_MAX; i++) {
		fields[i].required = false;
		fields[i].nullable = true;
	}
	memset(v, 0, T_MAX * sizeof *v);
	return schema_check(
		fields + skip, T_MAX - skip, c->body->doc, v + skip, &env, &c->rs->body);
}

void kw_templates_change(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_CHANGE, KW_TEMPLATE, c->param);
	struct schema_value v[T_MAX];
	struct index_answer a;
	char now[KW_TIME_LEN];
	struct err e = {0};
	OWN_JSON *o = NULL;
	bool gone;

	if (check_change(c, v)) {
		dialect_status(c, 422);
		return;
	}
	o = kw_template(c, c->param, &gone);
	if (o) {
		apply(o, v);
		kw_now(now);
		set_text(o, "updated_at", now);
		snprintf(q.tag, sizeof q.tag, "%s", kw_text(o, "name"));
		gone = kw_ask(c, &q, o, &a, NULL, &e) == -1;
	}
	if (gone)
		kw_not_found(c, "Template not found", c->param);
	else if (o && c->rs->status == 0)
		kw_answer(c, 200, o);
}

void kw_templates_remove(struct dialect_call *c)
{
	struct index_question q = kw_question(INDEX_REMOVE, KW_TEMPLATE, c->param);
	struct index_answer a;
	struct err e = {0};

	if (seed(c) < 0 || kw_ask(c, &q, NULL, &a, NULL, &e) == -2)
		return;
	if (a.total == 0) {
		kw_not_found(c, "Template not found", c->param);
		return;
	}
	buf_adds(&c->rs->body, "{\"message\":\"Template deleted successfully\"}");
	dialect_status(c, 200);
}

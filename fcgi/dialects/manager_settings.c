/* Variables, command and time limit of a sandbox, read and changed. */
#include <errno.h>
#include <string.h>

#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/schema.h"
#include "images/own_json.h"
#include "isolate/own.h"

/* {name: value, ..} of members of what is shown. */
static void answer_members(struct dialect_call *c, const struct manager_box *b, const char *status,
	const char *const *names)
{
	OWN_JSON *o = json_object_new_object();
	struct json_object *v;

	if (status)
		manager_put(o, "status", status);
	for (; *names; names++) {
		json_object_object_get_ex(b->shown, *names, &v);
		json_object_object_add(o, *names, json_object_get(v));
	}
	kw_answer(c, 200, o);
}

static const char *const env_names[] = {"environment", NULL};
static const char *const entry_names[] = {"entrypoint", "command", NULL};

void manager_env_get(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};

	if (manager_find(c, &b) == 0)
		answer_members(c, &b, NULL, env_names);
}

static void check_env(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *name = manager_bad_variable(v->json);

	(void)arg;
	if (name)
		schema_value_error(
			r, f, name, -1, v->json, "Invalid environment variable name or value");
}

void manager_env_set(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"environment", SCHEMA_STRING_MAP, true, false, check_env, NULL},
		{"merge", SCHEMA_BOOL, false, false, NULL, NULL}};
	struct schema_value v[NELEM(fields)] = {{.given = false}};
	OWN_MANAGER_BOX b = {.record = NULL};
	struct json_object *vars = NULL;
	OWN_BUF env = BUF_INIT(0);
	struct err e = {0};
	OWN_FD turn = -1;

	if (schema_check(fields, NELEM(fields), c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	turn = manager_turn(c);
	if (turn < 0 || manager_find(c, &b) < 0)
		return;
	if (v[1].given && !v[1].b)
		json_object_object_add(b.shown, "environment", json_object_new_object());
	json_object_object_get_ex(b.shown, "environment", &vars);
	json_object_object_foreach(v[0].json, name, value)
		json_object_object_add(vars, name, json_object_get(value));
	if (manager_environment(c, &b, &env, &e) < 0)
		dialect_detail(c, 422, e.msg);
	else if (manager_apply(c, &b) == 0)
		answer_members(c, &b, "updated", env_names);
}

void manager_entrypoint_get(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};

	if (manager_find(c, &b) == 0)
		answer_members(c, &b, NULL, entry_names);
}

void manager_entrypoint_set(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	struct json_object *v[2] = {NULL, NULL};
	OWN_FD turn = -1;

	for (int i = 0; i < 2; i++) {
		json_object_object_get_ex(c->body->doc, entry_names[i], &v[i]);
		if (!manager_command_ok(v[i])) {
			dialect_detail(c, 422,
				"entrypoint and command: a string or a list of strings, without "
				"NUL characters");
			return;
		}
	}
	turn = manager_turn(c);
	if (turn < 0 || manager_find(c, &b) < 0)
		return;
	for (int i = 0; i < 2; i++)
		if (v[i]) /* null leaves it, as in the original */
			json_object_object_add(b.shown, entry_names[i], json_object_get(v[i]));
	if (manager_apply(c, &b) == 0)
		answer_members(c, &b, "updated", entry_names);
}

/* The limit of a command is set when it begins: the next one has it. */
void manager_timeout_set(struct dialect_call *c)
{
	static const struct schema_bounds range = {.min = 0, .max = SESSION_AGE_MAX_S};
	static const struct schema_field fields[] = {
		{"timeout", SCHEMA_INT, true, false, NULL, &range}};
	struct schema_value v[NELEM(fields)];
	OWN_MANAGER_BOX b = {.record = NULL};
	struct json_object *resources;
	OWN_FD turn = -1;

	if (schema_check(fields, NELEM(fields), c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	turn = manager_turn(c);
	if (turn < 0 || manager_find(c, &b) < 0)
		return;
	json_object_object_get_ex(b.shown, "resources", &resources);
	json_object_object_add(resources, "timeout", v[0].i ? json_object_new_int64(v[0].i) : NULL);
	if (manager_write(c, &b, INDEX_CHANGE, b.version) < 0)
		return;
	buf_addf(&c->rs->body, "{\"status\":\"updated\",\"timeout\":%lld}", (long long)v[0].i);
	dialect_status(c, 200);
}

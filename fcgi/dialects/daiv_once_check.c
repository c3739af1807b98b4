/* The bodies of POST /run/commands/ and /run/code/: two tables and the checks that pydantic does. */
#include <stdio.h>
#include <string.h>

#include "fcgi/deps.h"
#include "fcgi/dialects/daiv.h"
#include "fcgi/json_out.h"
#include "fcgi/languages.h"
#include "fcgi/schema.h"
#include "images/store.h"
#include "isolate/own.h"

#define HEX "0123456789abcdefABCDEF"

enum { UUID_VERSION = 4, UUID_ERROR_MAX = 160 };

/* The message about the first byte that can stand in no UUID; NULL: there is none. */
static const char *bad_character(const char *p, size_t n, size_t before, char *why, size_t size)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)p[i];
		size_t len = ch < 0x80 ? 1 : ch < 0xe0 ? 2 : ch < 0xf0 ? 3 : 4;

		if (ch && strchr(HEX "-", ch))
			continue;
		snprintf(why, size,
			"invalid character: expected an optional prefix of `urn:uuid:` followed by "
			"[0-9a-fA-F-], found `%.*s` at %zu",
			(int)(len > n - i ? n - i : len), p + i, before + i + 1);
		return why;
	}
	return NULL;
}

/* Five groups of hexadecimal digits. */
static const char *bad_groups(const char *p, size_t n, char *why, size_t size)
{
	static const size_t want[] = {8, 4, 4, 4, 12};
	size_t groups = 1, at = 0;

	for (size_t i = 0; i < n; i++)
		groups += p[i] == '-';
	if (groups != NELEM(want)) {
		snprintf(why, size, "invalid group count: expected 5, found %zu", groups);
		return why;
	}
	for (size_t g = 0; g < NELEM(want); g++) {
		const char *dash = memchr(p + at, '-', n - at);
		size_t len = dash ? (size_t)(dash - (p + at)) : n - at;

		if (len != want[g]) {
			snprintf(why, size,
				"invalid group length in group %zu: expected %zu, found %zu", g,
				want[g], len);
			return why;
		}
		at += len + 1;
	}
	return NULL;
}

const char *daiv_uuid_fault(const char *p, size_t n, char *why, size_t size, int *version)
{
	size_t before = 0, all = n;
	const char *fault;

	if (n >= 2 && p[0] == '{' && p[n - 1] == '}')
		before = 1, n -= 2;
	else if (n >= 9 && !memcmp(p, "urn:uuid:", 9))
		before = 9, n -= 9;
	p += before;
	fault = bad_character(p, n, before, why, size);
	if (!fault && !before && !memchr(p, '-', n)) {
		if (n != 32) {
			snprintf(why, size,
				"invalid length: expected length 32 for simple format, found %zu",
				all);
			return why;
		}
		*version = (int)strcspn(HEX, (char[]){p[12], '\0'});
		return NULL;
	}
	if (!fault)
		fault = bad_groups(p, n, why, size);
	if (!fault)
		*version = (int)strcspn(HEX, (char[]){p[14], '\0'});
	return fault;
}

static void check_uuid(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	char why[UUID_ERROR_MAX], msg[UUID_ERROR_MAX + 40];
	OWN_BUF ctx = BUF_INIT(1024);
	int version = 0;

	(void)arg;
	if (!json_object_is_type(v->json, json_type_string)) {
		schema_problem(r, &(struct schema_fault){"uuid_type", f->name, NULL, -1,
					  "UUID input should be a string, bytes or UUID object",
					  v->json, NULL});
		return;
	}
	if (daiv_uuid_fault(json_object_get_string(v->json),
		    (size_t)json_object_get_string_len(v->json), why, sizeof why, &version)) {
		snprintf(msg, sizeof msg, "Input should be a valid UUID, %s", why);
		buf_adds(&ctx, "{\"error\":");
		json_out_text(&ctx, why);
		buf_addc(&ctx, '}');
		schema_problem(r, &(struct schema_fault){"uuid_parsing", f->name, NULL, -1, msg,
					  v->json, buf_ok(&ctx) ? ctx.p : NULL});
	} else if (version != UUID_VERSION) {
		schema_problem(
			r, &(struct schema_fault){"uuid_version", f->name, NULL, -1,
				   "UUID version 4 expected", v->json, "{\"expected_version\":4}"});
	}
}

static bool is_text(struct json_object *s)
{
	return strlen(json_object_get_string(s)) == (size_t)json_object_get_string_len(s);
}

/* --- /run/commands/ --- */

struct once_arg {
	struct dialect_call *c;
	struct daiv_once *out;
};

static void check_image(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (!is_text(v->json) || !store_ref_valid(json_object_get_string(v->json)))
		schema_value_error(r, f, NULL, -1, v->json, "not an image reference");
}

static void check_commands(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	daiv_check_commands(f, v, ((const struct once_arg *)arg)->c->conf, r);
}

/* As it is joined to the run's directory: an absolute one replaces that. */
static void check_workdir(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	struct daiv_once *out = ((const struct once_arg *)arg)->out;
	const char *p = json_object_get_string(v->json), *why;
	size_t n = (size_t)json_object_get_string_len(v->json), root = n && *p == '/';

	why = daiv_workdir(p + root, n - root, out->workdir + root, sizeof out->workdir - root);
	if (root)
		out->workdir[0] = '/';
	if (why)
		schema_value_error(r, f, NULL, -1, v->json, why);
}

static void check_archive(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	daiv_check_archive(f, v, &((const struct once_arg *)arg)->c->body->scan, r);
}

enum { O_RUN_ID, O_IMAGE, O_COMMANDS, O_WORKDIR, O_ARCHIVE, O_MAX };

static const struct schema_field once_fields[O_MAX] = {
	[O_RUN_ID] = {"run_id", SCHEMA_ANY, true, false, check_uuid, NULL},
	[O_IMAGE] = {"base_image", SCHEMA_STRING, true, false, check_image, NULL},
	[O_COMMANDS] = {"commands", SCHEMA_STRING_LIST, true, false, check_commands, NULL},
	[O_WORKDIR] = {"workdir", SCHEMA_STRING, false, true, check_workdir, NULL},
	[O_ARCHIVE] = {"archive", SCHEMA_BYTES, true, false, check_archive, NULL},
};

unsigned daiv_check_once(struct dialect_call *c, struct daiv_once *out)
{
	struct once_arg arg = {c, out};
	struct schema_value v[O_MAX];
	unsigned problems;

	memset(out, 0, sizeof *out);
	problems = schema_check(once_fields, O_MAX, c->body->doc, v, &arg, &c->rs->body);
	if (problems) {
		dialect_status(c, 422);
		return problems;
	}
	buf_clear(&c->rs->body);
	out->commands = v[O_COMMANDS].json;
	snprintf(out->image, sizeof out->image, "%s", json_object_get_string(v[O_IMAGE].json));
	return 0;
}

/* --- /run/code/ --- */

struct code_arg {
	struct dialect_call *c;
	struct daiv_code *out;
};

static void check_language(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const struct code_arg *a = arg;
	char names[LANGUAGES_TEXT_MAX], msg[LANGUAGES_TEXT_MAX + 32];
	OWN_BUF ctx = BUF_INIT(2 * LANGUAGES_TEXT_MAX);

	if (json_object_is_type(v->json, json_type_string) && is_text(v->json))
		a->out->language = language_find(a->c->conf, json_object_get_string(v->json));
	if (a->out->language)
		return;
	language_names(a->c->conf, names, sizeof names);
	snprintf(msg, sizeof msg, "Input should be %s", names);
	buf_adds(&ctx, "{\"expected\":");
	json_out_text(&ctx, names);
	buf_addc(&ctx, '}');
	schema_problem(r, &(struct schema_fault){"literal_error", f->name, NULL, -1, msg, v->json,
				  buf_ok(&ctx) ? ctx.p : NULL});
}

/* Behind the language in the table. */
static void check_dependencies(const struct schema_field *f, const struct schema_value *v,
	void *arg, struct schema_report *r)
{
	const struct daiv_code *out = ((const struct code_arg *)arg)->out;
	size_t n = json_object_array_length(v->json);
	char text[128];

	if (n && out->language && !(out->language->install && *out->language->install)) {
		schema_value_error(r, f, NULL, -1, v->json,
			"no installer is known for this language (language_NAME_install in "
			"sandbox.conf)");
		return;
	}
	for (size_t i = 0; out->language && i < n; i++) {
		struct json_object *s = json_object_array_get_idx(v->json, i);
		const char *why = deps_add(out->set, out->language->name, json_object_get_string(s),
			(size_t)json_object_get_string_len(s));

		snprintf(text, sizeof text, "the requirement %s", why ? why : "");
		if (why)
			schema_value_error(r, f, NULL, (long)i, s, text);
	}
}

enum { D_RUN_ID, D_LANGUAGE, D_DEPENDENCIES, D_CODE, D_MAX };

static const struct schema_field code_fields[D_MAX] = {
	[D_RUN_ID] = {"run_id", SCHEMA_ANY, true, false, check_uuid, NULL},
	[D_LANGUAGE] = {"language", SCHEMA_ANY, true, false, check_language, NULL},
	[D_DEPENDENCIES] = {"dependencies", SCHEMA_STRING_LIST, false, false, check_dependencies,
		NULL},
	[D_CODE] = {"code", SCHEMA_STRING, true, false, NULL, NULL},
};

unsigned daiv_check_code(struct dialect_call *c, struct daiv_code *out)
{
	struct code_arg arg = {c, out};
	struct schema_value v[D_MAX];
	unsigned problems;

	problems = schema_check(code_fields, D_MAX, c->body->doc, v, &arg, &c->rs->body);
	if (problems) {
		dialect_status(c, 422);
		return problems;
	}
	buf_clear(&c->rs->body);
	out->code = json_object_get_string(v[D_CODE].json);
	out->code_bytes = (size_t)json_object_get_string_len(v[D_CODE].json);
	return 0;
}

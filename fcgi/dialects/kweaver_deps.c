/* Dependencies of a session: a set that is installed as a layer (deps.h) and seen by its code. */
#include "fcgi/dialects/kweaver_deps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "fcgi/capabilities.h"
#include "fcgi/deps.h"
#include "fcgi/files.h"
#include "images/own_json.h"
#include "isolate/own.h"

enum { NAME_MAX_CHARS = 100, WHY_MAX = 2000 };

static const struct schema_bounds name_length = {.length_min = 1, .length_max = NAME_MAX_CHARS};

static void check_name(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *text = json_object_get_string(v->json);
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789._-";

	(void)arg;
	if (strspn(text, good) != (size_t)json_object_get_string_len(v->json))
		schema_value_error(r, f, NULL, -1, v->json, "Invalid package name format");
}

static const struct schema_field item_fields[] = {
	{"name", SCHEMA_STRING, true, false, check_name, &name_length},
	{"version", SCHEMA_STRING, false, true, NULL, NULL},
};

static void check_item(struct schema_report *r, struct json_object *o, size_t i)
{
	struct schema_value v[NELEM(item_fields)];
	char within[48];

	snprintf(within, sizeof within, ",\"dependencies\",%zu", i);
	r->within = within;
	if (json_object_is_type(o, json_type_object))
		schema_fields(r, item_fields, NELEM(item_fields), o, v, NULL);
	else
		schema_problem(r, &(struct schema_fault){"model_attributes_type", NULL, NULL, -1,
					  "Input should be a valid dictionary or object to extract "
					  "fields from",
					  o, NULL});
	r->within = NULL;
}

void kw_check_dependencies(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	size_t n;

	(void)arg;
	if (!json_object_is_type(v->json, json_type_array)) {
		schema_problem(r, &(struct schema_fault){"list_type", f->name, NULL, -1,
					  "Input should be a valid list", v->json, NULL});
		return;
	}
	n = json_object_array_length(v->json);
	if (n > DEPS_MAX || (f->required && n == 0))
		schema_problem(
			r, &(struct schema_fault){n ? "too_long" : "too_short", f->name, NULL, -1,
				   n ? "List should have at most 50 items after validation"
				     : "List should have at least 1 item after validation",
				   v->json, NULL});
	for (size_t i = 0; n <= DEPS_MAX && i < n; i++)
		check_item(r, json_object_array_get_idx(v->json, i), i);
}

/* "requests" and ">=2"; a version alone is that very one. */
static void put_requirement(
	struct buf *b, const char *language, const char *name, const char *version)
{
	bool python = !strcmp(language, "python");

	buf_adds(b, name);
	if (*version && python)
		buf_addf(b, "%s%s", strchr("<>=!~", *version) ? "" : "==", version);
	else if (*version)
		buf_addf(b, "@%s", version);
}

/* NULL, or why one of the list is refused; *which is its name. */
static const char *make_set(
	struct deps_set *set, const char *language, struct json_object *list, const char **which)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		OWN_BUF text = BUF_INIT(4 * DEPS_REQUIREMENT_MAX);
		const char *fault;

		*which = kw_text(o, "name");
		put_requirement(&text, language, *which, kw_text(o, "version"));
		fault = buf_ok(&text) ? deps_add(set, language, text.p, text.len) : "too long";
		if (fault)
			return fault;
	}
	return NULL;
}

/* The end of what the installer wrote. */
static void explain(const struct deps_answer *a, struct buf *why)
{
	char text[WHY_MAX];
	struct stat st;
	off_t from = 0;
	ssize_t n = 0;

	if (a->timed_out)
		buf_adds(why, "Dependency installation timed out");
	else
		buf_addf(why, "Dependency installation failed with exit code %d", a->exit_code);
	if (a->output_fd < 0 || fstat(a->output_fd, &st) < 0)
		return;
	if (st.st_size > (off_t)sizeof text)
		from = st.st_size - (off_t)sizeof text;
	n = pread(a->output_fd, text, sizeof text, from);
	if (n > 0) {
		buf_adds(why, ": ");
		buf_add(why, text, (size_t)n);
	}
}

int kw_deps_install(
	struct dialect_call *c, const struct kw_deps *d, struct kw_deps_result *out, struct err *e)
{
	OWN_MEM struct deps_set *set = calloc(1, sizeof *set);
	struct deps_order o = {.image = d->image,
		.language = d->language,
		.index_url = d->index_url,
		.set = set,
		.timeout_ms = d->timeout_s * 1000};
	struct deps_answer a = {.output_fd = -1};
	const char *fault, *which = "";
	int ret;

	*out = (struct kw_deps_result){.why = BUF_INIT(4 * WHY_MAX)};
	if (!set)
		return err_set(e, ERR_SETUP, ENOMEM, "install dependencies");
	if (strcmp(d->language, "python"))
		o.index_url = "";
	fault = make_set(set, d->language, d->list, &which);
	if (fault)
		return err_set(e, ERR_REQUEST, 0, "dependency \"%.100s\": %s", which, fault);
	fault = deps_index_fault(o.index_url);
	if (fault)
		return err_set(e, ERR_REQUEST, 0, "python_package_index_url: %s", fault);
	if (!c->ops->deps)
		return err_set(e, ERR_LIMIT, ENOTSUP,
			"dependencies cannot be installed here: the backend lacks the capability "
			"\"%s\"",
			capability_name(CAN_DEPENDENCIES));
	ret = c->ops->deps->later(c->backend, &o, d->fresh, d->wait_ms, &a, e);
	if (ret == 0 && a.failed)
		explain(&a, &out->why);
	out->failed = a.failed;
	out->pending = a.pending;
	out->timed_out = a.timed_out;
	memcpy(out->key, a.key, sizeof out->key);
	own_close(&a.output_fd);
	return ret;
}

void kw_deps_begun(struct json_object *o, struct json_object *list, const char *index_url)
{
	struct json_object *requested = json_object_new_array();
	char now[KW_TIME_LEN];

	kw_now(now);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		struct json_object *copy = json_object_new_object();
		const char *version = kw_text(item, "version");

		kw_add_text(copy, "name", kw_text(item, "name"));
		kw_add_text(copy, "version", *version ? version : NULL);
		json_object_array_add(requested, copy);
	}
	json_object_object_add(o, "requested_dependencies", requested);
	if (*index_url)
		kw_add_text(o, "python_package_index_url", index_url);
	kw_add_text(o, "dependency_install_status", "installing");
	kw_add_text(o, "dependency_install_error", NULL);
	kw_add_text(o, "dependency_install_started_at", now);
	kw_add_text(o, "dependency_install_completed_at", NULL);
}

void kw_deps_ended(struct json_object *o, const char *error)
{
	char now[KW_TIME_LEN];

	kw_now(now);
	kw_add_text(o, "dependency_install_status", error ? "failed" : "completed");
	kw_add_text(o, "dependency_install_error", error);
	kw_add_text(o, "dependency_install_completed_at", now);
}

struct installed {
	struct json_object *list;
	const char *location;
	char now[KW_TIME_LEN];
};

/* NAME-VERSION.dist-info, as PEP 376 has it. */
static bool add_installed(void *arg, const char *name, size_t n, const struct files_record *r)
{
	static const char tail[] = ".dist-info";
	struct installed *in = arg;
	const char *dash = memchr(name, '-', n);
	struct json_object *o;

	if (!S_ISDIR(r->mode) || !dash || n < sizeof tail ||
		memcmp(name + n - (sizeof tail - 1), tail, sizeof tail - 1))
		return true;
	o = json_object_new_object();
	json_object_object_add(o, "name", json_object_new_string_len(name, (int)(dash - name)));
	json_object_object_add(o, "version",
		json_object_new_string_len(
			dash + 1, (int)(name + n - (sizeof tail - 1) - (dash + 1))));
	kw_add_text(o, "install_location", in->location);
	kw_add_text(o, "install_time", in->now);
	json_object_object_add(o, "is_from_template", json_object_new_boolean(false));
	json_object_array_add(in->list, o);
	return true;
}

void kw_deps_list(struct dialect_call *c, struct json_object *record)
{
	struct installed in = {json_object_new_array(), DEPS_ROOT "/python", ""};
	struct err e = {0};

	kw_now(in.now);
	if (kw_each(c, kw_text(record, "session"), in.location, "*.dist-info", add_installed, &in,
		    &e) < 0)
		json_object_object_add(kw_public(record), "dependency_install_error",
			json_object_new_string("what was installed cannot be listed now"));
	json_object_object_add(kw_public(record), "installed_dependencies", in.list);
}

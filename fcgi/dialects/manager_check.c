/* POST /sandboxes: what a client may ask for, and the record that it becomes. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/env_merge.h"
#include "images/own_json.h"
#include "isolate/clock.h"
#include "isolate/own.h"

#define IMAGE_PATTERN "^[a-zA-Z0-9][a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*:[a-zA-Z0-9_.-]+$"
#define WORDS_OF_REF  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

enum { NAME_MAX_BYTES = 128, PORTS_MAX = 64 };

/* IMAGE_PATTERN, and the image "host", which has no tag. */
static bool image_ok(const char *s)
{
	size_t n = strspn(s, WORDS_OF_REF);

	if (!strcmp(s, "host"))
		return true;
	if (n < 2 || !isalnum((unsigned char)*s))
		return false;
	for (s += n; *s == '/'; s += n)
		if ((n = strspn(++s, WORDS_OF_REF)) == 0)
			return false;
	return *s == ':' && s[1] && !s[1 + strspn(s + 1, WORDS_OF_REF)];
}

static void check_image(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *s = json_object_get_string(v->json);

	(void)arg;
	if (image_ok(s) && strlen(s) == (size_t)json_object_get_string_len(v->json) &&
		strlen(s) <= IMAGE_REF_MAX)
		return;
	schema_problem(r, &(struct schema_fault){"string_pattern_mismatch", f->name, NULL, -1,
				  "String should match pattern '" IMAGE_PATTERN "'", v->json,
				  "{\"pattern\":\"" IMAGE_PATTERN "\"}"});
}

static void check_plain(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (strlen(json_object_get_string(v->json)) != (size_t)json_object_get_string_len(v->json))
		schema_value_error(r, f, NULL, -1, v->json, "must not contain a NUL character");
}

static bool plain(struct json_object *o)
{
	return json_object_is_type(o, json_type_string) &&
	       strlen(json_object_get_string(o)) == (size_t)json_object_get_string_len(o);
}

static void check_command(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (!manager_command_ok(v->json))
		schema_value_error(r, f, NULL, -1, v->json,
			"must be a string or a list of strings, without NUL characters");
}

bool manager_command_ok(struct json_object *o)
{
	if (!o || plain(o))
		return true;
	if (!json_object_is_type(o, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(o); i++)
		if (!plain(json_object_array_get_idx(o, i)))
			return false;
	return true;
}

const char *manager_bad_variable(struct json_object *environment)
{
	json_object_object_foreach(environment, name, value)
	{
		OWN_BUF b = BUF_INIT(1 << 20);

		if (!plain(value))
			return name;
		buf_addf(&b, "%s=", name);
		buf_adds(&b, json_object_get_string(value));
		if (!buf_ok(&b) || !env_var_valid(b.p, b.len))
			return name;
	}
	return NULL;
}

enum { R_CPU, R_MEMORY, R_GPU, R_TIMEOUT, R_RETRIES, R_MAX };

/* What the checks of the parts find. */
struct making {
	const struct conf *conf;
	struct schema_value res[R_MAX];
	struct json_object *ports;
	struct manager_order *out;
};

static int64_t environment_bytes(struct json_object *environment)
{
	int64_t n = 0;

	json_object_object_foreach(environment, name, value)
		n += (int64_t)strlen(name) + json_object_get_string_len(value) + 2;
	return n;
}

static void check_env(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const struct making *m = arg;
	const char *name = manager_bad_variable(v->json);
	OWN_BUF text = BUF_INIT(4096);

	if (!name && environment_bytes(v->json) > m->conf->environment_max_bytes)
		schema_value_error(r, f, NULL, -1, v->json,
			"all variables together are too large (environment_max_bytes)");
	if (!name)
		return;
	buf_addf(&text, "Invalid environment variable name: %s", name);
	schema_value_error(
		r, f, name, -1, v->json, buf_ok(&text) ? text.p : "Invalid variable name");
}

static bool given(struct json_object *o)
{
	if (json_object_is_type(o, json_type_object))
		return json_object_object_length(o) > 0;
	return json_object_get_boolean(o);
}

static void refuse_given(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (given(v->json))
		schema_value_error(r, f, NULL, -1, v->json,
			!strcmp(f->name, "gpu")
				? "there are no GPUs in these sandboxes"
				: "images are not built here: make one (cgibox image) and name it");
}

int64_t manager_size(const char *text)
{
	char *end;
	long long n = strtoll(text, &end, 10);
	int unit = tolower((unsigned char)*end);
	int shift = unit == 'k' ? 10 : unit == 'm' ? 20 : unit == 'g' ? 30 : 0;

	if (!isdigit((unsigned char)*text) || !shift || end[1] || n <= 0 ||
		n > (INT64_MAX >> shift))
		return -1;
	return (int64_t)n << shift;
}

void manager_check_size(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (manager_size(json_object_get_string(v->json)) < 0)
		schema_value_error(r, f, NULL, -1, v->json,
			"must be a whole number with k, m, or g (case insensitive)");
}

static const struct schema_bounds cpu_range = {.min = 0.1, .max = 8},
				  timeout_range = {.min = 1, .max = SESSION_AGE_MAX_S},
				  retries_range = {.min = 0, .max = RUN_RETRIES_MAX},
				  port_range = {.min = 1, .max = 65535},
				  name_length = {.length_min = 1, .length_max = NAME_MAX_BYTES};

static const struct schema_field resource_fields[R_MAX] = {
	[R_CPU] = {"cpu", SCHEMA_FLOAT, false, false, NULL, &cpu_range},
	[R_MEMORY] = {"memory", SCHEMA_STRING, false, false, manager_check_size, NULL},
	[R_GPU] = {"gpu", SCHEMA_ANY, false, true, refuse_given, NULL},
	[R_TIMEOUT] = {"timeout", SCHEMA_INT, false, true, NULL, &timeout_range},
	[R_RETRIES] = {"max_retries", SCHEMA_INT, false, true, NULL, &retries_range},
};

static void not_an_object(
	const struct schema_field *f, struct json_object *o, struct schema_report *r)
{
	schema_problem(r, &(struct schema_fault){"model_attributes_type", f->name, NULL, -1,
				  "Input should be a valid dictionary or object to extract fields "
				  "from",
				  o, NULL});
}

static void check_resources(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	struct making *m = arg;

	if (!json_object_is_type(v->json, json_type_object)) {
		not_an_object(f, v->json, r);
		return;
	}
	r->within = ",\"resources\"";
	schema_fields(r, resource_fields, R_MAX, v->json, m->res, NULL);
	r->within = NULL;
}

enum { P_PORT, P_INTERNAL, P_PROTOCOL, P_EXTERNAL, P_SUBDOMAIN, P_MAX };

static void check_protocol(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *s = json_object_get_string(v->json);

	(void)arg;
	if (!strcmp(s, "http"))
		return;
	if (!strcmp(s, "https") || !strcmp(s, "tcp") || !strcmp(s, "udp"))
		schema_value_error(r, f, NULL, -1, v->json,
			"only http is published: requests are passed on, connections are not");
	else
		schema_problem(
			r, &(struct schema_fault){"string_pattern_mismatch", f->name, NULL, -1,
				   "String should match pattern '^(http|https|tcp|udp)$'", v->json,
				   "{\"pattern\":\"^(http|https|tcp|udp)$\"}"});
}

static void refuse_external(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	schema_value_error(r, f, NULL, -1, v->json,
		"no port of this machine is opened: urls says where it is published");
}

/* It is checked and not used: a port is published below the sandbox's own path. */
static void check_subdomain(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *s = json_object_get_string(v->json);

	(void)arg;
	if (strlen(s) < 3 || strlen(s) > 63 ||
		s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")])
		schema_value_error(r, f, NULL, -1, v->json,
			"Subdomain must be between 3 and 63 characters of a-z, 0-9 and -");
}

static const struct schema_field port_fields[P_MAX] = {
	[P_PORT] = {"port", SCHEMA_INT, false, false, NULL, &port_range},
	[P_INTERNAL] = {"internal", SCHEMA_INT, false, false, NULL, &port_range},
	[P_PROTOCOL] = {"protocol", SCHEMA_STRING, false, false, check_protocol, NULL},
	[P_EXTERNAL] = {"external", SCHEMA_ANY, false, true, refuse_external, NULL},
	[P_SUBDOMAIN] = {"subdomain", SCHEMA_STRING, false, true, check_subdomain, NULL},
};

static bool listed(struct json_object *ports, int64_t port)
{
	for (size_t i = 0; i < json_object_array_length(ports); i++) {
		struct json_object *p;

		if (json_object_object_get_ex(
			    json_object_array_get_idx(ports, i), "internal_port", &p) &&
			json_object_get_int64(p) == port)
			return true;
	}
	return false;
}

static void add_port(const struct schema_field *f, struct json_object *o, size_t i,
	struct making *m, struct schema_report *r)
{
	struct schema_value v[P_MAX] = {{.given = false}};
	struct json_object *p;
	char within[32];
	int64_t port;

	snprintf(within, sizeof within, ",\"ports\",%zu", i);
	if (!json_object_is_type(o, json_type_object)) {
		not_an_object(f, o, r);
		return;
	}
	r->within = within;
	if (schema_fields(r, port_fields, P_MAX, o, v, NULL) == 0 && !v[P_PORT].given &&
		!v[P_INTERNAL].given)
		schema_problem(r, &(struct schema_fault){
					  "missing", "port", NULL, -1, "Field required", o, NULL});
	r->within = NULL;
	port = v[P_PORT].given ? v[P_PORT].i : v[P_INTERNAL].i;
	if (listed(m->ports, port))
		schema_value_error(r, f, NULL, (long)i, o, "Duplicate port");
	p = json_object_new_object();
	json_object_object_add(p, "id", json_object_new_int64((int64_t)i + 1));
	json_object_object_add(p, "internal_port", json_object_new_int64(port));
	json_object_object_add(p, "external_port", json_object_new_int64(port));
	manager_put(p, "protocol", "http");
	json_object_array_add(m->ports, p);
}

static void check_ports(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	struct making *m = arg;
	size_t n = json_object_is_type(v->json, json_type_array) ? json_object_array_length(v->json)
								 : 0;

	if (!json_object_is_type(v->json, json_type_array))
		schema_problem(r, &(struct schema_fault){"list_type", f->name, NULL, -1,
					  "Input should be a valid list", v->json, NULL});
	if (n > PORTS_MAX)
		schema_value_error(r, f, NULL, -1, v->json, "at most 64 ports are published");
	for (size_t i = 0; i < n && n <= PORTS_MAX; i++)
		add_port(f, json_object_array_get_idx(v->json, i), i, m, r);
}

void manager_check_driver(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (strcmp(json_object_get_string(v->json), "local"))
		schema_value_error(r, f, NULL, -1, v->json, "the one driver here is local");
}

void manager_check_path(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *s = json_object_get_string(v->json), *fault = volume_path_fault(s);

	(void)arg;
	if (strlen(s) != (size_t)json_object_get_string_len(v->json))
		fault = "must not contain a NUL character";
	if (fault)
		schema_value_error(r, f, NULL, -1, v->json, fault);
}

enum { V_SIZE, V_DRIVER, V_NETWORK, V_PATH, V_MAX };

static const struct schema_field volume_fields[V_MAX] = {
	[V_SIZE] = {"size", SCHEMA_STRING, false, true, manager_check_size, NULL},
	[V_DRIVER] = {"driver", SCHEMA_STRING, false, true, manager_check_driver, NULL},
	[V_NETWORK] = {"network", SCHEMA_BOOL, false, true, NULL, NULL},
	[V_PATH] = {"mount_path", SCHEMA_STRING, false, true, manager_check_path, NULL},
};

static void add_volume(const struct schema_field *f, const char *name, struct json_object *o,
	struct making *m, struct schema_report *r)
{
	struct schema_value v[V_MAX] = {{.given = false}};
	struct manager_volume *w = &m->out->volumes[m->out->nvolumes];
	OWN_BUF within = BUF_INIT(512);

	if (!volume_shared_ok(name)) {
		schema_value_error(r, f, name, -1, o, MANAGER_VOLUME_NAME);
		return;
	}
	if (!json_object_is_type(o, json_type_object)) {
		not_an_object(f, o, r);
		return;
	}
	if (m->out->nvolumes == VOLUMES_MAX) {
		schema_value_error(
			r, f, name, -1, o, "at most 16 volumes are mounted in a sandbox");
		return;
	}
	buf_addf(&within, ",\"volumes\",\"%s\"", name);
	r->within = within.p;
	if (schema_fields(r, volume_fields, V_MAX, o, v, NULL) == 0) {
		w->name = name;
		w->shared = v[V_NETWORK].b;
		w->bytes = v[V_SIZE].given
				   ? (uint64_t)manager_size(json_object_get_string(v[V_SIZE].json))
				   : 0;
		if (v[V_PATH].given)
			snprintf(w->path, sizeof w->path, "%s",
				json_object_get_string(v[V_PATH].json));
		else
			snprintf(w->path, sizeof w->path, "/mnt/%s", name);
		m->out->nvolumes++;
	}
	r->within = NULL;
}

static void check_volumes(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	if (!json_object_is_type(v->json, json_type_object)) {
		not_an_object(f, v->json, r);
		return;
	}
	json_object_object_foreach(v->json, name, o) add_volume(f, name, o, arg, r);
}

enum {
	F_IMAGE,
	F_NAME,
	F_COMMAND,
	F_ENTRYPOINT,
	F_ENV,
	F_RESOURCES,
	F_VOLUMES,
	F_PORTS,
	F_BUILD,
	F_CONTEXT,
	F_REMOVE,
	F_MAX
};

static const struct schema_field fields[F_MAX] = {
	[F_IMAGE] = {"image", SCHEMA_STRING, true, false, check_image, NULL},
	[F_NAME] = {"name", SCHEMA_STRING, false, true, check_plain, &name_length},
	[F_COMMAND] = {"command", SCHEMA_ANY, false, true, check_command, NULL},
	[F_ENTRYPOINT] = {"entrypoint", SCHEMA_ANY, false, true, check_command, NULL},
	[F_ENV] = {"environment", SCHEMA_STRING_MAP, false, true, check_env, NULL},
	[F_RESOURCES] = {"resources", SCHEMA_ANY, false, true, check_resources, NULL},
	[F_VOLUMES] = {"volumes", SCHEMA_ANY, false, true, check_volumes, NULL},
	[F_PORTS] = {"ports", SCHEMA_ANY, false, true, check_ports, NULL},
	[F_BUILD] = {"force_build", SCHEMA_ANY, false, true, refuse_given, NULL},
	[F_CONTEXT] = {"build_context", SCHEMA_ANY, false, true, refuse_given, NULL},
	[F_REMOVE] = {"auto_remove", SCHEMA_BOOL, false, true, NULL, NULL},
};

static struct json_object *given_or(const struct schema_value *v, struct json_object *other)
{
	return v->given ? json_object_get(v->json) : other;
}

static struct json_object *resources_of(const struct making *m)
{
	struct json_object *o = json_object_new_object();
	const struct schema_value *v = m->res;

	json_object_object_add(o, "cpu", json_object_new_double(v[R_CPU].given ? v[R_CPU].d : 1));
	json_object_object_add(o, "memory", given_or(&v[R_MEMORY], json_object_new_string("512m")));
	json_object_object_add(o, "gpu", NULL);
	json_object_object_add(
		o, "timeout", v[R_TIMEOUT].given ? json_object_new_int64(v[R_TIMEOUT].i) : NULL);
	json_object_object_add(o, "max_retries",
		v[R_RETRIES].given ? json_object_new_int64(v[R_RETRIES].i) : NULL);
	return o;
}

/* In the order of the original's answer. What only the session can tell is filled in later. */
static struct json_object *shown_of(const struct making *m, const struct schema_value *v)
{
	struct json_object *o = json_object_new_object();
	char now[MANAGER_TIME_LEN];

	manager_time(clock_real_us(), now);
	json_object_object_add(o, "id", NULL);
	manager_put(o, "container_id", NULL);
	json_object_object_add(o, "name", given_or(&v[F_NAME], NULL));
	manager_put(o, "status", NULL);
	json_object_object_add(o, "image", json_object_get(v[F_IMAGE].json));
	json_object_object_add(o, "command", given_or(&v[F_COMMAND], NULL));
	json_object_object_add(o, "entrypoint", given_or(&v[F_ENTRYPOINT], NULL));
	json_object_object_add(o, "resources", resources_of(m));
	json_object_object_add(o, "environment", given_or(&v[F_ENV], json_object_new_object()));
	manager_put(o, "created_at", now);
	manager_put(o, "started_at", NULL);
	manager_put(o, "terminated_at", NULL);
	manager_put(o, "last_active", now);
	json_object_object_add(o, "auto_remove",
		json_object_new_boolean(v[F_REMOVE].given ? v[F_REMOVE].b : true));
	json_object_object_add(o, "volumes", json_object_new_array());
	json_object_object_add(o, "ports", json_object_get(m->ports));
	json_object_object_add(o, "urls", json_object_new_object());
	return o;
}

static void fill_spec(const struct making *m, const char *image, struct session_spec *spec)
{
	const struct schema_value *v = m->res;

	*spec = (struct session_spec){.live = true,
		.network = m->conf->network == NETWORK_PASTA,
		.bounded = true,
		.idle_s = m->conf->manager_idle_s,
		.age_s = m->conf->manager_age_max_s};
	snprintf(
		spec->image, sizeof spec->image, "%s", strncmp(image, "host:", 5) ? image : "host");
	/* What was asked for is held or refused; the defaults go as far as this host does. */
	spec->memory_bytes = manager_size(
		v[R_MEMORY].given ? json_object_get_string(v[R_MEMORY].json) : "512m");
	if (!v[R_MEMORY].given && m->conf->memory_max_bytes &&
		spec->memory_bytes > m->conf->memory_max_bytes)
		spec->memory_bytes = m->conf->memory_max_bytes;
	spec->cpus = v[R_CPU].given ? v[R_CPU].d : 0;
}

int manager_check(struct dialect_call *c, struct manager_box *b, struct manager_order *out)
{
	OWN_JSON *ports = json_object_new_array();
	struct schema_value v[F_MAX] = {{.given = false}};
	struct making m = {.conf = c->conf, .ports = ports, .out = out};

	*b = (struct manager_box){.record = NULL};
	out->nvolumes = 0;
	if (schema_check(fields, F_MAX, c->body->doc, v, &m, &c->rs->body)) {
		dialect_status(c, 422);
		return -1;
	}
	buf_clear(&c->rs->body);
	fill_spec(&m, json_object_get_string(v[F_IMAGE].json), &out->spec);
	b->record = json_object_new_object();
	b->shown = shown_of(&m, v);
	json_object_object_add(b->record, "shown", b->shown);
	manager_put(b->record, "wanted", "stopped");
	return 0;
}

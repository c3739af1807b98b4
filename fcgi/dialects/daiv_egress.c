/*
 * The egress block: checked in full, then refused with the words that the original has for a deployment
 * without an egress proxy. None is here, and a session without a policy's proxy has no such network.
 */
#include "fcgi/dialects/daiv_fs.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/json_out.h"
#include "isolate/own.h"

enum { WITHIN_MAX = 512 };

static const char no_object[] =
	"Input should be a valid dictionary or object to extract fields from";

static const char *text_of(const struct schema_value *v, size_t *n)
{
	*n = (size_t)json_object_get_string_len(v->json);
	return json_object_get_string(v->json);
}

static void literal(struct schema_report *r, const struct schema_field *f, struct json_object *o,
	const char *expected)
{
	char msg[96], ctx[96];

	snprintf(msg, sizeof msg, "Input should be %s", expected);
	snprintf(ctx, sizeof ctx, "{\"expected\":\"%s\"}", expected);
	schema_problem(r, &(struct schema_fault){"literal_error", f->name, NULL, -1, msg, o, ctx});
}

static bool is_word(struct json_object *o, const char *word)
{
	return json_object_is_type(o, json_type_string) && !strcmp(json_object_get_string(o), word);
}

static void check_default(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (!is_word(v->json, "deny") && !is_word(v->json, "allow"))
		literal(r, f, v->json, "'deny' or 'allow'");
}

static void check_intercept(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (!is_word(v->json, "all") && !is_word(v->json, "credentialed"))
		literal(r, f, v->json, "'all' or 'credentialed'");
}

static void check_host(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	size_t n, i = 0;
	const char *s = text_of(v, &n);

	(void)arg;
	while (i < n && !isspace((unsigned char)s[i]) && (unsigned char)s[i] >= ' ')
		i++;
	if (n == 0 || i < n)
		schema_value_error(r, f, NULL, -1, v->json,
			"host must be a non-empty glob without whitespace or control characters");
}

static void check_methods(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (json_object_array_length(v->json) == 0)
		schema_value_error(r, f, NULL, -1, v->json,
			"methods must not be empty; use ['*'] to allow all methods");
}

static void check_header(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	OWN_BUF text = BUF_INIT(4096);
	size_t n;
	const char *s = text_of(v, &n);
	size_t good = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				"!#$%&'*+.^_`|~-");

	(void)arg;
	if (n > 0 && good == n)
		return;
	daiv_repr(&text, s, n < 512 ? n : 512);
	buf_adds(&text, " is not a valid HTTP header name (RFC 7230 token)");
	schema_value_error(r, f, NULL, -1, v->json, buf_ok(&text) ? text.p : "no header name");
}

static void check_value(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	size_t n;
	const char *s = text_of(v, &n);

	(void)arg;
	if (memchr(s, '\r', n) || memchr(s, '\n', n) || memchr(s, '\0', n))
		schema_value_error(r, f, NULL, -1, v->json,
			"header value must not contain control characters (CR, LF, NUL)");
}

/* An object at within. false: it is none. */
static bool object_at(struct schema_report *r, const char *within, struct json_object *o)
{
	r->within = within;
	if (json_object_is_type(o, json_type_object))
		return true;
	schema_problem(r, &(struct schema_fault){
				  "model_attributes_type", NULL, NULL, -1, no_object, o, NULL});
	return false;
}

static void check_rules(struct schema_report *r, const char *within, struct json_object *rules)
{
	static const struct schema_field fields[] = {
		{"host", SCHEMA_STRING, true, false, check_host, NULL},
		{"methods", SCHEMA_STRING_LIST, false, false, check_methods, NULL},
		{"inject", SCHEMA_STRING, false, true, NULL, NULL}};
	size_t n = json_object_array_length(rules);

	for (size_t i = 0; i < n; i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);
		struct schema_value v[NELEM(fields)];
		char at[WITHIN_MAX];

		snprintf(at, sizeof at, "%s,\"policy\",\"rules\",%zu", within, i);
		if (object_at(r, at, rule))
			schema_fields(r, fields, NELEM(fields), rule, v, NULL);
	}
}

static void check_policy(struct schema_report *r, const char *within, struct json_object *o)
{
	static const struct schema_field fields[] = {
		{"default", SCHEMA_ANY, false, false, check_default, NULL},
		{"intercept", SCHEMA_ANY, false, false, check_intercept, NULL},
		{"rules", SCHEMA_ANY, false, false, NULL, NULL}};
	struct schema_value v[NELEM(fields)];
	char at[WITHIN_MAX];

	snprintf(at, sizeof at, "%s,\"policy\"", within);
	if (!object_at(r, at, o))
		return;
	schema_fields(r, fields, NELEM(fields), o, v, NULL);
	if (!v[2].given)
		return;
	if (json_object_is_type(v[2].json, json_type_array))
		check_rules(r, within, v[2].json);
	else
		schema_problem(r, &(struct schema_fault){"list_type", "rules", NULL, -1,
					  "Input should be a valid list", v[2].json, NULL});
}

static void check_secrets(struct schema_report *r, const char *within, struct json_object *o)
{
	static const struct schema_field fields[] = {
		{"header", SCHEMA_STRING, true, false, check_header, NULL},
		{"value", SCHEMA_STRING, true, false, check_value, NULL}};
	struct schema_value v[NELEM(fields)];

	if (!json_object_is_type(o, json_type_object)) {
		r->within = within;
		schema_problem(r, &(struct schema_fault){"dict_type", "secrets", NULL, -1,
					  "Input should be a valid dictionary", o, NULL});
		return;
	}
	json_object_object_foreach(o, name, secret)
	{
		OWN_BUF at = BUF_INIT(1 << 16);

		buf_addf(&at, "%s,\"secrets\",", within);
		json_out_text(&at, name);
		if (object_at(r, buf_ok(&at) ? at.p : within, secret))
			schema_fields(r, fields, NELEM(fields), secret, v, NULL);
		r->within = within;
	}
}

/* What concerns the block as a whole, when its parts are good. */
static void check_whole(struct schema_report *r, const char *within, struct json_object *doc,
	struct json_object *policy, struct json_object *secrets)
{
	static const struct schema_field whole = {.name = NULL};
	struct json_object *rules = NULL, *dflt = NULL, *host, *inject;
	OWN_BUF text = BUF_INIT(8192);
	size_t n;

	json_object_object_get_ex(policy, "rules", &rules);
	json_object_object_get_ex(policy, "default", &dflt);
	n = rules ? json_object_array_length(rules) : 0;
	r->within = within;
	if (n == 0 && !is_word(dflt, "allow")) {
		schema_value_error(r, &whole, NULL, -1, doc,
			"egress policy permits nothing: a deny-default policy needs at least one "
			"rule "
			"(omit `egress` for a network-isolated sandbox, or set "
			"policy.default='allow')");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);

		if (!json_object_object_get_ex(rule, "inject", &inject) || !inject ||
			json_object_object_get_ex(secrets, json_object_get_string(inject), NULL))
			continue;
		json_object_object_get_ex(rule, "host", &host);
		buf_adds(&text, "rule for host ");
		daiv_repr(&text, json_object_get_string(host),
			(size_t)json_object_get_string_len(host));
		buf_adds(&text, " references unknown secret ");
		daiv_repr(&text, json_object_get_string(inject),
			(size_t)json_object_get_string_len(inject));
		schema_value_error(
			r, &whole, NULL, -1, doc, buf_ok(&text) ? text.p : "unknown secret");
		return;
	}
}

void daiv_check_egress(struct schema_report *r, const char *within, struct json_object *doc)
{
	struct json_object *policy = NULL, *secrets = NULL;
	const char *outer = r->within;
	unsigned before = r->count;

	if (object_at(r, within, doc)) {
		if (json_object_object_get_ex(doc, "policy", &policy))
			check_policy(r, within, policy);
		if (json_object_object_get_ex(doc, "secrets", &secrets))
			check_secrets(r, within, secrets);
		if (r->count == before)
			check_whole(r, within, doc, policy, secrets);
	}
	r->within = outer;
}

void daiv_egress(struct dialect_call *c)
{
	struct schema_report r;
	struct err e = {0};

	schema_begin(&r, &c->rs->body);
	daiv_check_egress(&r, "", c->body->doc);
	schema_end(&r);
	if (r.count) {
		dialect_status(c, 422);
		return;
	}
	if (daiv_id_valid(c->param) && c->ops->exists(c->backend, c->param, &e) == 0)
		dialect_detail(c, 409, "Session has no egress proxy; nothing to refresh");
	else if (e.kind == ERR_NONE || e.kind == ERR_NOTFOUND)
		dialect_detail(c, 404, "Session not found");
	else
		dialect_fail(c, &e, "refresh an egress policy");
}

#include "fcgi/schema.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fcgi/json_out.h"
#include "fcgi/schema_bounds.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

/* The report. */

static void echo_string(struct buf *b, const char *s, size_t n)
{
	size_t keep = utf8_clip(s, n, SCHEMA_ECHO_MAX);

	buf_addc(b, '"');
	json_out_raw(b, s, keep);
	if (keep < n)
		buf_adds(b, "...");
	buf_addc(b, '"');
}

static void echo(struct buf *b, struct json_object *input)
{
	const char *text;
	size_t n = 0;

	if (json_object_is_type(input, json_type_string)) {
		echo_string(b, json_object_get_string(input),
			(size_t)json_object_get_string_len(input));
		return;
	}
	text = json_object_to_json_string_length(
		input, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);
	if (!text || n > SCHEMA_ECHO_MAX)
		buf_addf(b, "\"... (%zu bytes)\"", n);
	else
		buf_add(b, text, n);
}

void schema_begin(struct schema_report *r, struct buf *body)
{
	*r = (struct schema_report){.body = body};
	buf_adds(body, "{\"detail\":[");
}

void schema_end(struct schema_report *r)
{
	buf_adds(r->body, "]}");
}

void schema_problem(struct schema_report *r, const struct schema_fault *f)
{
	struct buf *b = r->body;

	if (r->count++ >= SCHEMA_PROBLEMS_MAX)
		return;
	buf_adds(b, r->count > 1 ? ",{\"type\":" : "{\"type\":");
	json_out_text(b, f->type);
	buf_adds(b, ",\"loc\":[\"body\"");
	if (r->within)
		buf_adds(b, r->within);
	if (f->field) {
		buf_addc(b, ',');
		json_out_text(b, f->field);
	}
	if (f->key) {
		buf_addc(b, ',');
		echo_string(b, f->key, strlen(f->key));
	}
	if (f->index >= 0)
		buf_addf(b, ",%ld", f->index);
	buf_adds(b, "],\"msg\":");
	json_out_text(b, f->msg);
	buf_adds(b, ",\"input\":");
	echo(b, f->input);
	if (f->ctx)
		buf_addf(b, ",\"ctx\":%s", f->ctx);
	buf_addc(b, '}');
}

static void problem(struct schema_report *r, const struct schema_field *f, const char *type,
	struct json_object *input, const char *msg)
{
	schema_problem(r,
		&(struct schema_fault){
			.type = type, .field = f->name, .index = -1, .msg = msg, .input = input});
}

void schema_value_error(struct schema_report *r, const struct schema_field *f, const char *key,
	long index, struct json_object *input, const char *text)
{
	OWN_BUF ctx = BUF_INIT(4096);
	OWN_BUF msg = BUF_INIT(4096);

	buf_adds(&ctx, "{\"error\":");
	json_out_text(&ctx, text);
	buf_addc(&ctx, '}');
	buf_addf(&msg, "Value error, %s", text);
	schema_problem(r,
		&(struct schema_fault){"value_error", f->name, key, index,
			buf_ok(&msg) ? msg.p : "Value error", input, buf_ok(&ctx) ? ctx.p : NULL});
}

/* Coercions. */

static bool json_is(struct json_object *o, enum json_type t)
{
	return json_object_is_type(o, t);
}

static void take_bool(const struct schema_field *f, struct json_object *o, struct schema_value *v,
	struct schema_report *r)
{
	static const char *const yes[] = {"1", "on", "t", "true", "y", "yes"};
	static const char *const no[] = {"0", "off", "f", "false", "n", "no"};
	const char *type = "bool_parsing", *s;
	double d;

	if (json_is(o, json_type_boolean)) {
		v->b = json_object_get_boolean(o);
		return;
	}
	if (json_is(o, json_type_string)) {
		s = json_object_get_string(o);
		if (strlen(s) != (size_t)json_object_get_string_len(o))
			s = ""; /* it holds a NUL */
		for (size_t i = 0; i < NELEM(yes); i++)
			if (!strcasecmp(s, yes[i]) || !strcasecmp(s, no[i])) {
				v->b = !strcasecmp(s, yes[i]);
				return;
			}
	} else if (json_is(o, json_type_int) || json_is(o, json_type_double)) {
		d = json_object_get_double(o);
		if (d == 0 || d == 1) {
			v->b = d != 0;
			return;
		}
		if (json_is(o, json_type_double))
			type = "bool_type";
	} else {
		type = "bool_type";
	}
	problem(r, f, type, o,
		strcmp(type, "bool_type")
			? "Input should be a valid boolean, unable to interpret input"
			: "Input should be a valid boolean");
}

/*
 * A number as Python writes it, blanks around it and single underscores between digits
 * included, brought into plain form for strtoll() and strtod(). Returns its length, 0 when it is
 * none of the kind.
 */
static size_t plain_number(const char *s, size_t n, bool fraction, char *out, size_t size)
{
	size_t o = 0;

	while (n && strchr(" \t\n\r\f\v", *s) && *s)
		s++, n--;
	while (n && strchr(" \t\n\r\f\v", s[n - 1]) && s[n - 1])
		n--;
	for (size_t i = 0; i < n; i++) {
		bool digits_around = i && i + 1 < n && s[i - 1] >= '0' && s[i - 1] <= '9' &&
				     s[i + 1] >= '0' && s[i + 1] <= '9';

		if (s[i] == '_' && digits_around)
			continue;
		if (!s[i] || !strchr(fraction ? "0123456789+-.eE" : "0123456789+-.", s[i]) ||
			o + 1 >= size)
			return 0;
		out[o++] = s[i];
	}
	out[o] = '\0';
	return o;
}

/* "12", "+12", "12.00": the form that pydantic takes for an integer. */
static bool parse_int(const char *s, size_t n, int64_t *out)
{
	char text[512], *end;

	if (!plain_number(s, n, false, text, sizeof text))
		return false;
	*out = strtoll(text, &end, 10); /* saturates */
	if (end == text)
		return false;
	if (*end == '.') {
		if (!end[1] || end[1 + strspn(end + 1, "0")])
			return false;
		return true;
	}
	return *end == '\0';
}

static void int_from_double(const struct schema_field *f, struct json_object *o,
	struct schema_value *v, struct schema_report *r)
{
	double d = json_object_get_double(o);

	if (!isfinite(d))
		problem(r, f, "finite_number", o, "Input should be a finite number");
	else if (d != floor(d))
		problem(r, f, "int_from_float", o,
			"Input should be a valid integer, got a number with a fractional part");
	else if (fabs(d) >= 9223372036854775808.0)
		problem(r, f, "int_parsing_size", o,
			"Unable to parse input string as an integer, exceeded maximum size");
	else
		v->i = (int64_t)d;
}

static void take_int(const struct schema_field *f, struct json_object *o, struct schema_value *v,
	struct schema_report *r)
{
	switch (json_object_get_type(o)) {
	case json_type_int:
		v->i = json_object_get_int64(o);
		return;
	case json_type_boolean:
		v->i = json_object_get_boolean(o);
		return;
	case json_type_double:
		int_from_double(f, o, v, r);
		return;
	case json_type_string:
		if (!parse_int(json_object_get_string(o), (size_t)json_object_get_string_len(o),
			    &v->i))
			problem(r, f, "int_parsing", o,
				"Input should be a valid integer, unable to parse string as an "
				"integer");
		return;
	default:
		problem(r, f, "int_type", o, "Input should be a valid integer");
	}
}

static void take_float(const struct schema_field *f, struct json_object *o, struct schema_value *v,
	struct schema_report *r)
{
	char text[512], *end = text;

	switch (json_object_get_type(o)) {
	case json_type_int:
	case json_type_double:
		v->d = json_object_get_double(o);
		break;
	case json_type_boolean:
		v->d = json_object_get_boolean(o);
		break;
	case json_type_string:
		if (plain_number(json_object_get_string(o), (size_t)json_object_get_string_len(o),
			    true, text, sizeof text))
			v->d = strtod(text, &end);
		if (end == text || *end) {
			problem(r, f, "float_parsing", o,
				"Input should be a valid number, unable to parse string as a "
				"number");
			return;
		}
		break;
	default:
		problem(r, f, "float_type", o, "Input should be a valid number");
		return;
	}
	/* The original lets infinity pass; no quantity of ours can be infinite. */
	if (!isfinite(v->d))
		problem(r, f, "finite_number", o, "Input should be a finite number");
}

static void take_list(const struct schema_field *f, struct json_object *o, struct schema_report *r)
{
	size_t n;

	if (!json_is(o, json_type_array)) {
		problem(r, f, "list_type", o, "Input should be a valid list");
		return;
	}
	n = json_object_array_length(o);
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(o, i);

		if (!json_is(item, json_type_string))
			schema_problem(
				r, &(struct schema_fault){"string_type", f->name, NULL, (long)i,
					   "Input should be a valid string", item, NULL});
	}
}

static void take_map(const struct schema_field *f, struct json_object *o, struct schema_report *r)
{
	if (!json_is(o, json_type_object)) {
		problem(r, f, "dict_type", o, "Input should be a valid dictionary");
		return;
	}
	json_object_object_foreach(o, key, item) if (!json_is(item, json_type_string))
		schema_problem(r, &(struct schema_fault){"string_type", f->name, key, -1,
					  "Input should be a valid string", item, NULL});
}

static void take(const struct schema_field *f, struct json_object *o, struct schema_value *v,
	struct schema_report *r)
{
	v->json = o;
	switch (f->type) {
	case SCHEMA_STRING:
		if (!json_is(o, json_type_string))
			problem(r, f, "string_type", o, "Input should be a valid string");
		return;
	case SCHEMA_BYTES:
		if (!json_is(o, json_type_string))
			problem(r, f, "bytes_type", o, "Input should be a valid bytes");
		return;
	case SCHEMA_BOOL:
		take_bool(f, o, v, r);
		return;
	case SCHEMA_INT:
		take_int(f, o, v, r);
		return;
	case SCHEMA_FLOAT:
		take_float(f, o, v, r);
		return;
	case SCHEMA_STRING_LIST:
		take_list(f, o, r);
		return;
	case SCHEMA_STRING_MAP:
		take_map(f, o, r);
		return;
	case SCHEMA_ANY:
		return;
	}
}

unsigned schema_fields(struct schema_report *r, const struct schema_field *fields, size_t n,
	struct json_object *doc, struct schema_value *values, void *arg)
{
	unsigned start = r->count;

	for (size_t i = 0; i < n; i++) {
		const struct schema_field *f = &fields[i];
		struct json_object *o = NULL;
		unsigned before = r->count;

		values[i] = (struct schema_value){0};
		if (!json_object_object_get_ex(doc, f->name, &o)) {
			if (f->required)
				problem(r, f, "missing", doc, "Field required");
			continue;
		}
		if (!o && f->nullable)
			continue;
		take(f, o, &values[i], r);
		values[i].given = r->count == before;
		if (values[i].given && f->bounds) {
			schema_bound(f, &values[i], r);
			values[i].given = r->count == before;
		}
		if (values[i].given && f->check)
			f->check(f, &values[i], arg, r);
	}
	return r->count - start;
}

unsigned schema_check(const struct schema_field *fields, size_t n, struct json_object *doc,
	struct schema_value *values, void *arg, struct buf *body)
{
	struct schema_report r;

	schema_begin(&r, body);
	schema_fields(&r, fields, n, doc, values, arg);
	schema_end(&r);
	return r.count;
}

void schema_body_missing(struct buf *body)
{
	buf_adds(body, "{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\"],"
		       "\"msg\":\"Field required\",\"input\":null}]}");
}

static const char no_object[] =
	"Input should be a valid dictionary or object to extract fields from";

void schema_body_no_object(struct buf *body, struct json_object *input)
{
	struct schema_report r;

	schema_begin(&r, body);
	schema_problem(&r, &(struct schema_fault){.type = "model_attributes_type",
				   .index = -1,
				   .msg = no_object,
				   .input = input});
	schema_end(&r);
}

void schema_body_wrong_type(struct buf *body, const char *text, size_t n, bool cut)
{
	buf_adds(body,
		"{\"detail\":[{\"type\":\"model_attributes_type\",\"loc\":[\"body\"],\"msg\":");
	json_out_text(body, no_object);
	buf_adds(body, ",\"input\":\"");
	json_out_raw(body, text, cut ? n - utf8_cut_tail(text, n) : n);
	buf_adds(body, cut ? "...\"}]}" : "\"}]}");
}

void schema_body_no_json(struct buf *body, const char *fault, size_t pos)
{
	buf_addf(body, "{\"detail\":[{\"type\":\"json_invalid\",\"loc\":[\"body\",%zu],", pos);
	buf_adds(body, "\"msg\":\"JSON decode error\",\"input\":{},\"ctx\":{\"error\":");
	json_out_text(body, fault);
	buf_adds(body, "}}]}");
}

/* Bounds of values (struct schema_bounds), with pydantic's types and words for what breaks them. */
#include "fcgi/schema_bounds.h"

#include <stdio.h>
#include <string.h>

static void report(const struct schema_field *f, const struct schema_value *v, const char *type,
	const char *msg, const char *ctx, struct schema_report *r)
{
	schema_problem(r, &(struct schema_fault){type, f->name, NULL, -1, msg, v->json, ctx});
}

static void check_number(
	const struct schema_field *f, const struct schema_value *v, struct schema_report *r)
{
	const struct schema_bounds *b = f->bounds;
	double d = f->type == SCHEMA_INT ? (double)v->i : v->d;
	bool low = d < b->min;
	char msg[96], ctx[48];

	if (!low && d <= b->max)
		return;
	/* pydantic shows a bound as it was written: 4.0 of a float, 4 of an integer */
	snprintf(msg, sizeof msg, "Input should be %s than or equal to %.15g",
		low ? "greater" : "less", low ? b->min : b->max);
	snprintf(ctx, sizeof ctx, "{\"%s\":%.15g%s}", low ? "ge" : "le", low ? b->min : b->max,
		f->type == SCHEMA_FLOAT && (low ? b->min : b->max) == (long)(low ? b->min : b->max)
			? ".0"
			: "");
	report(f, v, low ? "greater_than_equal" : "less_than_equal", msg, ctx, r);
}

/* Of text that is known to be UTF-8. */
static size_t characters(const char *s, size_t bytes)
{
	size_t n = 0;

	for (size_t i = 0; i < bytes; i++)
		n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

static void check_length(
	const struct schema_field *f, const struct schema_value *v, struct schema_report *r)
{
	size_t n = characters(
		json_object_get_string(v->json), (size_t)json_object_get_string_len(v->json));
	bool low = n < f->bounds->length_min;
	size_t bound = low ? f->bounds->length_min : f->bounds->length_max;
	char msg[96], ctx[48];

	if (!low && (!bound || n <= bound))
		return;
	snprintf(msg, sizeof msg, "String should have at %s %zu character%s",
		low ? "least" : "most", bound, bound == 1 ? "" : "s");
	snprintf(ctx, sizeof ctx, "{\"%s_length\":%zu}", low ? "min" : "max", bound);
	report(f, v, low ? "string_too_short" : "string_too_long", msg, ctx, r);
}

/* "'a', 'b' or 'c'" */
static void put_choices(const char *const *literals, struct buf *out)
{
	for (size_t i = 0; literals[i]; i++)
		buf_addf(out, "%s'%s'", !i ? "" : literals[i + 1] ? ", " : " or ", literals[i]);
}

static void check_literal(
	const struct schema_field *f, const struct schema_value *v, struct schema_report *r)
{
	const char *const *l = f->bounds->literals;
	const char *text = json_object_get_string(v->json);
	size_t n = (size_t)json_object_get_string_len(v->json);
	OWN_BUF choices = BUF_INIT(1024);
	OWN_BUF msg = BUF_INIT(1100);
	OWN_BUF ctx = BUF_INIT(1100);

	for (; *l; l++)
		if (strlen(*l) == n && !memcmp(*l, text, n))
			return;
	put_choices(f->bounds->literals, &choices);
	buf_addf(&msg, "Input should be %s", choices.p);
	buf_addf(&ctx, "{\"expected\":\"%s\"}", choices.p);
	report(f, v, "literal_error", msg.p, ctx.p, r);
}

void schema_bound(
	const struct schema_field *f, const struct schema_value *v, struct schema_report *r)
{
	if (f->type == SCHEMA_INT || f->type == SCHEMA_FLOAT) {
		if (f->bounds->max > f->bounds->min)
			check_number(f, v, r);
	} else if (f->type == SCHEMA_STRING && f->bounds->literals) {
		check_literal(f, v, r);
	} else if (f->type == SCHEMA_STRING) {
		check_length(f, v, r);
	}
}

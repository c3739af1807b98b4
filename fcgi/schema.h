/*
 * Checks a JSON object against a table and reports what is wrong in the bodies of pydantic 2,
 * which clients of the original parse: {"detail":[{"type","loc","msg","input","ctx"?},..]}, one
 * element for each problem, in the order of the table. Values are coerced as pydantic's lax mode
 * does. Unknown members are ignored. Runs in a worker; no state outside its arguments.
 *
 * Two bounds that the original has not: the echo of an input is cut at SCHEMA_ECHO_MAX bytes,
 * and after SCHEMA_PROBLEMS_MAX problems the rest is not reported, so that a small request
 * cannot ask for a large answer.
 */
#ifndef CGIBOX_SCHEMA_H
#define CGIBOX_SCHEMA_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"

enum { SCHEMA_ECHO_MAX = 4096, SCHEMA_PROBLEMS_MAX = 64 };

enum schema_type {
	SCHEMA_STRING,
	SCHEMA_BOOL,
	SCHEMA_INT,
	SCHEMA_FLOAT,
	SCHEMA_STRING_LIST,
	SCHEMA_STRING_MAP,
	SCHEMA_BYTES, /* a string; its decoding is the business of the check */
	SCHEMA_ANY,
};

/* A member after coercion. */
struct schema_value {
	bool given; /* present and not null */
	bool b;
	int64_t i; /* larger numbers are brought to the ends of the range */
	double d;
	struct json_object *json; /* borrowed from the document: string, list or map */
};

/* The list of problems, a 422 body in the making. */
struct schema_report {
	struct buf *body; /* borrowed */
	unsigned count;
	const char
		*within; /* JSON text between "body" and the field in loc, as ",\"a\",0"; or NULL */
};

/* What a value of the right type must be besides; reported in pydantic's words. */
struct schema_bounds {
	double min, max;             /* numbers, both included; used when max > min */
	size_t length_min;           /* strings, in characters */
	size_t length_max;           /* 0 = no limit */
	const char *const *literals; /* strings: one of these, NULL-ended */
};

struct schema_field {
	const char *name;
	enum schema_type type;
	bool required, nullable;
	/* NULL, or called for a given value of the right type; reports by schema_problem() */
	void (*check)(const struct schema_field *f, const struct schema_value *v, void *arg,
		struct schema_report *r);
	const struct schema_bounds *bounds; /* NULL: none. Held before check is called */
};

/* One problem. Strings may hold any bytes; they are written as JSON. */
struct schema_fault {
	const char *type;
	const char *field; /* loc: "body", field, then key or index */
	const char *key;   /* NULL: none */
	long index;        /* used when >= 0 */
	const char *msg;
	struct json_object *input; /* NULL: null */
	const char *ctx;           /* a JSON object as text, or NULL */
};

void schema_problem(struct schema_report *r, const struct schema_fault *f);

/* A "value_error" on a whole field, as pydantic reports what a validator of the model says. */
void schema_value_error(struct schema_report *r, const struct schema_field *f, const char *key,
	long index, struct json_object *input, const char *text);

/*
 * Checks doc, an object, against n fields and fills values[n]. Returns the number of problems
 * (0: good); the body then holds the whole 422 body.
 */
unsigned schema_check(const struct schema_field *fields, size_t n, struct json_object *doc,
	struct schema_value *values, void *arg, struct buf *body);

/* The same for an object inside the document, as a part of a report; its number of new problems. */
unsigned schema_fields(struct schema_report *r, const struct schema_field *fields, size_t n,
	struct json_object *doc, struct schema_value *values, void *arg);

/* Bodies of the problems that concern the request as a whole. */
void schema_body_missing(struct buf *body);
void schema_body_no_object(struct buf *body, struct json_object *input);
void schema_body_wrong_type(struct buf *body, const char *text, size_t n, bool cut);
void schema_body_no_json(struct buf *body, const char *fault, size_t pos);

/* Starts and ends a report outside schema_check(). */
void schema_begin(struct schema_report *r, struct buf *body);
void schema_end(struct schema_report *r);

#endif

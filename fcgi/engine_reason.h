/* What an Engine's refusal means to us. Pure; used by the broker, over bytes of the Engine's. */
#ifndef CGIBOX_ENGINE_REASON_H
#define CGIBOX_ENGINE_REASON_H

#include <stddef.h>

#include "isolate/err.h"

struct json_object;

enum { ENGINE_JSON_DEPTH = 32 };

/* Parses one JSON value that fills p[0..n); NULL: it is none. The caller's. */
struct json_object *engine_json(const char *p, size_t n);

/* The string at key of an object, "" when there is none. Borrowed from o. */
const char *engine_json_text(struct json_object *o, const char *key);
/* The member of an object, NULL when there is none. Borrowed. */
struct json_object *engine_json_at(struct json_object *o, const char *key);
/* A number that is not negative, 0 when there is none. */
unsigned long long engine_json_number(struct json_object *o, const char *key);

/*
 * Fills e for an answer with this status over 299 and body ({"message":..}, or anything); what was
 * asked is for the message. Kinds as of struct engine_answer. Returns -1.
 */
int engine_reason(long status, const char *body, size_t n, const char *what, struct err *e);

/* The same for words of the Engine's without a status: the last line of a pull. */
int engine_reason_text(const char *words, const char *what, struct err *e);

#endif

/*
 * A member of a JSON object as it was written: json-c keeps no number that has more than 64 bits,
 * so what is passed on (an event, say) is passed on as text. Pure; any process.
 */
#ifndef CGIBOX_JSON_MEMBER_H
#define CGIBOX_JSON_MEMBER_H

#include <stddef.h>

/*
 * The value of the member `name` of the object that the n bytes at text are, which json_scan.h has
 * found to be good; *len of it. NULL: there is none, or its name is written with escapes.
 */
const char *json_member(const char *text, size_t n, const char *name, size_t *len);

/*
 * How much of a string of n bytes, quotes included, may stay: its opening quote and at most max bytes behind
 * it, ending between two characters. All but the closing quote when it is no longer. What is no string of
 * json_scan.h's is cut all the same, without a byte read beyond it.
 */
size_t json_string_clip(const char *p, size_t n, size_t max);

#endif

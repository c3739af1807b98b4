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

#endif

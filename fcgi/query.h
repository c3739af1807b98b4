/* The query of a REQUEST_URI. Pure; any process. RFC 3986 and the + of HTML forms. */
#ifndef CGIBOX_QUERY_H
#define CGIBOX_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Takes the first value of `name`, decoded, into out. 1: it is there, 0: it is not, -1: it is longer
 * than size - 1 bytes, has a broken escape, or holds a NUL.
 */
int query_get(const char *uri, const char *name, char *out, size_t size);

/* The same for a whole number of digits, at most INT64_MAX. -1 also for anything else. */
int query_number(const char *uri, const char *name, uint64_t *out);

/* A word for yes or no, in letters of any case: true t yes y on 1, and their opposites, which is what pydantic
 * reads as a bool. 1: *out is set; 0: it is not there; -1: anything else. */
int query_flag(const char *uri, const char *name, bool *out);

/* A number of digits alone. -1: it is none, or over INT64_MAX. */
int query_digits(const char *text, uint64_t *out);

#endif

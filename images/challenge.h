/*
 * Header fields of registries: WWW-Authenticate (RFC 9110 section 11.6.1, the distribution
 * project's token specification), Content-Range, Retry-After. A stranger's bytes; pure functions.
 */
#ifndef CGIBOX_CHALLENGE_H
#define CGIBOX_CHALLENGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_scheme scheme;
	char realm[2048], service[256], scope[512], error[64]; /* "" when absent */
};

/*
 * Reads one field value, which may hold several challenges, and takes the best that out (zeroed
 * at first) does not have yet: Bearer with a realm before Basic. false: malformed, out is then
 * as before. Unknown schemes and parameters are skipped; a value with control bytes, a duplicate
 * parameter or one that is too long is malformed.
 */
bool challenge_read(const char *text, size_t n, struct challenge *out);

/* "bytes FIRST-LAST/TOTAL"; an asterisk for the total gives -1. */
bool range_read(const char *text, int64_t *first, int64_t *last, int64_t *total);

/* Seconds to wait, from seconds or a date; at most 3600, 0 for what cannot be read. */
unsigned retry_after_s(const char *text, time_t now);

#endif

/*
 * The parameters of a request. libfcgi splits them into C strings, which hides NUL bytes and
 * keeps duplicates; so the bytes are checked before libfcgi sees them, and the strings that we
 * use are picked from its table afterwards. Pure; run in a worker.
 */
#ifndef CGIBOX_PARAMS_H
#define CGIBOX_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "fcgi/http.h"
#include "isolate/err.h"

/*
 * Checks n bytes of name-value pairs: complete pairs, no empty name, no "=" in a name, no NUL
 * anywhere, no second value for a name that decides something. count gets the number of pairs.
 * ERR_REQUEST otherwise (status 400).
 */
int params_scan(const uint8_t *p, size_t n, size_t *count, struct err *e);

/*
 * Fills method, uri, content_type, content_length, api_key, remote_addr, authorization, forwarded and
 * given_id of rq, and params, from envp ("NAME=value" strings, borrowed). ERR_REQUEST (status 400): no method, no or a malformed
 * REQUEST_URI, a CONTENT_LENGTH that is not a number. An empty one counts as absent: nginx
 * sends that for chunked bodies. One that is too large for an int64_t becomes INT64_MAX.
 */
int params_take(struct http_request *rq, char *const *envp, struct err *e);

#endif

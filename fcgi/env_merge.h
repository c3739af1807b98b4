/* The environment of a session: defaults, then the image's, then the client's. */
#ifndef CGIBOX_ENV_MERGE_H
#define CGIBOX_ENV_MERGE_H

#include <stddef.h>

#include "isolate/buf.h"
#include "isolate/err.h"

enum { ENV_VARS_MAX = 4000 };

/* Whether p[0..n) is NAME=value with NAME in [A-Za-z_][A-Za-z0-9_]*, and holds no NUL. Pure. */
int env_var_valid(const char *p, size_t n);

/*
 * Adds NAME=value to out (NUL-ended variables, one behind the other), replacing an earlier one
 * of the same name. ERR_REQUEST for a malformed variable, ERR_LIMIT when there is no room.
 */
int env_put(struct buf *out, const char *var, struct err *e);

/* env_put() for a whole block of bytes that a worker sent. */
int env_put_block(struct buf *out, const char *block, size_t n, struct err *e);

#endif

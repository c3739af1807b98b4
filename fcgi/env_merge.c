#include "fcgi/env_merge.h"

#include <string.h>

int env_var_valid(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] != '=') {
		char c = p[i];
		int letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';

		if (!letter && (i == 0 || c < '0' || c > '9'))
			return 0;
		i++;
	}
	return i > 0 && i < n && !memchr(p, '\0', n);
}

/* Removes the variable named like var, if there. Returns how many variables remain. */
static size_t drop_same(struct buf *out, const char *var, size_t name)
{
	size_t count = 0;

	for (size_t at = 0; at < out->len;) {
		size_t n = strlen(out->p + at) + 1;

		if (!strncmp(out->p + at, var, name)) {
			memmove(out->p + at, out->p + at + n, out->len - at - n);
			out->len -= n;
		} else {
			at += n;
			count++;
		}
	}
	return count;
}

int env_put(struct buf *out, const char *var, struct err *e)
{
	size_t n = strlen(var);

	if (!env_var_valid(var, n))
		return err_set(e, ERR_REQUEST, 0, "environment: \"%.40s\" is not NAME=value", var);
	if (drop_same(out, var, strcspn(var, "=") + 1) >= ENV_VARS_MAX)
		return err_set(
			e, ERR_LIMIT, 0, "environment: more than %d variables", ENV_VARS_MAX);
	if (buf_add(out, var, n + 1) < 0)
		return err_set(e, ERR_LIMIT, 0, "environment: over %zu bytes", out->max);
	return 0;
}

int env_put_block(struct buf *out, const char *block, size_t n, struct err *e)
{
	if (n > 0 && block[n - 1] != '\0')
		return err_set(e, ERR_REQUEST, 0, "environment: the last variable has no end");
	for (size_t at = 0; at < n; at += strlen(block + at) + 1)
		if (env_put(out, block + at, e) < 0)
			return -1;
	return 0;
}

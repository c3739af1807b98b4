/*
 * The file ~/.docker/config.json: which credential belongs to a registry. Keys are normalised
 * (scheme and "/v1/" dropped, the hub's many names are docker.io); the longest key that the
 * repository lies under wins. Pure functions over bytes.
 */
#ifndef CGIBOX_AUTHFILE_H
#define CGIBOX_AUTHFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "isolate/err.h"

enum { AUTHFILE_MAX = 1 << 20, SECRET_MAX = 16384 };

/* All "" when there is none: anonymous. */
struct credential {
	char user[512];
	char secret[SECRET_MAX];         /* password */
	char identity_token[SECRET_MAX]; /* instead of both */
};

/*
 * Looks for "host[:port]/path". out is filled when "auths" has an entry with a credential;
 * helper (size bytes) with the name of a docker-credential- program when "credHelpers" or
 * "credsStore" names one. Either may stay empty. ERR_CONF for a malformed file; the message
 * holds nothing of its contents.
 */
int authfile_find(const char *text, size_t n, const char *repository, struct credential *out,
	char *helper, size_t size, struct err *e);

/* What a helper program printed: {"Username":..,"Secret":..}; "<token>" is an identity token. */
int authfile_helper_answer(const char *text, size_t n, struct credential *out, struct err *e);

/* Overwrites it. */
void credential_wipe(struct credential *c);

static inline bool credential_given(const struct credential *c)
{
	return c->user[0] || c->identity_token[0];
}

#endif

/*
 * What is sent as Authorization: Basic, or a bearer token of the server that a challenge names
 * (distribution project, "Token Authentication Specification" and "OAuth2 Token Authentication").
 */
#ifndef CGIBOX_TOKEN_H
#define CGIBOX_TOKEN_H

#include <time.h>

#include "images/authfile.h"
#include "images/challenge.h"
#include "images/http.h"

enum { TOKEN_ANSWER_MAX = 65536, TOKEN_S = 60, TOKEN_MARGIN_S = 5 };

struct token {
	char header[TOKEN_ANSWER_MAX + 64]; /* "Authorization: ...", "" without one */
	time_t expires;                     /* CLOCK_MONOTONIC seconds; 0 = never */
};

/*
 * Answers a challenge. The credential goes to the registry (Basic) or to the challenge's realm
 * (Bearer), which must be https unless insecure_registries lists it; redirects of the realm are
 * not followed. The token is asked for to pull `path`, whatever scope the challenge names.
 * -1 with ERR_REQUEST when a login is missing or refused. *again: trying again may help.
 */
int token_get(struct token *out, struct http *h, const struct challenge *ch,
	const struct credential *cred, const char *path, const struct conf *c, bool *again,
	struct err *e);

/* {"token":..} or {"access_token":..}, "expires_in". Pure; a fuzz target. */
int token_parse(const char *text, size_t n, time_t now, struct token *out, struct err *e);

#endif

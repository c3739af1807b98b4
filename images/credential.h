/* Whose name a pull is made in: the files and helper programs that know credentials. */
#ifndef CGIBOX_CREDENTIAL_H
#define CGIBOX_CREDENTIAL_H

#include "images/authfile.h"
#include "isolate/conf.h"

/*
 * Looks "host[:port]/path" up: first in registry_auth_file; then, for people only (not
 * for_client), in $DOCKER_CONFIG/config.json or ~/.docker/config.json, whose helper programs are
 * run. out is anonymous when nobody knows one. A file that gives a credential and that others
 * may read or write is ERR_CONF. Reads the environment; the program `image`, single-threaded.
 */
int credential_find(struct credential *out, const char *repository, const struct conf *c,
	bool for_client, struct err *e);

/*
 * Runs docker-credential-NAME get (the protocol of docker-credential-helpers): registry on its
 * standard input, an environment of few variables, a deadline. Anonymous when the program says that
 * it knows none.
 */
int helper_ask(const char *name, const char *registry, struct credential *out, struct err *e);

#endif

/*
 * What a sandbox must be like before code can be given to an interpreter in it: image, files, network, limits,
 * environment. The shape of POST /run is sandbox.conf's; that of other routes is that of the last request that
 * found none, so the dialects alone know what their sandboxes are. Keeper.
 */
#ifndef CGIBOX_KEEPER_WARM_SHAPE_H
#define CGIBOX_KEEPER_WARM_SHAPE_H

#include <stdbool.h>

#include "fcgi/keeper_proto.h"

struct call;

struct warm_shape {
	bool known, late_env; /* late_env: variables are given with the code */
	char image[IMAGE_REF_MAX + 1];
	uint32_t network, at_workspace;
	int64_t memory_bytes, disk_bytes;
	double cpus;
	char *env; /* owned */
	uint32_t env_bytes;
};

/* Whether c asks for a sandbox of that shape. */
bool warm_shape_is(const struct warm_shape *s, const struct call *c);

/* s is what c asks for from now on. ERR_SETUP; then s is not known. */
int warm_shape_learn(struct warm_shape *s, const struct call *c, struct err *e);

/* Asks the keeper at the other end of sock for a tied session of that shape. ERR_SETUP, ERR_BUG. */
int warm_shape_ask(const struct warm_shape *s, int sock, struct err *e);

#endif

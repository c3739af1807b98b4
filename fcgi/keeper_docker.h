/* Images of the Engine, with backend = docker: for new sessions, and for clients. */
#ifndef CGIBOX_KEEPER_DOCKER_H
#define CGIBOX_KEEPER_DOCKER_H

#include "isolate/err.h"

struct keeper;
struct call;

/* What sandbox.conf and a request may not ask of an Engine. ERR_LIMIT, ERR_REQUEST, ERR_BUSY. */
int docker_check_limits(const struct keeper *k, const struct call *c, struct err *e);

/* Looks the image of a new session up, and has it pulled when it is missing and that is allowed.
 * create_session() follows, or the call fails. */
int docker_resolve(struct keeper *k, struct call *c, struct err *e);

/* As image_start(). */
int docker_image_start(struct keeper *k, struct call *c, struct err *e);

#endif

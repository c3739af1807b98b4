/*
 * Sandboxes that are prepared ahead (sandbox_park()): made when the machine is idle, given away
 * once, as many as were missed lately, and none when nobody comes. What is prepared has no image, no
 * session and no command yet; a start that finds none is a cold one and costs what it would without.
 */
#ifndef CGIBOX_KEEPER_POOL_H
#define CGIBOX_KEEPER_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "isolate/launch.h"

enum { PREPARED_MAX = 64 };

/* Since the keeper started. */
struct pool_stats {
	uint64_t made, claimed, cold, failed, trimmed;
	uint32_t ready; /* now */
};

struct keeper;
struct pool;

/* After the launcher and the epoll are open. NULL with e, or e->kind ERR_NONE when conf wants none. */
struct pool *pool_open(struct keeper *k, struct err *e);

/*
 * Makes a prepared sandbox into what, if there is one: true, and *out is as after sandbox_start().
 * False: the start has to be a cold one. pool NULL is fine here and below.
 */
bool pool_take(struct keeper *k, struct pool *p, const struct launch *what, struct sandbox *out);

/* Removes what is too much. Returns the milliseconds until there may be something to do, -1 = nothing. */
int pool_tick(struct keeper *k, struct pool *p);

/* The loop has waited, as long as pool_tick() said or less, and nothing came: prepares one, if a
 * processor is free. */
void pool_idle(struct keeper *k, struct pool *p);

void pool_stats(const struct pool *p, struct pool_stats *out);

#endif

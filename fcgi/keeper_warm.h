/*
 * Interpreters that wait for code (warm.h), each in a sandbox of its own: made when the machine is idle,
 * given away once, never used again. The keeper makes them as a worker would, by its own protocol over a
 * socket pair: a session that ends with its connection, and one run in it. A claim moves the session to
 * another connection; what a waiting one is allowed and limited to is what any session's command is.
 */
#ifndef CGIBOX_KEEPER_WARM_H
#define CGIBOX_KEEPER_WARM_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi/backend_live.h"
#include "isolate/err.h"

/* Since the keeper started. */
struct warm_stats {
	uint64_t made, claimed, missed, failed, trimmed;
	uint64_t cold[COLD_REASONS]; /* code that could be given to none */
	uint32_t ready;              /* now */
	uint64_t bytes;              /* that those hold, by their own account */
};

struct call;
struct keeper;
struct warm;

/* After the store and the pool are open. NULL with e, or e->kind ERR_NONE when conf wants none. */
struct warm *warm_open(struct keeper *k, struct err *e);

/*
 * Gives the session of a waiting interpreter to c, which asks for code of its language, form and sandbox,
 * and answers. False: there is none, which is counted with the reason. warm NULL is fine here and below.
 */
bool warm_take(struct keeper *k, struct warm *w, struct call *c);

/* Ends what is too much. Returns the milliseconds until there may be something to do, -1 = nothing. */
int warm_tick(struct keeper *k, struct warm *w);

/* The loop has waited and nothing came: makes one, if a processor is free. */
void warm_idle(struct keeper *k, struct warm *w);

void warm_stats(const struct warm *w, struct warm_stats *out);

#endif

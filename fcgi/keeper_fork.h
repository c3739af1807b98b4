/*
 * Children of a session whose files are shared layers: each is a directory with a record, a layout and
 * empty writable layers, so making one does not depend on what the parent holds. Made a few at a time,
 * so that the keeper serves others meanwhile. Keeper only.
 */
#ifndef CGIBOX_KEEPER_FORK_H
#define CGIBOX_KEEPER_FORK_H

#include "fcgi/keeper_int.h"

struct fork_work;

/* Begins to make c->rq.count children of the session that c holds; answers when they are there. */
int fork_start(struct keeper *k, struct call *c, struct fork_work **out, struct err *e);
/* Frees; NULL is fine. */
void fork_clear(struct fork_work *f);

#endif

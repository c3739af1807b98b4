/*
 * Containers that are made ahead, with backend = docker: made and started when the machine is idle, each with
 * a pid 1 that waits for its plan and directories of its own (keeper_seed.h), for sessions of the image and
 * limits that were asked for lately; given away once. As many as were missed (keeper_demand.h), none when
 * nobody comes. A start that finds none, or whose session has files already, is a cold one.
 */
#ifndef CGIBOX_KEEPER_AHEAD_H
#define CGIBOX_KEEPER_AHEAD_H

#include <stdbool.h>

#include "fcgi/engine.h"
#include "fcgi/keeper_pool.h"
#include "isolate/err.h"

enum { AHEAD_MAX = 64, AHEAD_KINDS = 8 };

struct ahead;
struct call;
struct container;
struct keeper;

/* NULL with e, or e->kind ERR_NONE when conf wants none. */
struct ahead *ahead_open(struct keeper *k, struct err *e);

/* An archive comes into the session that c holds, record and layout loaded, before its sandbox is
 * started: one is chosen now, so that it is unpacked where a container sees it. */
void ahead_choose(struct keeper *k, struct call *c);

/* The container for that session (the caller's; *conn is that of its pid 1), or NULL. */
struct container *ahead_take(struct keeper *k, struct call *c, int *conn);

/* What the broker says. false: it is none of these. */
bool ahead_made(struct keeper *k, const struct engine_answer *a, int stream);
void ahead_has_ended(struct keeper *k, const struct engine_answer *a);

/*
 * All go; true: none is left at the Engine, as far as it answers. Until then none is made. For the end of the
 * keeper, and before an image is removed: c, if not NULL, waits in CALL_PULL and has again() called.
 */
bool ahead_end(struct keeper *k, struct call *c, void (*again)(struct keeper *k, struct call *c));

/* As pool_tick(), pool_idle() and pool_stats(); nothing where there is no pool. */
int ahead_tick(struct keeper *k);
void ahead_idle(struct keeper *k);
void ahead_stats(const struct keeper *k, struct pool_stats *out);

#endif

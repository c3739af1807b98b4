/*
 * A pid 1 that waits. What its sandbox will run, over which root and with which limits is said later by
 * PROTO_CLAIM, once: all that it has so far (namespaces, /dev, /proc) depends on none of that.
 */
#ifndef CGIBOX_INIT_PARK_H
#define CGIBOX_INIT_PARK_H

#include "isolate/init.h"
#include "isolate/init_net.h"
#include "isolate/init_parts.h"

/* Maps the plan that is open as PLAN_FD_PLAN, and closes that. NULL with e. */
const struct plan *init_map_plan(struct err *e);

/* Waits for PROTO_CLAIM from the keeper and maps the plan that it brings; its descriptors have their
 * numbers then. NULL with e. */
const struct plan *init_park_claim(int keeper, struct err *e);

/* Keeps the numbers of the plan's descriptors free of others, for PROTO_CLAIM brings them. */
int init_park_reserve(struct err *e);

/*
 * Makes /dev and /proc, joins the network, sets quotas, tells the keeper (PROTO_PARKED) and waits without limit: the
 * keeper's end ends it. Then s has the plan and the descriptors of the claim. A claim that does not
 * fit what is made is ERR_BUG.
 */
int init_park(struct init_state *s, struct init_net *net, struct init_parts *parts, struct err *e);

#endif

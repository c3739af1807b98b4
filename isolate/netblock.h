/*
 * What a sandbox with a network of its own must not reach: everything that is not the public
 * Internet, this machine's own addresses, and what sandbox.conf adds (network_blocked).
 */
#ifndef CGIBOX_NETBLOCK_H
#define CGIBOX_NETBLOCK_H

#include "isolate/cidr.h"
#include "isolate/err.h"
#include "isolate/plan.h"

struct netblock {
	struct plan_route route[PLAN_ROUTES_MAX]; /* IPv4; no two are the same */
	size_t n;
};

/*
 * Fills out: the fixed ranges, the networks of `list` (sandbox.conf's network_blocked) and the
 * addresses that this machine has now. IPv6 networks are accepted and need no route: a sandbox
 * has no IPv6 at all. Keeper, `cgibox run`, once a sandbox, in the machine's network namespace.
 * ERR_CONF for the list, ERR_LIMIT when there are more than PLAN_ROUTES_MAX, ERR_SETUP.
 */
int netblock_collect(const char *list, struct netblock *out, struct err *e);

#endif

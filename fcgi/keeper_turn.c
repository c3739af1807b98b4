/*
 * Whose turn it is to change what a dialect keeps of a session: a lock beside the session's own, which
 * runs and file verbs do not hold, so that a request may hold it while it stops and starts the
 * sandbox. It is the lock of a name that no session can have. See keeper_int.h.
 */
#include <stdio.h>

#include "fcgi/keeper_int.h"

enum { HYPHEN = 8 }; /* the first of a UUID's hyphens */

void turn_take(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_TURN};
	char name[SESSION_ID_LEN + 1];
	struct err e = {0};
	int held = 1;

	if (!c->held) { /* else it has waited, and comes back with it */
		snprintf(name, sizeof name, "%s", c->rq.id);
		name[HYPHEN] = '=';
		held = lock_take(k, c, name, &e);
	}
	if (held < 0)
		call_fail(k, c, &e);
	else if (held > 0)
		call_answer(c, &rp, NULL, 0);
}

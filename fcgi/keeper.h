/*
 * The keeper: one process that holds the store and the sessions, makes sandboxes, hands out
 * locks and ends what is over. It lives in a user and mount namespace of its own, sees no byte
 * of a request, and believes nothing but fixed-size messages of its own uid (keeper_proto.h).
 */
#ifndef CGIBOX_KEEPER_H
#define CGIBOX_KEEPER_H

#include <sys/types.h>

#include "isolate/conf.h"
#include "isolate/err.h"

/*
 * Main: forks the keeper. It ends, and all sandboxes with it, at the end of file of lifeline (a
 * pipe's read end that becomes the child's; borrowed here). c is borrowed by the child's copy.
 * Returns the pid, to be reaped by the caller. The child answers once STATE/keeper.sock listens.
 */
pid_t keeper_spawn(const struct conf *c, int lifeline, struct err *e);

/*
 * A process that a web server started (mod_fcgid, bin-path): connects to the keeper, starting a
 * detached one first when there is none (flock on STATE/keeper.lock). Returns the connection;
 * while any such connection is open the keeper stays; keeper_idle_s after the last it ends.
 */
int keeper_ensure(const struct conf *c, struct err *e);

/* Worker: connects to STATE/keeper.sock. ERR_BUSY with ECONNREFUSED when nobody listens. */
int keeper_connect(const char *state_dir, struct err *e);

#endif

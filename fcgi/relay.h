/*
 * The relay of one container to which no socket leads (ENGINE_STREAM): a process of its own, forked from the
 * keeper, that is pid 1 for keeper and workers (isolate/proto.h: sockets, descriptors, spools) and
 * speaks frames (isolate/stream.h) with the real one. What comes from there is hostile, so this process
 * has no files, no rights and a filter; it bounds what it holds and never waits for one side alone.
 *
 * Kept here and not inside: output and its limits, time limits, verdicts of what it has ended itself.
 */
#ifndef CGIBOX_RELAY_H
#define CGIBOX_RELAY_H

#include <sys/types.h>

#include "isolate/err.h"

enum {
	RELAY_ENDING_MS =
		5000, /* for pid 1 to end what it is told to end; then the relay does, by ending */
	RELAY_STALL_MS = 30000, /* pid 1 reads nothing for so long: the relay ends */
};

/*
 * Forks a relay for the stream (borrowed), which connects to the socket `name` in the directory dir (borrowed)
 * as pid 1 of a container would. Returns its pid, which the caller waits for; it ends with either
 * connection. ERR_SETUP. Keeper.
 */
pid_t relay_start(int stream, int dir, const char *name, struct err *e);

#endif

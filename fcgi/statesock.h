/* Sockets in the state directory by which the processes of one service reach each other. */
#ifndef CGIBOX_STATESOCK_H
#define CGIBOX_STATESOCK_H

#include "isolate/err.h"

/*
 * Connects a close-on-exec SOCK_SEQPACKET socket to STATE/name. whose is for messages ("the keeper").
 * ERR_BUSY with ECONNREFUSED when nobody listens. Worker.
 */
int statesock_connect(const char *state_dir, const char *name, const char *whose, struct err *e);

/*
 * Listens as STATE/name, mode 0600, non-blocking: the new socket takes an old one's place by
 * rename, so there is never a moment without the name. state: a descriptor of STATE. Keeper.
 */
int statesock_listen(int state, const char *name, int backlog, struct err *e);

/* Accepts a close-on-exec connection of our own uid; -1 with errno, EACCES after another's. */
int statesock_accept(int sock);

#endif

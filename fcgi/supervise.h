/*
 * The supervisor: owns the listening socket and keeps a main process behind it. While main is
 * being replaced, connections wait in the socket's backlog instead of being refused.
 */
#ifndef CGIBOX_SUPERVISE_H
#define CGIBOX_SUPERVISE_H

#include "isolate/err.h"

/* Set in the environment of a main process; the value is the descriptor of its lifeline. */
#define SUPERVISE_ENV "CGIBOX_LIFELINE_FD"

/*
 * Runs /proc/self/exe with argv and the listener as descriptor 0, again whenever it dies: at
 * once, or after a pause that grows to 1 s when it dies young. SIGTERM and SIGINT end it
 * gracefully, SIGHUP replaces main. Returns 0 when it was asked to end; -1 with ERR_CONF when main
 * ends with the code of a wrong setting before one has ever served. listener is borrowed.
 */
int supervise_run(int listener, char *const argv[], struct err *e);

/* Main: the lifeline a supervisor gave, -1 when there is none. Its end of file ends main. */
int supervise_lifeline(void);

#endif

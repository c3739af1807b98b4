/* The FastCGI socket. Ours, not libfcgi's: that one unlinks what is there, leaves the mode to the
 * umask and exits on an error. */
#ifndef CGIBOX_LISTEN_H
#define CGIBOX_LISTEN_H

#include <stdbool.h>

#include "isolate/conf.h"
#include "isolate/err.h"

/*
 * Makes a listening unix stream socket at path (absolute; its directory must exist), with
 * socket_mode and socket_group of c from the first moment it has that name: it is bound under
 * another and renamed. A socket that is there is replaced, anything else is ERR_CONF. Returns
 * the close-on-exec, non-blocking descriptor. Supervisor, at start.
 */
int listen_open(const struct conf *c, const char *path, struct err *e);

/* Removes the socket that listen_open() made; absent is fine. */
void listen_remove(const char *path);

/* Whether descriptor 0 is a listening socket, as mod_fcgid, bin-path and our supervisor give. */
bool listen_inherited(void);

#endif

/* The names a sandbox can look up: what stands in its /etc/resolv.conf. */
#ifndef CGIBOX_RESOLVER_H
#define CGIBOX_RESOLVER_H

#include "isolate/buf.h"
#include "isolate/err.h"

enum { RESOLVER_MAX = 32768 /* bytes; init_etc.c has room for them */ };

/*
 * Appends this machine's /etc/resolv.conf as it is now, links followed, up to its first NUL; nothing
 * when there is none, which resolv.conf(5) calls a name server on this machine. ERR_LIMIT over
 * RESOLVER_MAX, ERR_SETUP when it is no file or cannot be read. Keeper and `cgibox run`.
 */
int resolver_read(struct buf *out, struct err *e);

#endif

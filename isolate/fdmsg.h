/* One fixed-size message with descriptors over a SOCK_SEQPACKET socket. unix(7), cmsg(3). */
#ifndef CGIBOX_FDMSG_H
#define CGIBOX_FDMSG_H

#include <stddef.h>

enum { FDMSG_FDS_MAX = 160 };

/* Sends n bytes and nfds descriptors (borrowed), at most FDMSG_FDS_MAX. 0, or -1 with errno. */
int fdmsg_send(int sock, const void *p, size_t n, const int *fds, unsigned nfds, int flags);

/*
 * Receives one message of exactly n bytes. Descriptors (close-on-exec) go to fds, their number
 * to *nfds; more than max are closed and make the message invalid. Returns 1, 0 at the end of
 * the connection, -1 with errno (EBADMSG: wrong size or too many descriptors, all closed).
 */
int fdmsg_receive(int sock, void *p, size_t n, int *fds, unsigned max, unsigned *nfds, int flags);

#endif

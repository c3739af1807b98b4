/*
 * Socket buffers of one network namespace, by sock_diag(7) and /proc/net/netlink: the kernel
 * tells them for every socket of the namespace, whoever holds it.
 */
#ifndef CGIBOX_WATCH_SOCK_H
#define CGIBOX_WATCH_SOCK_H

#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"

enum {
	WATCH_SOCK_COST = 1024, /* bytes of the kernel for a socket that holds nothing */
	WATCH_OPTION_FACTOR =
		10, /* what hangs on a byte of a socket's options: filters as they were given and
				    * compiled, what an interface notes of a group that a socket has joined */
	WATCH_SKB_COST = 1024,     /* bytes that a message of one byte takes */
	WATCH_SNDBUF = 2 * 212992, /* most that one sender leaves behind, SO_SNDBUF(7) */
	WATCH_DGRAM_QUEUE = 11,    /* messages that wait: net.unix.max_dgram_qlen is 10 */
};

struct watch_sockets {
	uint64_t bytes; /* buffers, and WATCH_SOCK_COST each */
	uint64_t count;
};

/* Adds what one part of a dump holds (n bytes of netlink messages). 1: the dump has ended, 0: more
 * follows, -1 with errno: the kernel refused, or the bytes are not of that form. Pure. */
int watch_sock_parse(const void *p, size_t n, unsigned family, struct watch_sockets *sum);

/*
 * Watchdog: asks for all sockets over `diag`, a NETLINK_SOCK_DIAG socket of the namespace. One
 * dump a call: kind 0 to WATCH_SOCK_KINDS - 1. A family that the kernel lacks holds nothing.
 */
enum { WATCH_SOCK_KINDS = 5 };
int watch_sock_dump(int diag, unsigned kind, struct watch_sockets *sum, struct err *e);

#endif

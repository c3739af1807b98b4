/* rtnetlink(7) requests of pid 1, one at a time, each with the kernel's answer. */
#ifndef CGIBOX_INIT_NL_H
#define CGIBOX_INIT_NL_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>

#include "isolate/err.h"

struct nl {
	int fd; /* stays in the network namespace that it was opened in */
	uint32_t seq;
	union {
		struct nlmsghdr h;
		char bytes[1024];
	} m; /* the request being written */
};

/* Opens a socket in the current network namespace; closed with own_close(&n->fd). */
int nl_open(struct nl *n, struct err *e);

/* Begins a request: type RTM_*, flags NLM_F_* beside REQUEST and ACK, the fixed part. */
void nl_begin(struct nl *n, unsigned type, unsigned flags, const void *fixed, size_t size);

/* Adds an attribute. A request that outgrows the buffer is a bug, which nl_send() reports. */
void nl_attr(struct nl *n, unsigned type, const void *data, size_t size);
void nl_attr_u32(struct nl *n, unsigned type, uint32_t v);
void nl_attr_str(struct nl *n, unsigned type, const char *s);

/* A nested attribute: nl_nest() returns what nl_end() wants. */
size_t nl_nest(struct nl *n, unsigned type);
void nl_end(struct nl *n, size_t nest);

/* Sends the request and waits for the answer; `what` is for the message. */
int nl_send(struct nl *n, struct err *e, const char *what);

/* The index of an interface by name, or -1. */
int nl_index(struct nl *n, const char *name, struct err *e);

#endif

/*
 * The network of a sandbox, made by pid 1 while it still may. With pasta there are two network
 * namespaces: that of the commands, and a router between it and pasta, which no command is ever
 * in. The routes that lead nowhere hold there: in its own namespace a process can bind to an
 * interface (SO_BINDTODEVICE, IP_PKTINFO), and then the kernel sends to addresses without a route,
 * and past one that says unreachable, as if they were on the link.
 */
#ifndef CGIBOX_INIT_NET_H
#define CGIBOX_INIT_NET_H

#include "isolate/err.h"
#include "isolate/init_nl.h"
#include "isolate/plan.h"

struct init_net {
	struct nl router; /* fd -1: there is none */
};

/*
 * PLAN_NET_NONE: a network namespace with nothing but a loopback. PLAN_NET_PASTA: brings the
 * loopback up, makes the router and every route but those that pasta is needed for, tells the
 * keeper (PROTO_NETWORK), and leaves the caller in the network namespace of the commands.
 */
int init_net_begin(struct init_net *net, const struct plan *p, int keeper, struct err *e);

/*
 * With PLAN_NET_PASTA: waits for the keeper's PROTO_GO, then connects the router with pasta's
 * interface. The wait has no limit of its own: pasta's start has one and the keeper's end ends it.
 */
int init_net_end(struct init_net *net, int keeper, struct err *e);

#endif

/* The network of one `cgibox run --network pasta`; nothing at all for the other words. */
#ifndef CGIBOX_MAIN_NET_H
#define CGIBOX_MAIN_NET_H

#include "isolate/launch_pasta.h"
#include "isolate/main_run.h"
#include "isolate/netblock.h"

struct run_net {
	bool wanted;
	struct netblock blocked;
	struct pasta pasta;
	char path[PATH_MAX]; /* of the program */
};

/* Before the start: finds pasta and what it must not reach, and says so in w, which borrows n. */
int run_net_prepare(const struct run_opts *o, struct run_net *n, struct launch *w, struct err *e);

/* Between sandbox_start() and sandbox_wait_ready(); waits at most timeout_ms for each step. */
int run_net_attach(struct run_net *n, const struct launcher *l, struct sandbox *s, int timeout_ms,
	struct err *e);

/* After the end of the sandbox; always. */
void run_net_close(struct run_net *n);

#endif

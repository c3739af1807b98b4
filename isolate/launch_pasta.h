/*
 * A network for a sandbox by way of the program pasta (Debian's package passt), without any
 * privilege. The sandbox is started with launch.pasta set; its pid 1 makes two network namespaces
 * (init_net.h) and asks for pasta; pasta runs under a guard (init_guard.h), in the sandbox's user
 * namespace and in a pid namespace that no command can see.
 *
 * A program with an event loop: pasta_start() when sandbox_next() says SANDBOX_NETWORK, then
 * pasta_answer() when ctl is readable, then pasta_go(); after that ctl is readable only when the
 * network is gone. One without: pasta_attach().
 */
#ifndef CGIBOX_LAUNCH_PASTA_H
#define CGIBOX_LAUNCH_PASTA_H

#include <limits.h>

#include "isolate/launch.h"

struct pasta {
	pid_t pid; /* of the guard, a child of the caller; 0 = none */
	int pidfd; /* readable when it can be reaped without waiting */
	int ctl;   /* closing it ends guard and pasta */
};

#define PASTA_NONE                                                                                 \
	{                                                                                          \
		.pid = 0, .pidfd = -1, .ctl = -1                                                   \
	}

/* Finds the program: pasta_program of sandbox.conf, or when that is "" pasta along PATH.
 * ERR_LIMIT that says what to install. */
int pasta_find_program(const char *program, char path[PATH_MAX], struct err *e);

/* The same, and tries /dev/net/tun. ERR_LIMIT that says what to install or to change. */
int pasta_find(const char *program, char path[PATH_MAX], struct err *e);

/*
 * Starts a guard for sandbox s, and it pasta (path). ns: what sandbox_next() gave; borrowed. Does
 * not wait for pasta. The caller must be single-threaded and must reap out->pid.
 */
int pasta_start(const struct launcher *l, const struct sandbox *s, const int ns[SANDBOX_NS],
	const char *path, struct pasta *out, struct err *e);

/* Reads from ctl, which is readable: 0 when pasta serves, -1 when it failed or is gone. */
int pasta_answer(int ctl, struct err *e);

/* Tells pid 1, by its control socket, that pasta serves. */
int pasta_go(int sandbox_ctl, struct err *e);

/*
 * All of it, for `cgibox run`: between sandbox_start() and sandbox_wait_ready(). Waits, at most
 * timeout_ms for each of two steps. On failure nothing is left but the sandbox.
 */
int pasta_attach(const struct launcher *l, struct sandbox *s, const char *path, int timeout_ms,
	struct pasta *out, struct err *e);

/* Ends guard and pasta, reaps and closes; nothing is left of them when it returns. */
void pasta_stop(struct pasta *p);

#endif

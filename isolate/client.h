/* The other end of pid 1's sockets (proto.h): ask for a command, wait for its fate. */
#ifndef CGIBOX_CLIENT_H
#define CGIBOX_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"
#include "isolate/proto.h"

struct client_exec {
	uint32_t run, flags; /* enum proto_exec_flags */
	const char *dir;
	const char *const *argv; /* NULL-ended */
	const char *env;         /* NAME=value, each with its NUL, one behind the other */
	size_t env_bytes;
	uint64_t timeout_ms, output_max_bytes;
	int fds[3]; /* spool, or stdin, stdout, stderr with PROTO_STDIO; borrowed */
};

/* Directory, arguments, environment in a memfd, which the caller owns; fills the counts of rq. Worker. */
int client_make_blob(const struct client_exec *x, struct proto_request *rq, struct err *e);

/* Range-checks a reply; FAILED is returned as -1 with pid 1's error. */
int client_check(struct proto_reply *rp, struct err *e);

/* Sends EXEC over a socket attached to pid 1. Worker, `cgibox run`. */
int client_send_exec(int sock, const struct client_exec *x, struct err *e);

/* Sends KILL or FINISH. */
int client_send(int sock, uint32_t op, struct err *e);

/* Sends KILL over the keeper's socket: every process ends, the verdict is the one given. */
int client_kill(int ctl, uint32_t verdict, struct err *e);

/* Sends signal sig (1 to 64) to the process group of the command that was started as `run`. */
int client_signal(int sock, uint32_t run, int sig, struct err *e);

/*
 * Has a pseudo terminal made inside and returns its master, which the caller owns and closes. Its
 * slave (ioctl_tty(2), TIOCGPTPEER) is what a command with PROTO_CTTY gets as stdin. Blocks; no
 * other answer may be due on the socket. `cgibox run`.
 */
int client_open_pty(int sock, struct err *e);

/* Sends ATTACH with the descriptor `peer` (borrowed) over the keeper's socket. */
int client_attach(int ctl, int peer, struct err *e);

/*
 * Receives one reply and range-checks it. ERR_BUSY with EPIPE when pid 1 is gone; FAILED is
 * returned as -1 with pid 1's error. Blocks; EINTR is returned as ERR_BUSY with errnum EINTR.
 */
int client_receive(int sock, struct proto_reply *rp, struct err *e);

#endif

/*
 * Messages on the SOCK_SEQPACKET sockets of pid 1. All are of one fixed size; text travels in a
 * memfd beside them. From the keeper: ATTACH. From whoever was attached: the others.
 */
#ifndef CGIBOX_PROTO_H
#define CGIBOX_PROTO_H

#include <stdint.h>

#include "isolate/err.h"
#include "isolate/result.h"

enum {
	PROTO_BLOB_MAX = 2 << 20, /* bytes of arguments, environment and directory */
	PROTO_ARGS_MAX = 4096,    /* arguments, and variables, each */
	PROTO_FDS_MAX = 4,
	PROTO_RUNS_MAX = 32,   /* commands of one sandbox at once */
	PROTO_PEERS_MAX = 320, /* attached sockets at once: more than streams_max is by default */
	PROTO_RUN_KEPT =
		1U << 30, /* numbers of runs with a kept output begin here: the keeper gives them */
};

enum proto_request_op {
	PROTO_ATTACH = 1, /* keeper only; fds: a SEQPACKET socket that may send the others */
	PROTO_EXEC,       /* fds: blob, then spool, or blob, stdin, stdout, stderr (STDIO) */
	PROTO_KILL,       /* ends every process of the sandbox, with the verdict given */
	PROTO_FINISH,     /* the same, and answers QUIET when none is left */
	PROTO_SIGNAL,     /* sends `signal` to the process group of the sender's command `run` */
	PROTO_PTY,        /* answers PTY_OPEN with the master of a new pseudo terminal */
	PROTO_GO,         /* keeper only, once, before READY: pasta serves the network */
	/* of a run with a kept output, from any socket */
	PROTO_FOLLOW, /* answers MORE when more than `offset` bytes are there, or it has ended */
	PROTO_INPUT,  /* answers INPUT_OPEN with a descriptor to write its input to */
	PROTO_EOF,    /* its input ends */
	PROTO_RESIZE, /* its terminal has `rows` and `cols` */
	PROTO_END,    /* keeper only: ends the run and its descendants */
	PROTO_CLAIM,  /* keeper only, once, after PARKED; fds: PLAN_FD_PLAN and those after it, as
		      * far as flags has bit 0, 1, ... */
	PROTO_BEGIN, /* keeper only: a KEPT run that waited for its input begins now, with timeout_ms;
		      * what it put out before is dropped. fd: gets its output instead, as of EXEC */
	PROTO_CONNECT, /* answers CONNECTED with a socket to `port` of the loopback inside */
};

enum proto_exec_flags {
	PROTO_SHELL = 1 << 0, /* the one argument is for bash -o pipefail -c, else sh -c */
	PROTO_STDIO = 1 << 1, /* three descriptors instead of a spool */
	PROTO_CTTY = 1 << 2,  /* STDIO: stdin, a slave of PTY, becomes the controlling terminal */
	PROTO_KEPT =
		1 << 3, /* from the keeper. fds: blob, a spool.h file, and stdin if STDIN_FILE */
	PROTO_MERGE = 1 << 4, /* KEPT: stdout and stderr are one pipe */
	PROTO_TTY = 1 << 5,   /* KEPT: they and stdin are a new terminal of `rows` and `cols` */
	PROTO_STDIN = 1 << 6, /* KEPT: stdin is a pipe for INPUT */
	PROTO_STDIN_FILE = 1 << 7, /* KEPT: stdin is the last descriptor */
	PROTO_TREE =
		1 << 8, /* a time limit, or the end of the socket, ends its descendants alone */
	PROTO_LAST = 1 << 9, /* the only command left: pid 1, and all, ends after its DONE */
};

struct proto_request {
	uint32_t op;
	uint32_t run;         /* the sender's name for the run, echoed */
	uint32_t flags;       /* enum proto_exec_flags */
	uint32_t nargs, nenv; /* in the blob: arguments, variables, directory; each NUL-ended */
	uint32_t blob_bytes;
	uint32_t signal;     /* SIGNAL: 1 to 64 */
	uint32_t verdict;    /* KILL from the keeper: VERDICT_MEMORY or _DISK; others: KILLED */
	uint64_t timeout_ms; /* 0 = none */
	uint64_t output_max_bytes; /* kept in the spool */
	uint64_t offset;           /* FOLLOW: bytes that the sender knows */
	uint32_t rows, cols;       /* TTY, RESIZE */
	uint32_t port, pad;        /* CONNECT */
};

enum proto_reply_op {
	PROTO_READY = 1,  /* to the keeper: the sandbox stands */
	PROTO_FAILED,     /* err: set-up failed, or this run could not be started */
	PROTO_DONE,       /* result */
	PROTO_QUIET,      /* no process is left but pid 1 */
	PROTO_PTY_OPEN,   /* fds: the master */
	PROTO_STARTED,    /* of a KEPT run; its DONE goes to the keeper */
	PROTO_MORE,       /* to FOLLOW */
	PROTO_INPUT_OPEN, /* fds: where to write; non-blocking */
	PROTO_NETWORK, /* to the keeper, before READY: pasta is wanted; fds: user, net namespace */
	PROTO_PARKED,  /* to the keeper, before READY: waits for CLAIM */
	PROTO_CONNECTED, /* fds: the socket, non-blocking, which may still be connecting */
};

struct proto_reply {
	uint32_t op;
	uint32_t run;
	struct err err;
	struct result result;
};

#endif

/*
 * A worker process: takes one connection at a time from main, answers one request on it, says
 * that it is ready again. It is forked by main, makes its application, locks itself (self.h)
 * and never returns to main's code.
 */
#ifndef CGIBOX_WORKER_H
#define CGIBOX_WORKER_H

#include "isolate/conf.h"
#include "isolate/err.h"

/*
 * What a worker tells main, one byte a message. Main keeps a copy of the connection and
 * enforces absolute deadlines by them: a peer that drips bytes beats any timeout of one read.
 */
enum worker_note {
	NOTE_READY = 'R',  /* locked and waiting; the connection given before, if any, is done */
	NOTE_PARAMS = 'P', /* the parameters are complete */
	NOTE_BODY = 'B',   /* the body is read, or will not be */
	NOTE_STREAM = 'S', /* the answer is being written and may take as long as it takes */
	NOTE_REPLY = 'A',  /* the answer is being written */
};

/*
 * The whole life of a worker. pair: SOCK_SEQPACKET to main, for jobs and notes. lifeline: a pipe of the worker's own whose write end only main has; its end of
 * file kills the worker, whatever it is doing. Both become the worker's. Runs in the child.
 */
_Noreturn void worker_run(const struct conf *c, int pair, int lifeline);

/* What main tells a worker, one byte and one descriptor a message. */
enum worker_job {
	JOB_REQUEST = 'J', /* the descriptor is a connection */
	JOB_LOG = 'L',     /* the access log, from now on */
};

/* Main: gives fd (borrowed) to the worker behind pair. Does not block. */
int worker_give(int pair, enum worker_job job, int fd, struct err *e);

#endif

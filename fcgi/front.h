/*
 * Main, the door: accepts connections, waits until one has something to say, gives it to an
 * idle worker and holds it to its deadlines.
 *
 * Main accepts, not the workers: a connection that says nothing costs an epoll entry and not a
 * worker; the end of a time limit can be enforced from outside of a worker that waits inside a
 * library; and when a worker dies, its peer still gets an answer. Main looks at the first 16
 * bytes of a connection (gate_peek()) and at nothing else that a stranger sent.
 */
#ifndef CGIBOX_FRONT_H
#define CGIBOX_FRONT_H

#include <stdbool.h>

#include "isolate/conf.h"
#include "isolate/err.h"

struct front_args {
	const struct conf *conf;
	int listener; /* listening, borrowed */
	int lifeline; /* the supervisor's: end of file ends main; -1 when started by others */
	bool own;     /* the whole service: keep a keeper, and as many workers as configured;
			 else one copy of several, with one worker */
};

/*
 * Serves until SIGTERM, SIGINT or SIGUSR1; then finishes what runs, for 10 s at most. Returns 0
 * when it was asked to end and -1 when it cannot go on. Main process only, single-threaded.
 */
int front_run(const struct front_args *a, struct err *e);

#endif

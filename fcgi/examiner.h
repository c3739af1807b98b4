/*
 * The examiner: a process that the keeper forks before it enters its namespaces and that runs
 * the program `doctor` when it is told to. From inside the keeper's user namespace everybody is
 * root and nothing is delegated; what an operator wants to know is what the service's user may.
 */
#ifndef CGIBOX_EXAMINER_H
#define CGIBOX_EXAMINER_H

#include <sys/types.h>

#include "isolate/conf.h"
#include "isolate/err.h"

enum {
	EXAMINER_OUTPUT_MAX = 1 << 17, /* bytes that a run may write */
	EXAMINER_RUN_MS = 120000,      /* a run that takes longer is ended */
};

struct examiner {
	pid_t pid;
	int sock; /* owned; -1 = there is none */
};

/*
 * Keeper, single-threaded, still in the host's namespaces. The process has the settings of c as
 * they are now and none of our descriptors but standard error; it ends with x->sock, and so does
 * a run of its.
 */
int examiner_start(const struct conf *c, struct examiner *x, struct err *e);

/*
 * Has doctor write its facts (a JSON array) to out, which is borrowed. Returns at once; one run
 * at a time. x->sock becomes readable when the run has ended.
 */
int examiner_run(const struct examiner *x, int out, struct err *e);

/*
 * Takes the end of a run from x->sock, which is readable. 0 when out holds the facts. ERR_SETUP
 * when doctor failed; with errnum EPIPE the examiner itself is gone.
 */
int examiner_finish(const struct examiner *x, struct err *e);

#endif

/* What a command cost, and within which limits it ran, as JSON. Pure; any process. */
#ifndef CGIBOX_RECEIPT_H
#define CGIBOX_RECEIPT_H

#include <stdint.h>

#include "isolate/buf.h"
#include "isolate/conf.h"
#include "isolate/result.h"

/*
 * Appends the object that API answers call "usage": wall, user and system time, peak memory, bytes
 * of disks, processes, bytes of output, and what a control group told. What nobody measured is left
 * out: a 0 would be made up.
 */
void receipt_usage(struct buf *b, const struct result *r);

/* The limits of one command that are not sandbox.conf's own. 0: as sandbox.conf has it. */
struct receipt_limits {
	int64_t timeout_ms, output_max_bytes; /* both > 0 */
	int64_t memory_bytes;                 /* of the session */
	double cpus;                          /* of the session */
	unsigned means;                       /* LIMIT_BY_*: what holds limits here (limits.h) */
};

/*
 * Appends the object of all limits that were in force for one command: each with its value and who
 * holds it, as in GET /system/, of the kernel's and the sandbox's; 0 where there is none.
 */
void receipt_limits(struct buf *b, const struct conf *c, const struct receipt_limits *l);

#endif

/*
 * Where the lines of the access log go: nowhere, to standard error, or to a file that is appended
 * to, one write(2) a line, by all workers. The file may be renamed or removed at any time, as
 * logrotate does it: main, which may open files, looks once a second at most and hands the new one
 * to workers.
 */
#ifndef CGIBOX_ACCESS_H
#define CGIBOX_ACCESS_H

#include <stdint.h>

#include "fcgi/trace.h"
#include "isolate/conf.h"
#include "isolate/err.h"

struct access {
	const char *path; /* of a file; NULL: none. Borrowed */
	int fd;           /* -1: nothing is logged */
	int64_t look_after_ms;
	unsigned generation; /* another number, another file */
};

#define ACCESS_NONE ((struct access){.fd = -1})

/* Main, at start-up. A file that cannot be opened, or is none, is ERR_CONF. */
int access_open(struct access *a, const struct conf *c, struct err *e);

/* Main: opens the file again when its name is another's or nobody's now. now: ms, monotonic. */
void access_follow(struct access *a, int64_t now);

void access_close(struct access *a);

/* Ends t: counts it, and writes its line. A line that cannot be written is counted. Any process. */
void access_write(const struct access *a, struct trace *t, pid_t pid);

#endif

/* The descriptors of one process of a sandbox, and what they hold. For watch.c and watch_proc.c only. */
#ifndef CGIBOX_WATCH_FDS_H
#define CGIBOX_WATCH_FDS_H

#include "isolate/watch_proc.h"

/* Finds out what tells kinds of files from each other; proc: the sandbox's procfs. */
int watch_devs_find(struct watch_devs *d, int proc, struct err *e);

/*
 * Adds what the descriptors of dir (a directory of p->proc: a process or a thread) hold to p->sum. One
 * that has just ended adds nothing. proc_pid_fdinfo(5).
 */
void watch_fds_add(struct watch_procs *p, const char *dir);

#endif

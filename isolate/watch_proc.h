/* One process of a sandbox, by its directory in the sandbox's procfs. For watch.c only. */
#ifndef CGIBOX_WATCH_PROC_H
#define CGIBOX_WATCH_PROC_H

#include <sys/types.h>

#include "isolate/watch.h"
#include "isolate/watch_seen.h"

struct watch_devs {
	uint64_t shm, pipe; /* device numbers of the kernel's own shmem and pipe file systems */
};

struct watch_procs {
	int proc; /* the procfs */
	struct watch_devs devs;
	struct watch_seen seen;
	struct watch_sum sum;
	uint64_t pipes; /* met so far */
	char *text;     /* room for files */
	size_t size;
};

enum { WATCH_TEXT_BYTES = 64 << 10 };

/* Finds the device numbers out. */
int watch_devs_find(struct watch_devs *d, struct err *e);

/*
 * Adds process pid to p->sum; *anon is its share of sum.anon and dir (32 bytes) the name of the
 * directory below the procfs where its memory is seen. A process that has just ended adds nothing.
 */
int watch_proc_add(struct watch_procs *p, pid_t pid, uint64_t *anon, char *dir, struct err *e);

/* Bytes of anonymous memory of dir, shared pages by their share; 0: it has ended; -1: not told. */
int64_t watch_proc_share(struct watch_procs *p, const char *dir);

/* See watch_text_faults(). */
uint64_t watch_proc_faults(struct watch_procs *p, const char *dir);

/* Threads of dir's process that wait in vfork(2). */
unsigned watch_proc_vforks(struct watch_procs *p, const char *dir);

/* See watch_text_space(); 0: gone. */
uint64_t watch_proc_space(struct watch_procs *p, const char *dir);

#endif

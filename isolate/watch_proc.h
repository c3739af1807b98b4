/* One process of a sandbox, by its directory in the sandbox's procfs. For watch.c only. */
#ifndef CGIBOX_WATCH_PROC_H
#define CGIBOX_WATCH_PROC_H

#include <sys/types.h>

#include "isolate/watch.h"
#include "isolate/watch_seen.h"

struct watch_devs {
	/* device numbers: of the kernel's own file systems of shmem, pipes and nameless inodes, and of
	 * the sandbox's procfs */
	uint64_t shm, pipe, nameless, proc;
	uint64_t pipe_mount; /* what fdinfo says where pipes are mounted; 0: not known */
	uint64_t proc_mount; /* and the sandbox's procfs */
};

struct watch_procs {
	int proc; /* the procfs */
	struct watch_devs devs;
	struct watch_seen seen;
	struct watch_sum sum;
	uint64_t pipes;       /* met so far */
	uint64_t polls;       /* what instances of epoll wait for */
	uint64_t filters;     /* of a command that loaded none itself, at most */
	bool look_at_locks;   /* regular files are asked for theirs */
	bool look_at_filters; /* threads are asked for theirs, too */
	char *text;           /* room for files */
	size_t size;
};

enum { WATCH_TEXT_BYTES = 64 << 10 };

#define WATCH_OVER_BYTES (1ULL << 40) /* more than any limit: what is known is enough */

/*
 * Adds process pid to p->sum; *anon is its share of sum.anon and dir (32 bytes) the name of the
 * directory below the procfs where its memory is seen. A process that has just ended adds nothing.
 */
int watch_proc_add(struct watch_procs *p, pid_t pid, uint64_t *anon, char *dir, struct err *e);

/* Bytes of anonymous memory of dir, shared pages by their share; 0: it has ended; -1: not told. */
int64_t watch_proc_share(struct watch_procs *p, const char *dir);

/* Learns from pid 1 how many filters a command is born with: as many, or one more (init_spawn.c). */
void watch_proc_filters(struct watch_procs *p);

/* See watch_text_faults(). */
uint64_t watch_proc_faults(struct watch_procs *p, const char *dir);

/* Threads of dir's process that wait in vfork(2). */
unsigned watch_proc_vforks(struct watch_procs *p, const char *dir);

/* See watch_text_space(); 0: gone. */
uint64_t watch_proc_space(struct watch_procs *p, const char *dir);

#endif

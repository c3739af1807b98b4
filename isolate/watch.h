/*
 * Measures one sandbox from outside, without cgroups: what its processes, the objects they hold and
 * its sockets take of the machine's memory, each thing once. The caller is an ancestor of the
 * sandbox's user namespace, so no process of it can hide by being non-dumpable.
 *
 *	anonymous memory   RssAnon and swap of each process; over the limit, again as its share (Pss_Anon)
 *	page tables        VmPTE; 16 KiB of stack in the kernel for each thread
 *	shared memory      memfds, by the blocks of each inode; tmpfs, by statfs; SysV, by its table
 *	shared mappings    without a descriptor their blocks are not told: see watch_set.h
 *	mappings           256 bytes each
 *	descriptors        1 KiB each; a pipe or FIFO by what it may hold; a file of a procfs 8 KiB, since it
 *	                   keeps what it was read into, and one of fdinfo 4 MiB
 *	epoll              256 bytes for each thing that is waited for; too many are over any limit
 *	seccomp            96 KiB for each filter of a process beside ours, the most that one may have
 *	in flight          while descriptors wait in a Unix socket, every memfd that has vanished since, and
 *	                   16 MiB for each that has waited for half a second
 *	sockets            watch_sock.h
 *	locks on files     when asked to: those of fcntl(2), 256 bytes each; too many are over any limit
 *
 * Not counted: page cache of files on disk, which the kernel takes back.
 */
#ifndef CGIBOX_WATCH_H
#define CGIBOX_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"

enum {
	WATCH_FD_DIAG, /* NETLINK_SOCK_DIAG of its network namespace; -1: not its own */
	WATCH_FD_SHM,  /* /proc/sysvipc/shm, sem, msg of its IPC namespace; -1: not told */
	WATCH_FD_SEM,
	WATCH_FD_MSG,
	WATCH_FDS,

	WATCH_THREAD_COST = 16 << 10, /* bytes: a stack in the kernel */
	WATCH_FD_COST = 1 << 10,      /* bytes: a descriptor and its file */
	WATCH_MAP_COST = 256,         /* bytes: a mapping, of which a process may have 65530 */
	WATCH_PIPE_BYTES = 64 << 10,  /* a pipe's buffer, pipe(7) */
	WATCH_PIPE_SOFT = 64 << 20,   /* pipe-user-pages-soft: beyond it a pipe gets */
	WATCH_PIPE_SMALL = 8 << 10,   /* two pages */
	WATCH_LOCK_COST = 256,        /* bytes of a lock on a part of a file */
	WATCH_LOCKS_MAX = 32768,
	WATCH_PROC_COST = 8 << 10,   /* a procfs file's buffer */
	WATCH_FDINFO_COST = 4 << 20, /* 32,768 locks, or 16,384 watches of inotify, in lines */
	WATCH_UNSEEN_COST = 8 << 10, /* a descriptor of which only its number is known */
	WATCH_POLL_COST = 256,       /* a file in an instance of epoll */
	WATCH_POLLS_MAX = 65536,     /* fs.epoll.max_user_watches is one number for the uid */
	WATCH_FILTER_COST =
		96 << 10,     /* bytes of 4096 instructions: as loaded, as run, as compiled */
	WATCH_SEM_COST = 128, /* bytes of one semaphore */
	WATCH_MSG_COST = 128, /* bytes of a message beside its text */
	WATCH_FLIGHT_COST = 16 << 20, /* a descriptor on its way, */
	WATCH_FLIGHT_US = 500000,     /* for so long: nobody reads it */
	WATCH_TMPFS_MAX = 16,         /* mounts looked at */
};

struct watch_sum {
	uint64_t anon, tables, shm, kernel, sockets; /* bytes; their sum is watch_total() */
	unsigned locks;                              /* part of kernel */
	uint64_t mapped;   /* extents of shared mappings whose blocks are not told */
	uint64_t unlinked; /* bytes on disk of open files without a name */
	unsigned processes;
	unsigned in_flight; /* descriptors in queues of Unix sockets */
	uint64_t faults;    /* minor faults so far; each page of a mapping was one */
	bool blind;         /* a process whose descriptors cannot be seen */
	bool hides;         /* mapped, or a process whose descriptors cannot be seen */
	bool doubtful;      /* two processes that may share an address space: look again */
};

static inline uint64_t watch_total(const struct watch_sum *s)
{
	return s->anon + s->tables + s->shm + s->kernel + s->sockets;
}

struct watch;

/* Whether the next measurements ask each thread for its seccomp filters. */
void watch_filters(struct watch *w, bool look);

/* Whether the next measurements ask each open file for locks. */
void watch_locks(struct watch *w, bool look);

/* Takes over the descriptors of from, which are -1 then; to NULL: closes them. */
void watch_take_fds(int *to, int from[WATCH_FDS]);

/*
 * proc_dir: /proc/PID of the sandbox's pid 1, which is ready; fds: WATCH_FD_*. All are taken over,
 * on failure closed. root_memory: the root's upper layer is a tmpfs. NULL with e.
 */
struct watch *watch_open(int proc_dir, int fds[WATCH_FDS], bool root_memory, struct err *e);
void watch_close(struct watch *w);

/*
 * Goes on with a measurement for about budget_us, at least one process; limit_bytes is where an exact
 * answer matters. 1: done, *out is filled; 0: call again; -1: the sandbox is gone or cannot be seen.
 */
int watch_step(struct watch *w, uint64_t limit_bytes, uint64_t budget_us, struct watch_sum *out,
	struct err *e);

/* Microseconds of the monotonic clock. */
uint64_t watch_now_us(void);

#endif

/*
 * cgibox-init, pid 1 of every sandbox: a small static program without heap or threads, executed
 * from a sealed memfd with an empty environment. It builds the root (init_root.c), gives every
 * right away (init_drop.c), then waits on its control sockets and runs commands (init_spawn.c, init_run.c).
 */
#ifndef CGIBOX_INIT_H
#define CGIBOX_INIT_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "isolate/err.h"
#include "isolate/init_parts.h"
#include "isolate/plan.h"
#include "isolate/proto.h"
#include "isolate/spool.h"

struct init_stream;

/* Builds the mounts of the plan and pivots into them, so that no path of the host is left. parts: of
 * before, or none and made here; the caller closes them. *null becomes the new /dev/null, opened for
 * reading. No other descriptor is left open. */
int init_root_build(const struct plan *p, struct init_parts *parts, int *null, struct err *e);

/* An empty directory where init_parts_build() may work until there is a root: a small tmpfs, mounted
 * where the root will be mounted over it. */
int init_root_wait_place(const struct plan *p, struct err *e);

/* A detached copy of the mount at path, with more restrictive attributes. */
int init_bind(const char *path, bool recursive, uint64_t attr, struct err *e);

/* A detached tmpfs with limits and MOUNT_ATTR_* attr; returns its mount descriptor. */
int init_tmpfs(uint64_t bytes, uint64_t inodes, uint32_t mode, unsigned attr, struct err *e);
/* Attaches a detached mount at a place that is open by O_PATH; what is for the message. */
int init_attach(int mnt, int at, const char *what, struct err *e);

/* Puts files of ours over some below /etc of the new root; dev is the new /dev, still writable.
 * Before anything that lies on the host is mounted in the root: nothing is made there. */
int init_etc_build(const struct plan *p, int root, int dev, struct err *e);

/* Drops what is left: Landlock, capabilities, seccomp, in this order. */
int init_drop_rights(const struct plan *p, struct err *e);

/* What the sandbox's control group has counted since it was made. */
struct init_usage {
	uint64_t oom_kills, pids_denied, cpu_us, throttled_us;
};

/* Reads the counters; false: there is no group. */
bool init_usage_read(struct init_usage *u);

/* Fills the fields of r about the whole sandbox, and changes the verdict of a run that ended badly
 * and met a limit of the group. */
void init_usage_tell(const struct init_usage *start, struct result *r);

/*
 * How many processes and threads were started here since the one with this number, itself included.
 * 0: it cannot be known.
 */
uint32_t init_usage_processes(int first);

/* One command in progress, or one whose descendants still hold its pipe (spool -1). */
struct init_run {
	bool used, live; /* live: no verdict sent yet */
	int peer;        /* index of the socket that asked, -1 when it has gone */
	uint32_t id, flags;
	int pid;
	int out[2];        /* to read its output from, or its standard error; -1: STDIO or closed */
	int input;         /* to write its input to; -1: none. Of a terminal a copy of out[0] */
	int spool;         /* -1: output is dropped, or goes to kept */
	struct spool kept; /* of a KEPT run until its verdict; owns its descriptor */
	uint32_t signalled; /* the last signal that came from outside */
	bool forced;        /* ended by us: with this verdict */
	uint32_t verdict;
	uint64_t output_max, output_bytes, output_kept;
	uint64_t start_us, deadline_us; /* monotonic; deadline 0 = none */
	struct rusage usage;            /* once it is reaped */
	struct init_usage before;       /* when it started */
	uint64_t cpu_before_us;         /* what it used while it waited to begin */
};

/* A peer that waits for output. */
struct init_follow {
	bool waits;
	uint32_t run;
	uint64_t offset;
};

struct init_state {
	const struct plan *plan;
	int keeper, signals;
	struct init_stream *stream; /* instead of keeper and peers; NULL: init_stream.h */
	int watch[INIT_WATCH_FDS];  /* for the watchdog, until READY; init_parts.h */
	int oom;                    /* init_container_victim() */
	int null; /* the sandbox's /dev/null, opened where no tenant's link or mode is in the way */
	int peer[PROTO_PEERS_MAX]; /* -1: free */
	bool finishing[PROTO_PEERS_MAX];
	struct init_follow follow[PROTO_PEERS_MAX];
	struct init_run run[PROTO_RUNS_MAX];
	bool slow; /* the command that was started last took its time: others may have waited */
};

/* Whether somebody waits for pid 1: a socket has something to say, or a command is past its deadline. */
bool init_is_wanted(const struct init_state *s);

/* Starts the command of rq; fds are taken over and closed. A failure is answered, not returned. */
void init_run_start(
	struct init_state *s, int peer, const struct proto_request *rq, int *fds, unsigned nfds);

/* Moves what its pipe (0, or 1 of standard error) holds to the spool, or drops it; closes the pipe at
 * its end. */
void init_run_pump(struct init_run *r, int which);

/* The run with a kept output that has this number; NULL: it has ended. */
struct init_run *init_run_kept(struct init_state *s, uint32_t run);

/* Reaps children that ended and answers for those that were commands; true: there may be more,
 * left for the next round so that a storm of them cannot delay a deadline. */
bool init_run_reap(struct init_state *s);

/* SIGKILLs and reaps every process but pid 1; verdict goes to the commands among them. */
void init_run_kill_all(struct init_state *s, uint32_t verdict, const struct init_run *cause);

/* Sends a signal to the process group of the peer's command, when it still runs. */
void init_run_signal(struct init_state *s, int peer, uint32_t run, uint32_t sig);

/* Kills all when a deadline has passed; returns the milliseconds to the next one, -1 = none. */
int init_run_deadlines(struct init_state *s);

void init_reply(const struct init_state *s, int peer, const struct proto_reply *r);

/* Makes a pseudo terminal and answers with its master (init_pty.c). */
void init_pty_answer(const struct init_state *s, int peer, uint32_t run);
/* The same for a command of ours: its master, and its slave. */
int init_pty_pair(uint32_t rows, uint32_t cols, int *slave, struct err *e);
void init_pty_resize(int master, uint32_t rows, uint32_t cols);
/* Answers with a socket that connects to a port of the sandbox's loopback (init_connect.c). */
void init_connect(const struct init_state *s, int peer, const struct proto_request *rq);
/* Answers with one descriptor. */
void init_reply_fd(const struct init_state *s, int peer, const struct proto_reply *r, int fd);

/* Processor time of a child of ours and its threads, us. 0: it cannot be known. */
uint64_t init_usage_cpu_us(int pid);
/* Takes `before` us, of the same process, off r's processor time. */
void init_usage_since(uint64_t before, struct result *r);

/* init_live.c: what any peer may ask about a run with a kept output. */
void init_live_obey(
	struct init_state *s, int peer, const struct proto_request *rq, int *fds, unsigned nfds);
void init_live_wake(struct init_state *s); /* answers who waited for what is there now */

/* Ends a run and all descendants that are still linked to it, whatever they do meanwhile; those of
 * others live on. The verdict is told when it is reaped. init_tree.c */
void init_tree_end(struct init_state *s, struct init_run *r, uint32_t verdict);

#endif

/* Shared by the keeper's own files only: keeper.c (start, loop), keeper_call.c (one request's
 * states), keeper_lock.c (who holds a session), keeper_start.c (session to sandbox),
 * keeper_net.c (its network), keeper_group.c (control groups), keeper_trash.c (expiry, removal),
 * keeper_pull.c and keeper_image.c (images), keeper_system.c (facts), keeper_watch.c (the watchdog),
 * keeper_layers.c (layers that sessions share), keeper_workspace.c and keeper_fork.c (verbs of a
 * session's workspace). */
#ifndef CGIBOX_KEEPER_INT_H
#define CGIBOX_KEEPER_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "fcgi/examiner.h"
#include "fcgi/keeper_proto.h"
#include "fcgi/session_dir.h"
#include "fcgi/tree.h"
#include "images/store.h"
#include "isolate/buf.h"
#include "isolate/cgroup.h"
#include "isolate/cgroup_box.h"
#include "isolate/conf.h"
#include "isolate/launch_pasta.h"

enum { CALLS_MAX = 4096, PULLS_MAX = 4, IMAGES_MAX = 8, TRASH_JOBS = 2, START_TIMEOUT_MS = 30000 };

struct call;
struct keeper;

/* Something epoll watches; fd -1 = not watched. */
struct source {
	int fd;
	void (*ready)(struct keeper *k, struct source *s);
	struct call *call;
	void *data; /* of ready() alone */
};

enum call_state {
	CALL_IDLE,  /* waits for a message; may hold a session and its sandbox */
	CALL_LOCK,  /* waits for the session */
	CALL_PULL,  /* waits for the program `image` */
	CALL_JOB,   /* waits for a tree helper */
	CALL_START, /* waits for pid 1 */
	CALL_STOP,  /* waits for the end of the sandbox */
	CALL_FACTS, /* waits for the first facts about the machine */
};

/* A running sandbox's use of the disk. */
struct disk_watch {
	struct source job;           /* a helper that measures */
	bool want;                   /* the disk was written to since it began */
	uint64_t limit, inode_limit; /* of growth; 0 = none */
	uint64_t unlinked;           /* bytes of open files without a name */
	uint64_t begun_ms, rest_until_ms;
};

/* One connection of a worker. */
struct call {
	LIST_ENTRY(call) link;
	TAILQ_ENTRY(call) waiting; /* in session->waiters while CALL_LOCK */
	enum call_state state;
	bool gone;                          /* the worker hung up */
	bool over;                          /* to be freed after this round of events */
	struct source sock, job, ctl, exit; /* exit: the pidfd of sandbox or puller */
	struct source net;                  /* pasta's guard */
	struct keeper_request rq;           /* the one being served */
	int fd[KEEPER_FDS_MAX];             /* that came with it */
	uint64_t deadline_ms;               /* monotonic; 0 = none */
	struct session *held;
	struct session *wanted; /* while CALL_LOCK */
	struct session_record record;
	struct ws_layout layout;
	struct sandbox box;              /* pid -1 = none */
	struct cgroup_box group;         /* of its commands; dir -1 = none */
	struct pasta pasta;              /* pid 0 = none */
	int client;                      /* our end for the worker until READY */
	char new_id[SESSION_ID_LEN + 1]; /* of a session being made; "" = none */
	struct err failure; /* to be answered once the sandbox is gone; ERR_NONE = none */
	bool pulled;        /* one try a request */
	uint32_t job_op;    /* enum tree_op of the job in progress */
	uint64_t watch_id;  /* of the sandbox at the watchdog; 0 = none */
	struct disk_watch disk;
	struct ws_work *work; /* of KEEPER_WORKSPACE, NULL: none */
	int pull_out;         /* what the puller says */
	int pull_pid;
};

TAILQ_HEAD(call_queue, call);
LIST_HEAD(call_list, call);
LIST_HEAD(session_list, session);

/* A session that somebody holds or waits for. */
struct session {
	LIST_ENTRY(session) link;
	char id[SESSION_ID_LEN + 1];
	struct call *holder;
	struct call_queue waiters;
	unsigned nwaiters;
};

/* The group of a sandbox that has ended, as long as the kernel says EBUSY. */
struct group_left {
	LIST_ENTRY(group_left) link;
	char name[CGROUP_NAME_MAX];
};
LIST_HEAD(group_left_list, group_left);

struct trash_job {
	struct source job;
	char name[64];
};

/* What the machine allows, found by the examiner. */
struct facts {
	struct examiner examiner;
	struct source done; /* the examiner's socket */
	int running;        /* a run writes there; -1 = no run */
	int found;          /* of the last good run, sealed; -1 = none yet */
	int64_t found_at;   /* seconds since the epoch */
	uint64_t found_ms;  /* monotonic */
	uint64_t tried_ms;  /* when the last run began; 0 = never */
};

struct layer_table;

struct keeper {
	const struct conf *conf;
	struct layer_table *layers;
	struct session_dirs dirs;
	struct store *store;
	struct tree_server *tree;
	struct launcher launcher;
	int epoll, lock;
	struct source listen, lifeline, watcher;
	uint64_t last_watch_id;
	unsigned nmeasuring;
	bool on_demand, stop;
	struct call_list calls;
	struct session_list sessions;
	unsigned ncalls, nboxes;
	size_t nsessions;        /* on disk */
	struct cgroup delegated; /* dir -1: none, and why is in the log */
	struct cgroup_box group; /* ours below it; dir -1: limits of whole sandboxes are not held */
	struct group_left_list groups_left;
	bool sweep_groups; /* a killed keeper's are not gone yet */
	uint64_t groups_at_ms;
	struct trash_job trash[TRASH_JOBS];
	bool trash_stuck; /* a removal failed: wait for the next tick */
	uint64_t next_tick_ms, idle_since_ms;
	uint64_t
		listen_at_ms; /* when to listen again after a shortage of descriptors; 0 = listening */
	unsigned npulls, nimages; /* nimages: shorter runs of the program `image` */
	uint64_t start_ms;
	struct facts facts;
};

uint64_t keeper_now_ms(void);
int keeper_watch(struct keeper *k, struct source *s, int fd, struct err *e);
void keeper_unwatch(struct keeper *k, struct source *s); /* closes, too */

/* keeper_call.c */
void call_accept(struct keeper *k, int fd);
void call_locked(struct keeper *k, struct call *c); /* the lock came */
void call_fail(struct keeper *k, struct call *c, const struct err *e);
void call_ready(struct keeper *k, struct call *c);   /* pid 1 is ready */
void call_stopped(struct keeper *k, struct call *c); /* its sandbox is gone */
void call_pulled(struct keeper *k, struct call *c, const struct err *e);
void call_answer_system(struct keeper *k, struct call *c); /* with the facts, if there are any */
void call_answer_image(struct keeper *k, struct call *c, int out, int code);
int call_deadline(struct keeper *k); /* serves those that passed; ms to the next */

/* keeper_lock.c */
struct session *lock_find(struct keeper *k, const char *id); /* NULL: neither held nor wanted */
int lock_take(
	struct keeper *k, struct call *c, const char *id, struct err *e); /* 1 held, 0 waits */
void lock_give_up(struct keeper *k, struct call *c);
void lock_release(struct keeper *k, struct call *c);

/* keeper_start.c */
int start_sandbox(struct keeper *k, struct call *c, struct err *e);
bool stop_sandbox(struct keeper *k, struct call *c); /* true: call_stopped() follows later */
int make_environment(struct keeper *k, const struct image *im, const struct call *c,
	struct buf *out, struct err *e);

/* keeper_group.c */
int group_enter(struct keeper *k, struct err *e);  /* before the keeper's own namespaces */
int group_settle(struct keeper *k, struct err *e); /* in them */
bool group_holds(const struct keeper *k, unsigned controller); /* CGROUP_* */
int group_make(struct keeper *k, struct call *c, struct err *e);
void group_drop(struct keeper *k, struct call *c);
int group_retry(struct keeper *k); /* ms to the next try */
/* keeper_net.c */
int net_start(struct keeper *k, struct call *c, const int ns[SANDBOX_NS], struct err *e);
void net_stop(struct keeper *k, struct call *c); /* does not wait for the end of it */

/* keeper_trash.c */
void trash_work(struct keeper *k);
void trash_expire(struct keeper *k);

/* keeper_system.c */
int facts_open(struct keeper *k, struct err *e); /* before the keeper enters its namespaces */
int facts_watch(struct keeper *k, struct err *e);
void facts_ask(struct keeper *k, struct call *c); /* answers, or waits in CALL_FACTS */
void system_fill(const struct keeper *k, struct keeper_reply *rp);

/* keeper_watch.c */
int watch_start(struct keeper *k, struct err *e);
int watch_add(struct keeper *k, struct call *c, struct err *e); /* its sandbox is ready */
void watch_remove(struct keeper *k, struct call *c);            /* its sandbox is being ended */
int watch_disk_work(struct keeper *k); /* starts measurements; ms to the next, -1 = none */
int watch_disk_room(const struct keeper *k, struct err *e); /* ERR_BUSY under the reserve */
/* What a session that is to be opened has written: 0 it may, and its limits are set. */
int watch_disk_admit(
	struct keeper *k, struct call *c, uint64_t bytes, uint64_t inodes, struct err *e);
void watch_disk_limits(const struct keeper *k, struct call *c);
uint64_t watch_memory_limit(const struct keeper *k, const struct call *c); /* bytes, 0 = none */
double watch_cpus(const struct keeper *k, const struct call *c);           /* 0 = no limit */

/*
 * keeper_layers.c: who stands on which shared layer. The sessions' layouts are the truth; the table is
 * counted from them at the start. A layer goes when nothing stands on it.
 */
int layers_start(struct keeper *k, struct err *e); /* counts; removes what a crash left */
int layers_hold(struct keeper *k, const struct ws_layers *l, struct err *e);
void layers_drop(struct keeper *k, const struct ws_layers *l);
/* A new empty layer, its name in id: nobody's until it is held, and gone at the next start. */
int layers_make(struct keeper *k, unsigned char *id, struct err *e);
/* Descriptors of read-only mounts of them, for a tree helper; all or none. */
int layers_open(struct keeper *k, const struct ws_layers *l, int *fds, struct err *e);
/* Moves the session into the trash, and what it alone stood on. 0 also when it is absent. */
int layers_discard_session(struct keeper *k, const char *id, struct err *e);

/* keeper_workspace.c */
/*
 * Whether nothing uses the session's files but this call, which holds its lock or will. stop: what uses
 * them is told to end, and the call waits for the lock. ERR_BUSY with EWOULDBLOCK says who does. What
 * lives in a session beyond its requests belongs in here.
 */
int workspace_quiet(struct keeper *k, const char *id, bool stop, struct err *e);
bool workspace_request_ok(const struct keeper *k, const struct keeper_request *rq);
unsigned workspace_request_fds(const struct keeper_request *rq); /* that must come with it */
void workspace_start(struct keeper *k, struct call *c);          /* it has the lock */
/* For one more archive: true when that takes time; the message is served anew then. */
bool workspace_make_room(struct keeper *k, struct call *c);
void workspace_job(const struct call *c, struct tree_job *j); /* fills in what is its own */
void workspace_job_done(struct keeper *k, struct call *c, const struct tree_result *r);
void workspace_clear(struct call *c);

/* keeper_watch.c */
void watch_end_commands(struct call *c); /* as "killed" */

/* keeper_call.c */
void call_answer(
	struct keeper *k, struct call *c, struct keeper_reply *rp, int fd); /* fd: -1 none */
void call_again(struct keeper *k, struct call *c); /* serves the message from its beginning */
/* Starts a tree helper for c, whose end is told; or fails the call. */
void job_start(struct keeper *k, struct call *c, enum tree_op op, int dir, int data);
/* keeper_job.c */
int job_take_layout(struct keeper *k, struct call *c, const struct ws_layout *from, struct err *e);
int job_open(struct keeper *k, struct call *c, enum tree_op op, int dir, int data, struct err *e);

/* keeper_pull.c */
int pull_start(struct keeper *k, struct call *c, struct err *e);
/*
 * Starts the program `image` with these arguments, at most 10, and its output to out and err.
 * Returns a pidfd.
 */
int pull_spawn(struct keeper *k, char *const *args, int out, int err, int *pid, struct err *e);

/* keeper_image.c */
int image_start(struct keeper *k, struct call *c, struct err *e); /* call_answer_image() follows */

#endif

/* Shared by the keeper's own files only: keeper.c (start, loop), keeper_call.c (one request's
 * states), keeper_check.c (what a message may say), keeper_lock.c (who holds a session),
 * keeper_create.c (new sessions), keeper_start.c (session to sandbox), keeper_plan.c (a session's
 * mounts), keeper_box.c (the life of a sandbox), keeper_live.c and keeper_run.c (calls and runs in
 * live ones), keeper_list.c (what there is), keeper_job.c (helpers), keeper_net.c (its network),
 * keeper_group.c (control groups), keeper_trash.c (expiry, removal), keeper_pull.c and keeper_image.c
 * (images), keeper_files.c (file verbs), keeper_layers.c (layers that sessions share),
 * keeper_workspace.c and keeper_fork.c (verbs of a session's workspace), keeper_index.c (the index),
 * keeper_system.c (facts), keeper_watch.c (the watchdog), keeper_stats.c (what is counted),
 * keeper_pool.c (prepared ahead), keeper_root.c (the root's writable layer), keeper_retry.c (runs that
 * are begun anew), keeper_warm*.c (interpreters that wait), keeper_demand.c (how many of what is prepared),
 * keeper_deps*.c and deps_store.c (dependencies), keeper_engine.c (the engine broker), keeper_container.c
 * (sandboxes that are containers), keeper_ahead.c and keeper_seed.c (those made ahead), keeper_docker.c (images
 * there), keeper_turn.c (whose turn it is). */
#ifndef CGIBOX_KEEPER_INT_H
#define CGIBOX_KEEPER_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "fcgi/examiner.h"
#include "fcgi/follow.h"
#include "fcgi/keeper_pool.h"
#include "fcgi/keeper_proto.h"
#include "fcgi/run_dir.h"
#include "fcgi/session_dir.h"
#include "fcgi/stats.h"
#include "fcgi/tree.h"
#include "images/store.h"
#include "isolate/buf.h"
#include "isolate/cgroup.h"
#include "isolate/cgroup_box.h"
#include "isolate/conf.h"
#include "isolate/launch_pasta.h"

enum { CALLS_MAX = 4096, PULLS_MAX = 4, IMAGES_MAX = 8, TRASH_JOBS = 2, START_TIMEOUT_MS = 30000 };

struct ahead;
struct box;
struct call;
struct container;
struct engine_link;
struct keeper;
struct session;

/* Something epoll watches; fd -1 = not watched. */
struct source {
	int fd;
	void (*ready)(struct keeper *k, struct source *s);
	struct call *call; /* or */
	struct box *box;
	void *data; /* of ready() alone */
};

enum call_state {
	CALL_IDLE,    /* waits for a message; may hold a session and work in its sandbox */
	CALL_LOCK,    /* waits for the session */
	CALL_PULL,    /* waits for the program `image` */
	CALL_JOB,     /* waits for a tree helper */
	CALL_START,   /* waits for pid 1 */
	CALL_STOP,    /* waits for the end of the sandbox */
	CALL_FACTS,   /* waits for the first facts about the machine */
	CALL_DEPS,    /* waits for another call that installs the same dependencies */
	CALL_INSTALL, /* waits for the installer */
	CALL_LATER,   /* waits for an installation that is not its own */
};

/* How much a session may grow beyond its archives; 0 = no limit. */
struct disk_limits {
	uint64_t bytes, inodes;
};

/* A running sandbox's use of the disk. */
struct disk_watch {
	struct source job; /* a helper that measures */
	bool want;         /* the disk was written to since it began */
	struct disk_limits limit;
	uint64_t unlinked; /* bytes of open files without a name */
	uint64_t begun_ms, rest_until_ms;
};

TAILQ_HEAD(call_queue, call);

enum box_state {
	BOX_STARTING, /* pid 1 builds the root */
	BOX_READY,
	BOX_ENDING,   /* pid 1 ends its runs and records it */
	BOX_STOPPING, /* killed; its processes are being ended by the kernel */
};

/* A run in progress. */
struct box_run {
	LIST_ENTRY(box_run) link;
	char id[RUN_ID_LEN + 1];
	uint32_t number;
	bool forget;             /* its files go with it */
	bool waits;              /* for code, and nobody's run yet: not counted */
	struct run_retry *retry; /* how it is begun anew when it fails; NULL: it is not */
};
LIST_HEAD(box_run_list, box_run);

/* A sandbox, from its launch to the end of its last process. It belongs to a session. */
struct box {
	LIST_ENTRY(box) link;
	struct session *session;
	enum box_state state;
	bool over;          /* to be freed after this round of events */
	bool live;          /* outlives the call that started it */
	uint64_t lost_ms;   /* when pid 1 ended, which nobody had asked it to; 0 = it has not */
	bool out_of_memory; /* that is why */
	uint64_t why_by_ms; /* the Engine is to say why: until then; 0 = nobody waits for that */
	uint64_t keep_ms;   /* live: so long without a run and a call */
	uint64_t idle_since_ms;
	uint64_t ending_by_ms;    /* BOX_ENDING */
	struct box_run_list runs; /* of a live one */
	unsigned nruns;
	uint32_t last_number;
	struct call *starter;        /* BOX_STARTING: who waits for it */
	struct call_queue enders;    /* BOX_STOPPING: who wait for its end, each in CALL_STOP */
	struct source ctl, exit;     /* exit: its pidfd */
	struct source net;           /* pasta's guard */
	struct sandbox sandbox;      /* pid -1: was never launched */
	struct container *container; /* NULL: it is none (keeper_container.h) */
	struct cgroup_box group;     /* of its commands; dir -1 = none */
	struct pasta pasta;          /* pid 0 = none */
	uint64_t memory_bytes;       /* that the session asked for; 0 = as sandbox.conf says */
	uint32_t cpu_percent;        /* the same */
	struct ws_layout layout;     /* of its workspace */
	uint64_t watch_id;           /* at the watchdog; 0 = none */
	struct disk_watch disk;
	struct volume *volumes[VOLUMES_MAX];
	unsigned nvolumes;
};

/* One connection of a worker. */
struct call {
	LIST_ENTRY(call) link;
	TAILQ_ENTRY(call) waiting; /* in session->waiters (CALL_LOCK) or box->enders (CALL_STOP) */
	enum call_state state;
	bool gone;                     /* the worker hung up */
	bool over;                     /* to be freed after this round of events */
	struct source sock, job, exit; /* exit: the pidfd of a puller */
	struct keeper_request rq;      /* the one being served */
	int fd[KEEPER_FDS_MAX];        /* that came with it */
	uint64_t deadline_ms;          /* monotonic; 0 = none */
	uint64_t since_us;             /* when CALL_LOCK or CALL_START began */
	struct session *held;
	struct session *wanted; /* while CALL_LOCK */
	struct session_record record;
	struct ws_layout layout;
	struct box *box;                 /* that it starts, works in, or waits for; NULL = none */
	int client;                      /* our end for the worker until READY */
	char new_id[SESSION_ID_LEN + 1]; /* of a session being made; "" = none */
	char tied[SESSION_ID_LEN + 1];   /* of one that ends with the connection; "" = none */
	struct err failure; /* to be answered once the sandbox is gone; ERR_NONE = none */
	bool pulled;        /* one try a request */
	uint32_t job_op;    /* enum tree_op of the job in progress */
	struct disk_limits disk;
	struct ws_work *work;   /* of KEEPER_WORKSPACE, NULL: none */
	struct deps_work *deps; /* of KEEPER_DEPS, NULL: none */
	struct later *later;    /* of KEEPER_DEPS_LATER while CALL_LATER; NULL: none */
	enum run_follow follow; /* how it is counted in keeper.nfollowed */
	int pull_out;           /* what the puller says */
	int pull_pid;
};

LIST_HEAD(call_list, call);
LIST_HEAD(box_list, box);
LIST_HEAD(session_list, session);
LIST_HEAD(volume_list, volume);
LIST_HEAD(later_list, later);

/* A session that somebody holds or waits for, or that has a sandbox. */
struct session {
	LIST_ENTRY(session) link;
	char id[SESSION_ID_LEN + 1];
	struct call *holder;
	struct box *box; /* NULL = none */
	bool pinned;     /* must not be freed now */
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

/* The program `index`; see keeper_index.c. */
struct index_service {
	struct source listen, exit; /* exit: its pidfd */
	int pid;                    /* 0 = it does not run */
	uint64_t again_ms;          /* when to listen again; 0 = not awaited */
};
struct layer_table;

struct keeper {
	const struct conf *conf;
	struct layer_table *layers;
	struct session_dirs dirs;
	int deps_dir; /* deps_store.c */
	struct store *store;
	struct tree_server *tree;
	struct launcher launcher;
	struct pool *pool; /* of prepared sandboxes; NULL: none */
	struct warm *warm; /* interpreters that wait; NULL: none */
	int epoll, lock;
	struct source listen, lifeline, watcher;
	uint64_t last_watch_id;
	uint64_t disk_step;   /* what the watchdog tells; see keeper_watch.c */
	bool state_in_memory; /* STATE, of which sandboxes show parts, is on a tmpfs */
	unsigned nmeasuring;
	bool on_demand, stop;
	struct call_list calls;
	struct box_list boxes;
	struct session_list sessions;
	struct volume_list volumes; /* that a sandbox has, or that are measured */
	struct later_list laters;   /* keeper_deps_later.c */
	unsigned nlaters;
	unsigned ncalls, nboxes, nfollowed[FOLLOWS];
	uint64_t last_run_us;    /* in the id of a run */
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
	struct index_service index;
	struct stats stats;
	struct ahead *ahead;        /* containers made ahead; NULL: none */
	struct engine_link *engine; /* NULL: sandboxes are our own; keeper_engine.h */
	uint64_t disk_at_ms, disk_room, disk_inodes; /* container_disk_work() */
};

uint64_t keeper_now_ms(void);
int keeper_watch(struct keeper *k, struct source *s, int fd, struct err *e);
void keeper_unwatch(struct keeper *k, struct source *s); /* closes, too */

/* keeper_call.c */
void call_accept(struct keeper *k, int fd);
void call_locked(struct keeper *k, struct call *c); /* the lock came */
void call_fail(struct keeper *k, struct call *c, const struct err *e);
void call_ready(struct keeper *k, struct call *c);   /* pid 1 is ready */
void call_stopped(struct keeper *k, struct call *c); /* the sandbox is gone */
void call_pulled(struct keeper *k, struct call *c, const struct err *e);
void call_answer_image(struct keeper *k, struct call *c, int out, int code);
int call_deadline(struct keeper *k); /* serves those that passed; ms to the next */

/* keeper_create.c */
void create_begin(struct keeper *k, struct call *c);
void create_done(
	struct keeper *k, struct call *c, const struct tree_result *r); /* its helper ended */

/* A tied session becomes one like others. */
void create_keep(struct keeper *k, struct call *c);

/* Whether a session that asks for as much may be made: ERR_LIMIT, ERR_BUSY. */
int create_allowed(const struct keeper *k, const struct call *c, struct err *e);
/* A new session's directory; job_done() follows. */
int create_session(struct keeper *k, struct call *c, const struct image *im, struct err *e);

/* keeper_deps.c */
bool deps_request_ok(const struct keeper_request *rq);
void deps_begin(struct keeper *k, struct call *c);
void deps_ready(struct keeper *k, struct call *c); /* pid 1 is */
void deps_job_done(struct keeper *k, struct call *c, const struct tree_result *r);
void deps_ended(struct keeper *k, struct call *c); /* the installer, and its sandbox */
void deps_clear(struct keeper *k, struct call *c);
const char *deps_place(const struct call *c); /* of an installer's workspace; NULL: it is none */
/* keeper_deps_later.c */
void deps_later(struct keeper *k, struct call *c);
void deps_later_deadline(struct call *c); /* it has waited for as long as it wanted */
/* keeper_deps_attach.c; the session is held */
void deps_attach(struct keeper *k, struct call *c);

/* keeper_check.c: whether a message may be served, with nfds descriptors in c->fd */
bool check_request(const struct keeper *k, const struct call *c, unsigned nfds);
/* Whether the message changes the session, or starts its sandbox. A run in a live one does neither. */
bool check_wants_lock(struct keeper *k, const struct call *c);

/* keeper_lock.c */
struct session *lock_find(struct keeper *k, const char *id); /* NULL: neither held nor wanted */
int lock_take(
	struct keeper *k, struct call *c, const char *id, struct err *e); /* 1 held, 0 waits */
void lock_give_up(struct keeper *k, struct call *c);
void lock_release(struct keeper *k, struct call *c);
void lock_forget(struct session *s); /* frees it, unless it is held, wanted, or has a sandbox */

/* keeper_receipts.c */
struct receipt;
void receipts_take(struct keeper *k, struct call *c);
/* Rows of KEEPER_RUNS: of list[*at..n) those before the run `until` (NULL: all), and *at moves behind them. */
void receipts_rows(
	const struct receipt *list, size_t *at, size_t n, const char *until, struct buf *out);

/* keeper_turn.c */
void turn_take(struct keeper *k, struct call *c);

/* keeper_root.c: the root's writable layer: on the disk, or a tmpfs (session_root). */
bool root_in_memory(const struct keeper *k);
int root_check(const struct keeper *k, struct err *e); /* ERR_CONF where a tmpfs cannot serve */
/* Makes m, that plan_root() made with lowers, the plan of a sandbox's root. */
void root_settle(const struct keeper *k, const char **lowers, struct launch_mount *m);

/* keeper_start.c: launches b for the session that c holds; c->client becomes pid 1's first client */
int start_launch(struct keeper *k, struct box *b, struct call *c, int client, struct err *e);
int check_age(struct keeper *k, const struct call *c, struct err *e); /* ERR_NOTFOUND: at its end */
struct launch start_kind(const struct conf *conf); /* what all sandboxes have in common */
int make_environment(struct keeper *k, const struct image *im, const struct call *c,
	struct buf *out, struct err *e);

/* keeper_box.c */
int start_sandbox(struct keeper *k, struct call *c, struct err *e); /* call_ready() follows */
bool stop_sandbox(struct keeper *k, struct call *c); /* true: call_stopped() follows later */
void box_fail(struct keeper *k, struct box *b, const struct err *e); /* it does not start */
bool box_usable(const struct box *b); /* a live one that takes commands; NULL is none */
/* The call joins in: c->client becomes its socket. */
int box_join(struct keeper *k, struct box *b, struct call *c, struct err *e);
int box_attach(struct box *b, struct err *e); /* a new socket of pid 1's */
void box_kill(struct keeper *k, struct box *b);
/* Of a container: pid 1 has connected; ended() follows its end, false: it cannot be watched; it ended. */
int box_connected(struct keeper *k, struct box *b, struct err *e);
bool box_watch_exit(struct keeper *k, struct box *b);
void box_ended(struct keeper *k, struct box *b);
bool box_has_ended(const struct box *b); /* pid 1 has, whether or not anything was done about it */
/* Ends it, in order if there are runs; c comes back by call_stopped(). False: it has ended. */
bool box_finish(struct keeper *k, struct box *b, struct call *c);
bool box_await_end(struct box *b, struct call *c); /* the same for one that is being ended */
void box_idle(struct keeper *k, struct box *b);    /* a call or a run of it has ended */
int box_deadline(struct keeper *k);                /* stops those that idle; ms to the next */
void box_reap(struct keeper *k); /* frees those that ended in this round of events */

/* keeper_group.c */
int group_enter(struct keeper *k, struct err *e);  /* before the keeper's own namespaces */
int group_settle(struct keeper *k, struct err *e); /* in them */
bool group_holds(const struct keeper *k, unsigned controller); /* CGROUP_* */
int group_make(struct keeper *k, struct box *b, struct err *e);
void group_drop(struct keeper *k, struct box *b);
int group_retry(struct keeper *k); /* ms to the next try */
/* keeper_net.c */
int net_start(struct keeper *k, struct box *b, const int ns[SANDBOX_NS], struct err *e);
void net_stop(struct keeper *k, struct box *b); /* does not wait for the end of it */

/* keeper_trash.c */
void trash_work(struct keeper *k);
void trash_expire(struct keeper *k);

/* keeper_index.c */
int index_listen(struct keeper *k, struct err *e);
int index_retry(struct keeper *k); /* ms to when it wants to be called */
/* keeper_stats.c */
int keeper_stats_open(struct keeper *k, struct err *e); /* after everything that forks */
void keeper_stats_refresh(struct keeper *k);            /* the gauges */

/* keeper_system.c */
int facts_open(struct keeper *k, struct err *e); /* before the keeper enters its namespaces */
int facts_watch(struct keeper *k, struct err *e);
void facts_ask(struct keeper *k, struct call *c);          /* answers, or waits in CALL_FACTS */
void call_answer_system(struct keeper *k, struct call *c); /* with the facts, if there are any */

/* keeper_watch.c */
int watch_start(struct keeper *k, struct err *e);
int watch_add(struct keeper *k, struct box *b, struct err *e); /* it is ready */
void watch_remove(struct keeper *k, struct box *b);            /* it is being ended */
int watch_disk_work(struct keeper *k); /* starts measurements; ms to the next, -1 = none */
int watch_disk_room(const struct keeper *k, struct err *e); /* ERR_BUSY under the reserve */
/* What a session that is to be opened has written: 0 it may, and its limits are set. */
int watch_disk_admit(
	struct keeper *k, struct call *c, uint64_t bytes, uint64_t inodes, struct err *e);
void watch_disk_limits(const struct keeper *k, struct call *c);
double watch_cpus(const struct keeper *k, const struct box *b); /* 0 = no limit */

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
 * Whether nothing uses the session's files but this call, which holds its lock or will, and a live
 * sandbox without a run, which workspace_start() ends. stop: what uses them is told to end, and the
 * call waits for the lock. ERR_BUSY with EWOULDBLOCK says who does.
 */
int workspace_quiet(struct keeper *k, const struct call *c, struct err *e);
bool workspace_request_ok(const struct keeper *k, const struct keeper_request *rq);
unsigned workspace_request_fds(const struct keeper_request *rq); /* that must come with it */
void workspace_start(struct keeper *k, struct call *c);          /* it has the lock */
/* For one more archive: true when that takes time; the message is served anew then. */
bool workspace_make_room(struct keeper *k, struct call *c);
void workspace_job(const struct call *c, struct tree_job *j); /* fills in what is its own */
void workspace_job_done(struct keeper *k, struct call *c, const struct tree_result *r);
void workspace_clear(struct call *c);

/* keeper_thaw.c */
/*
 * Where an Engine makes sandboxes, c's session has no layers: true when that takes time (or failed); the message is
 * served anew then. c->layout is loaded, nothing runs in it.
 */
bool thaw_begin(struct keeper *k, struct call *c);
void thaw_done(struct keeper *k, struct call *c, const struct tree_result *t);

/* keeper_watch.c */
void watch_end_commands(struct box *b); /* as "killed" */

/* A volume is over its limit, and b has it: ends its commands. */
void watch_end_full(struct keeper *k, struct box *b, uint64_t have, uint64_t limit);

/*
 * keeper_volume.c: directories that outlive sandboxes, and that several may have at the same time.
 * STATE/volumes/NAME/ holds fs/, what is mounted, and limit, whose size is how many KiB it may hold.
 */
bool volume_request_ok(const struct keeper_request *rq);
void volume_serve(struct keeper *k, struct call *c);
/* Its sandbox is about to have them: they are there, and not twice over their limit. */
int volumes_hold(struct keeper *k, struct box *b, const struct call *c, struct err *e);
void volumes_let_go(struct keeper *k, struct box *b);
void volumes_drop_own(struct keeper *k, const char *id); /* of a session that was discarded */
void volumes_sweep(struct keeper *k);   /* at the start: what sessions left that are gone */
void volumes_written(struct keeper *k); /* the disk was written to */
void volumes_measure(struct keeper *k, int *wait); /* *wait: ms until one may be, -1 = none */
/* keeper_volume_files.c: file verbs in a volume, without a session */
bool volume_files_ok(const struct keeper_request *rq);
bool volume_files_wanted(const struct keeper_request *rq);
void volume_files(struct keeper *k, struct call *c);
void volume_job_done(struct keeper *k, struct call *c, const struct tree_result *r);
uint64_t volume_limit(const struct keeper *k, const char *name); /* 0: there is no such volume */
/* Starts a helper that weighs it. Returns its descriptor. */
int volume_weigh(struct keeper *k, const char *name, uint64_t limit, struct err *e);

/* keeper_job.c */
/* Keeps the layout that a helper leaves as that of the session which c holds. */
int job_take_layout(struct keeper *k, struct call *c, const struct ws_layout *from, struct err *e);
int job_open(struct keeper *k, struct call *c, enum tree_op op, int dir, int data, struct err *e);
/* A helper that measures what a session wrote beyond its archives. */
int job_measure(struct keeper *k, const struct ws_layout *lay, const struct disk_limits *limit,
	int dir, struct err *e);

/* The same, watched: keeper_call.c's job_done() follows. */
int job_begin(struct keeper *k, struct call *c, enum tree_op op, int dir, int data, struct err *e);
/* Watches a job that was started otherwise; fd becomes the call's. On failure the call has failed. */
void job_watch(struct keeper *k, struct call *c, enum tree_op op, int fd);

/* keeper_files.c */
bool files_op(const struct keeper_request *rq);      /* whether it is one of this file's */
unsigned files_fds(const struct keeper_request *rq); /* how many it comes with */
bool files_request_ok(const struct keeper_request *rq);
void files_begin(struct keeper *k, struct call *c); /* the session is held */
void files_job_done(struct keeper *k, struct call *c, const struct tree_result *r);
bool files_grow(uint32_t verb);
bool files_move_contents(uint32_t verb);
void files_limits_of(const struct conf *conf, const struct call *c, struct files_limits *l);
/* A job has ended, whatever came of it: what a file verb may have added counts. */
void files_note_growth(struct keeper *k, const struct call *c, const struct files_result *r);

/* keeper_pull.c */
int pull_start(struct keeper *k, struct call *c, struct err *e);
/*
 * Starts the program `image` with these arguments, at most 10, and its output to out and err.
 * Returns a pidfd.
 */
int pull_spawn(struct keeper *k, char *const *args, int out, int err, int *pid, struct err *e);

/* keeper_live.c: the live sandbox of the session that c holds stays as it is, unless the files are
 * replaced under it. True: c comes back, or has its answer. */
bool live_open(struct keeper *k, struct call *c);
void live_stop(struct keeper *k, struct call *c);

/* keeper_run.c */
/* Time first, so that names sort as runs began; never twice the same time. */
int run_make_id(struct keeper *k, char id[RUN_ID_LEN + 1], struct err *e);
void run_start(struct keeper *k, struct call *c);              /* in the live box of the session */
struct box_run *run_find(const struct box *b, const char *id); /* NULL: not in progress */
bool run_waits(const struct box *b, uint32_t number);          /* it has not begun to count */
void run_open(struct keeper *k, struct call *c);
void run_forget(struct keeper *k, struct call *c);
/* pid 1 says so. r: borrowed; NULL: it could not be started */
void run_done(struct keeper *k, struct box *b, uint32_t number, const struct result *r);
void run_box_gone(struct keeper *k, struct box *b); /* before its session lets go of it */
/* What a run is made of: the message that asked for it, and what came with that. Borrowed. */
struct run_order {
	const struct keeper_request *rq;
	const int *fd;
};
/* Begins one in b, which takes commands; *sock becomes a socket of pid 1's. Returns its spool, to read. */
int run_begin(struct keeper *k, const struct run_order *o, struct box *b, struct box_run *r,
	int *sock, struct err *e);
void run_add(struct box *b, struct box_run *r); /* it is in progress */
/* Whether c, which will be followed for long, is one too many; else it counts from now on. */
bool follows_full(struct keeper *k, struct call *c, struct err *e);

/* keeper_connect.c */
void connect_begin(struct keeper *k, struct call *c);

/*
 * keeper_retry.c: a run that fails is begun anew, as often as was asked for, in the same sandbox and by
 * the same message: a new run with the same description.
 */
int retry_keep(struct box_run *r, const struct call *c, struct err *e);
void retry_begin(struct keeper *k, struct box *b, struct box_run *r, const struct result *res);
void retry_drop(struct box_run *r);

/* keeper_list.c */
void list_runs(struct keeper *k, struct call *c);
void list_sessions(struct keeper *k, struct call *c);
void list_status(struct keeper *k, struct call *c);
void list_env(struct keeper *k, struct call *c);

/* keeper_call.c */
void call_answer(struct call *c, struct keeper_reply *rp, const int *fds, unsigned nfds);
/* The last answer of a call that holds a session, and lets go of it. fd: borrowed, -1 none. */
void call_done(struct keeper *k, struct call *c, struct keeper_reply *rp, int fd);
void call_again(struct keeper *k, struct call *c); /* serves the message from its beginning */
/* Starts a tree helper for c, whose end is told; or fails the call. */
void job_start(struct keeper *k, struct call *c, enum tree_op op, int dir, int data);

/* keeper_image.c */
int image_start(struct keeper *k, struct call *c, struct err *e); /* call_answer_image() follows */

#endif

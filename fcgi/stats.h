/*
 * What the service counts: STATE/stats, a file that each of its processes maps. Counters are added
 * to by atomic operations, so they are exact whoever counts at the same time and whoever is killed,
 * outlive main, keeper and workers, and are the same ones for copies that a web server started.
 *
 * A seat is a place in it for one living process: what it has just now (workers, sandboxes), and of
 * a worker which request it is at, for whoever finds it dead. A seat is taken by a lock of fcntl(2)
 * on its byte, which ends with the process.
 *
 * Readers believe nothing but numbers: a worker that is no longer ours could write here.
 */
#ifndef CGIBOX_STATS_H
#define CGIBOX_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fcgi/backend.h"
#include "fcgi/http.h"
#include "isolate/err.h"
#include "isolate/result.h"

#define STATS_FILE "stats"

enum {
	STATS_ROUTES_MAX = 256,
	STATS_STATUSES = 32,
	STATS_BOUNDS = 18,
	STATS_SEATS = 1024,
	STATS_GAUGES = 32,
};

/* Things that only grow. The order is that of the file: add at the end. */
enum stats_count {
	COUNT_BYTES_IN,       /* of bodies */
	COUNT_BYTES_OUT,      /* of bodies */
	COUNT_CUT,            /* answers that did not reach their client whole */
	COUNT_LOG_LOST,       /* lines of the access log that could not be written */
	COUNT_RUNS_FAILED,    /* commands that could not be started or followed */
	COUNT_WORKER_DEATHS,  /* not asked to end */
	COUNT_KEEPER_DEATHS,  /* likewise */
	COUNT_SANDBOX_FAILED, /* sandboxes that did not become ready */
	COUNT_PULLS,          /* begun by a session or a client */
	COUNT_PULLS_FAILED,
	COUNT_KILL_MEMORY, /* by the watchdog, for the reason */
	COUNT_KILL_SOCKETS,
	COUNT_KILL_RESERVE,
	COUNT_KILL_BLIND,
	COUNT_KILL_DISK,
	COUNT_OUTPUT_BYTES, /* of commands, kept or not */
	COUNT_USER_US,      /* processor time of commands */
	COUNT_SYSTEM_US,
	COUNT_MAX,
};

enum stats_hist_id {
	HIST_QUEUE,   /* from a whole first record to a worker that has it */
	HIST_LOCK,    /* waits for a busy session */
	HIST_SANDBOX, /* from the order to start a sandbox until it is ready */
	HIST_RUN,     /* wall time of commands */
	HIST_MAX,
};

/* Upper bounds in microseconds, then no bound. */
struct stats_hist {
	_Atomic uint64_t in[STATS_BOUNDS + 1];
	_Atomic uint64_t sum_us;
};
extern const uint64_t stats_bound_us[STATS_BOUNDS];

/* Statuses that are counted by name; the last is for all others and 0. */
extern const int stats_status[STATS_STATUSES];

struct stats_route {
	_Atomic uint64_t status[STATS_STATUSES];
	struct stats_hist wall;
};

enum stats_kind { SEAT_MAIN = 1, SEAT_WORKER, SEAT_KEEPER };

/* The gauges of a seat, by its kind. */
enum { MAIN_SILENT, MAIN_QUEUED, MAIN_WORKERS_MAX };
enum { WORKER_BUSY };
enum {
	KEEPER_SESSIONS,
	KEEPER_SANDBOXES,
	KEEPER_SANDBOXES_MAX,
	KEEPER_CALLS,
	KEEPER_PULLS,
	KEEPER_DISK_BYTES,
	KEEPER_DISK_FREE_BYTES,
	KEEPER_DISK_INODES,
	KEEPER_DISK_FREE_INODES,
	KEEPER_MEMORY_BYTES,         /* of our own processes, what they do not share */
	KEEPER_MACHINE_BYTES,        /* of memory that the machine has */
	KEEPER_MACHINE_FREE_BYTES,   /* of it, available */
	KEEPER_SANDBOX_MEMORY_BYTES, /* of all commands, from their control groups */
	KEEPER_STARTED_S,            /* since the epoch */
	KEEPER_PREPARED,             /* sandboxes that wait for a start; then, since it began: */
	KEEPER_PREPARED_MADE,
	KEEPER_PREPARED_CLAIMED,
	KEEPER_PREPARED_MISSED, /* starts that found none */
	KEEPER_PREPARED_FAILED,
	KEEPER_PREPARED_TRIMMED,
	KEEPER_WARM, /* interpreters that wait, and what they hold; then, since it began: */
	KEEPER_WARM_BYTES,
	KEEPER_WARM_MADE,
	KEEPER_WARM_CLAIMED,
	KEEPER_WARM_MISSED, /* code that found none */
	KEEPER_WARM_FAILED,
	KEEPER_WARM_TRIMMED,
	KEEPER_WARM_COLD, /* code that could be given to none, by enum code_cold */
	KEEPER_WARM_COLD_LAST = KEEPER_WARM_COLD + COLD_REASONS - 1,
	KEEPER_GAUGES,
};

/* What a worker is at: read by main, or whoever comes after it, once the worker is dead. */
struct stats_flight {
	char id[REQUEST_ID_MAX + 1];
	char session[SESSION_ID_LEN + 1];
	uint32_t method, route, status;
	uint32_t running; /* a command runs */
	uint64_t start_us;
};

struct stats_seat {
	_Atomic uint32_t kind;
	_Atomic int32_t pid; /* 0: nobody had it yet, or its last owner was seen to */
	_Atomic uint64_t gauge[STATS_GAUGES];
	struct stats_flight flight; /* id "": none */
};

struct stats_page {
	uint64_t magic, layout;
	_Atomic uint64_t count[COUNT_MAX];
	_Atomic uint64_t verdict[VERDICT_MAX];
	struct stats_hist hist[HIST_MAX];
	struct stats_route route[STATS_ROUTES_MAX];
	struct stats_seat seat[STATS_SEATS];
};

struct stats {
	struct stats_page *page; /* NULL: nothing is counted */
	int fd;
	struct stats_seat *seat; /* NULL: none */
};

#define STATS_NONE ((struct stats){.fd = -1})

/*
 * Maps STATE/stats, which is made when it is not there or was made by a program that counts other
 * things. Not inherited by children. Each process for itself; a worker before it locks itself.
 */
int stats_open(struct stats *s, const char *state_dir, struct err *e);

/* Takes a free seat; with none left the process has no seat, which is no error. */
void stats_sit(struct stats *s, enum stats_kind kind);

void stats_close(struct stats *s);

/* All of these do nothing where nothing is counted. s may be NULL. */
void stats_add(struct stats *s, enum stats_count what, uint64_t n);
void stats_time(struct stats *s, enum stats_hist_id what, uint64_t us);
void stats_run(struct stats *s, const struct result *r); /* a command's verdict */
void stats_request(struct stats *s, unsigned route, int status, uint64_t us);
void stats_gauge(struct stats *s, unsigned gauge, uint64_t value);

/* Whether the process that took this seat lives. From any other process than that. */
bool stats_seated(const struct stats *s, const struct stats_seat *seat);

/* Main: copies what the dead worker pid was at and frees the seat; false: it was at nothing. */
bool stats_bury(struct stats *s, pid_t pid, struct stats_flight *out);

/* Microseconds, monotonic: the clock of all times here. */
uint64_t stats_now_us(void);

#endif

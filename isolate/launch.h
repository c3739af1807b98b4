/*
 * Starting sandboxes, host side. The caller (keeper, `cgibox run`) describes one with struct
 * launch; sandbox_start() clones it with CLONE_VM|CLONE_VFORK, so its cost does not depend on
 * the caller's size, and pid 1 (init.h) does the rest on its own time.
 */
#ifndef CGIBOX_LAUNCH_H
#define CGIBOX_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/cgroup_box.h"
#include "isolate/err.h"
#include "isolate/filter.h"
#include "isolate/netblock.h"
#include "isolate/plan.h"
#include "isolate/proto.h"

/* One mount; fields as in struct plan_mount, strings borrowed. */
struct launch_mount {
	enum plan_kind kind;
	uint32_t flags; /* enum plan_flags */
	const char *dst, *src;
	const char *const *lowers; /* top first */
	size_t nlowers;
	const char *upper, *work;
	uint32_t mode;
	uint64_t bytes, inodes;
};

struct launch {
	uint32_t uid, gid; /* inside */
	const char *hostname, *home;
	const char *staging; /* an existing directory of ours; the root is mounted over it inside */
	bool host_network;   /* share the caller's network namespace, and its resolver */
	/* Not NULL: a network by way of pasta (launch_pasta.h), without these; borrowed */
	const struct netblock *pasta;
	bool root_emulation; /* chown, setuid and the like succeed without effect; filter.h */
	struct launch_mount root;
	const struct launch_mount *mounts;
	size_t nmounts;
	uint32_t processes_max, files_open_max;
	uint64_t file_max_bytes, memory_max_bytes, address_space_max_bytes; /* 0 = none */
	uint64_t cpu_time_max_s;                                            /* 0 = none */
	uint64_t shm_bytes, shm_inodes;
	double cpus;   /* run on as many processors, rounded up; 0 = on all of the caller's */
	int client_fd; /* -1, or a SEQPACKET socket attached from the start; borrowed */
	/* The control group of the commands, NULL: none; borrowed. pid 1 stays in the caller's. */
	const struct cgroup_box *cgroup;
	/* The caller's cgroup namespace shows that group: the sandbox shares the namespace, and
	 * commands are born in the group. Else each moves there, which costs milliseconds. */
	bool cgroup_shared;
	bool parked; /* set by sandbox_park() */
	/* An Engine makes the container, and for sandbox_adopt(): of all these then only the limits of one
	 * process, root_emulation, processes_max and client_fd count */
	bool container;
	/* Of a container: commands that are to begin in or below /repo do so here, where it is mounted, too; an
	 * image has no link that says so. NULL: at /repo */
	const char *workspace;
};

/* What a process that starts sandboxes prepares once. */
struct launcher {
	int init_fd;                       /* sealed memfd with the static pid 1 */
	struct filter filter, root_filter; /* root_filter: with root_emulation */
};

enum { SANDBOX_WATCH_FDS = 4 };

struct sandbox {
	pid_t pid;
	int pidfd;
	int ctl;                         /* SEQPACKET to pid 1; closing it ends the sandbox */
	int watch_fd[SANDBOX_WATCH_FDS]; /* of its namespaces, for watch_open(); -1 until READY */
};

/* A struct sandbox that is none. */
#define SANDBOX_NONE                                                                               \
	((struct sandbox){.pid = -1, .pidfd = -1, .ctl = -1, .watch_fd = {-1, -1, -1, -1}})

int launcher_open(struct launcher *l, struct err *e);
void launcher_close(struct launcher *l);

/*
 * Starts pid 1. It is not ready yet: one struct proto_reply (READY or FAILED) arrives on
 * out->ctl. The caller must be single-threaded and must reap out->pid.
 */
int sandbox_start(
	const struct launcher *l, const struct launch *what, struct sandbox *out, struct err *e);

/*
 * Starts a pid 1 that makes what the same kind of sandboxes has in common and then waits: SANDBOX_PARKED,
 * or its error, arrives on out->ctl. Of what count uid, gid, processes_max, shm_*, staging and
 * cgroup_shared (true: commands will be in a group). A parked sandbox holds no more than a cold one
 * would have made, and is good for one claim. As sandbox_start() else.
 */
int sandbox_park(
	const struct launcher *l, const struct launch *what, struct sandbox *out, struct err *e);

/*
 * Makes the peer of conn, pid 1 of a container that has just connected, into what, whose container is set. conn
 * becomes out->ctl; READY follows there, as after sandbox_start(). out->pid stays -1: it is no child of
 * ours; out->pidfd is readable when no process of the container is left. -1: out is none, conn closed;
 * ERR_SETUP, also when the peer's number is not known here (a keeper in a pid namespace beside the Engine's).
 */
int sandbox_adopt(const struct launcher *l, const struct launch *what, int conn,
	struct sandbox *out, struct err *e);

/* Whether a sandbox parked with `parked` can become what. */
bool sandbox_fits(const struct launch *parked, const struct launch *what);

/*
 * Makes a parked sandbox into what; from now on as after sandbox_start(). -1: it cannot be told,
 * and has to be stopped.
 */
int sandbox_claim(
	const struct launcher *l, const struct launch *what, struct sandbox *s, struct err *e);

enum {
	SANDBOX_READY = 1,
	SANDBOX_NETWORK,
	SANDBOX_PARKED,
	SANDBOX_NS_USER = 0,
	SANDBOX_NS_NET,
	SANDBOX_NS
};

/*
 * Waits up to timeout_ms for pid 1's next message. SANDBOX_READY, which brings watch_fd; SANDBOX_PARKED; or, with what->pasta and once,
 * SANDBOX_NETWORK: ns gets two descriptors that the caller owns, the user namespace and the
 * network namespace that pasta is to serve, and pid 1 waits for pasta_go(). -1 with pid 1's own
 * error, or that it died or was slow.
 */
int sandbox_next(struct sandbox *s, int timeout_ms, int ns[SANDBOX_NS], struct err *e);

/* Waits up to timeout_ms for READY. -1 with pid 1's own error, or that it died or was slow. */
int sandbox_wait_ready(struct sandbox *s, int timeout_ms, struct err *e);

/* Kills, reaps and closes. Returns when every process of it is gone. */
void sandbox_stop(struct sandbox *s);

#endif

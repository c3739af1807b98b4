/*
 * The keeper and the engine broker (libexec/cgibox/engine), the only process that holds the
 * socket of a Docker-compatible Engine: whoever reaches that socket is root on the machine. One
 * broker a service; a SOCK_SEQPACKET pair that the keeper makes; fixed-size messages, range-checked
 * on both sides; many questions at a time, each answered once under its number. What a container
 * may do is decided in the broker, from constants, sandbox.conf and the numbers below: no
 * question can ask for a privilege, a device, a capability or a path outside of STATE.
 *
 * The end of the connection ends the broker; containers stay, ENGINE_SWEEP removes them. A broker that
 * dies is started again behind the same connection, and ENGINE_LOST says so.
 */
#ifndef CGIBOX_ENGINE_H
#define CGIBOX_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "fcgi/backend.h"
#include "isolate/conf.h"
#include "isolate/err.h"

enum {
	ENGINE_MAGIC = 0x63676531,
	ENGINE_ASKED_MAX = 256,  /* questions in progress, over it ERR_BUSY */
	ENGINE_BOX_MAX = 40,     /* bytes of a box id: [a-z0-9-], our own (a UUID, say) */
	ENGINE_MOUNTS_MAX = 24,  /* of a session: its own, and VOLUMES_MAX of volume_name.h */
	ENGINE_SOURCE_MAX = 255, /* bytes, relative to STATE */
	ENGINE_TARGET_MAX = 127, /* bytes, absolute path inside */
	ENGINE_PATHS_MAX = 4096,
	ENGINE_TMPFS_MAX_BYTES = INT32_MAX,
	ENGINE_SWEEP_MAX = 65536, /* box ids that are kept */
};

/*
 * Where the broker binds, read-only, our static pid 1 (libexec/cgibox/init): the container's
 * entrypoint, with ENGINE_INIT_MODE as its only argument, as the user and group of the service, in
 * "/". Its environment is what the image says.
 */
#define ENGINE_INIT      "/.cgibox/init"
#define ENGINE_INIT_MODE "container"
/* The same with ENGINE_STREAM: its standard input and output are the answer's descriptor. */
#define ENGINE_STREAM_MODE "stream"

/* Where the private directory of a box, with its socket, is to be bound: a target like others. */
#define ENGINE_SOCKET_DIR "/.cgibox/run"

enum engine_op {
	ENGINE_INFO = 1, /* answer: info; ERR_* as below when the Engine does not serve */
	/*
	 * box, session, image, limits, mounts, flags: creates and, without ENGINE_CREATE_ONLY, starts a
	 * container. Answer: container. It has no network, or with ENGINE_NETWORK the one of
	 * sandbox.conf (engine_network). What fails half way is removed again.
	 */
	ENGINE_MAKE,
	ENGINE_START,  /* box: one that was created only, or has ended. Answer: container */
	ENGINE_KILL,   /* box: SIGKILL to all of it. 0 also when it has ended or is not there */
	ENGINE_REMOVE, /* box: the same, and removes it with its root. 0 also when it is not there */
	ENGINE_STATS,  /* box. Answer: memory_bytes, processes, cpu_us */
	/* fd: box ids that are kept, a line each (unlinked file or memfd); all other containers
	 * of this STATE are removed. Answer: count, and with stuck a descriptor of the box ids
	 * whose removal the Engine refuses, a line each. A broker does not do this by itself */
	ENGINE_SWEEP,
	/*
	 * Images. LIST, INSPECT and REMOVE answer with a descriptor of the JSON (bytes of it) that the
	 * program `image` writes for the same verb. RESOLVE answers image, user, workdir and a
	 * descriptor of its environment: NAME=value, each with its NUL. ERR_NOTFOUND: not there.
	 */
	ENGINE_IMAGE_LIST,
	ENGINE_IMAGE_INSPECT,
	ENGINE_IMAGE_REMOVE,
	ENGINE_IMAGE_RESOLVE,
	/*
	 * image; fd: gets the events of `cgibox image --json pull` while it goes on (a pipe: the broker
	 * never waits for its reader, who gets the newest when there is room; none: no events).
	 * Answered when it is over, with image (the id) or the error, which is the last event, too.
	 */
	ENGINE_IMAGE_PULL,
	/* fd: a root file system, tar; image: its name. A pipe, or a file read from 0. Answer: image */
	ENGINE_IMAGE_IMPORT,
	ENGINE_ASK_MAX, /* questions are below; what follows comes unasked, with number 0 */

	/* box, container, exit_code, oom_killed: a container of ours has ended. May come before the
	 * answer to what started it, and more than once */
	ENGINE_ENDED = 64,
	/* The Engine does not answer any more (err), or does again (ERR_NONE): what ended in between is
	 * told then, and containers that are gone are not */
	ENGINE_STATE,
	/* The broker died and is there again: what was asked before and not answered never will be.
	 * It may have been done all the same, even after a sweep that comes soon: sweep again */
	ENGINE_LOST,
	/* box, container: the kernel has ended a process of it for want of memory; the container may
	 * live on. Before ENGINE_ENDED or shortly after it: oom_killed there is what is known by then */
	ENGINE_OOM,
};

enum {
	ENGINE_CREATE_ONLY = 1 << 0,
	ENGINE_NETWORK = 1 << 1,
	ENGINE_STREAM = 1 << 2, /* nothing of a socket's can be given to it; not with CREATE_ONLY */
	ENGINE_FLAGS = ENGINE_CREATE_ONLY | ENGINE_NETWORK | ENGINE_STREAM,
};

enum engine_mount_kind { ENGINE_BIND = 1, ENGINE_TMPFS };

/*
 * Mounts are checked, and refused with ERR_BUG: a source is "sessions/.." or "engine/..", components
 * [A-Za-z0-9._-] but "." and "..", and names without a symbolic link on the way what is there
 * now; a target is absolute, [A-Za-z0-9._/-], not "/", not below /proc, /sys, /dev or ENGINE_INIT's
 * directory but ENGINE_SOCKET_DIR.
 */
struct engine_mount {
	uint32_t kind, read_only;
	char source[ENGINE_SOURCE_MAX + 1]; /* BIND: relative to STATE */
	char target[ENGINE_TARGET_MAX + 1];
	uint64_t bytes, inodes; /* TMPFS; inodes 0: the kernel's own choice */
	uint32_t mode;          /* TMPFS: of its root, at most 01777; owned by the service's uid */
};

struct engine_question {
	uint32_t magic, op;
	uint64_t number; /* not 0; the asker's */
	char box[ENGINE_BOX_MAX + 1];
	char session[SESSION_ID_LEN + 1]; /* a label; may be "" */
	char image[IMAGE_REF_MAX + 1]; /* a reference, or "sha256:" and 64 digits: the image's id */
	uint32_t flags;
	/* limits, each 0 = none; of MAKE */
	uint64_t memory_bytes, shm_bytes;
	uint32_t cpu_percent; /* 100 = one processor */
	uint32_t processes;   /* pid 1 counts */
	uint64_t files_open;  /* RLIMIT_NOFILE */
	uint32_t nmounts;
	struct engine_mount mounts[ENGINE_MOUNTS_MAX];
};

/* What an Engine cannot hold though it was asked to: of ENGINE_INFO. */
enum {
	ENGINE_LACKS_MEMORY = 1 << 0,
	ENGINE_LACKS_SWAP = 1 << 1, /* swap counts beside memory */
	ENGINE_LACKS_CPUS = 1 << 2,
	ENGINE_LACKS_PIDS = 1 << 3,
	ENGINE_LACKS_SECCOMP = 1 << 4, /* an error for ENGINE_MAKE */
};

struct engine_info {
	char version[48];  /* of the Engine */
	char api[12];      /* that is spoken */
	char name[24];     /* "docker" */
	char runtimes[96]; /* by blanks */
	char runtime[24];  /* that containers are made with */
	char storage[24], security[160], cgroup_driver[16];
	uint32_t cgroup_version, lacks; /* ENGINE_LACKS_* */
	uint32_t rootless;
};

struct engine_answer {
	uint32_t magic, op; /* of the question, or ENGINE_ENDED, ENGINE_STATE */
	uint64_t number;
	/*
	 * ERR_NONE on success. ERR_BUSY: the Engine does not run, restarts or is too slow (503, try
	 * again); ERR_NOTFOUND: no such image, or of ENGINE_START no such container; ERR_LIMIT: its disk
	 * is full (ENOSPC); ERR_CONF: no permission, too old, an unknown runtime or network;
	 * ERR_SETUP: any other refusal, in its own words; ERR_BUG: the question is malformed.
	 */
	struct err err;
	char box[ENGINE_BOX_MAX + 1];
	char container[65];           /* 64 hexadecimal digits */
	char image[72];               /* "sha256:" and 64 digits */
	char user[128], workdir[512]; /* of the image's config; "" = none */
	int32_t exit_code;            /* 0..255; of a signal 128 + its number */
	uint32_t oom_killed;
	uint32_t count, processes, stuck;
	uint64_t bytes, memory_bytes, cpu_us;
	struct engine_info info;
};

/* Whether containers are made with ENGINE_STREAM: engine_runtime is gVisor's, "runsc" or a name with that in
 * it. gVisor passes neither a socket of this machine's nor descriptors. Pure. */
static inline bool engine_streamed(const struct conf *c)
{
	return strstr(c->engine_runtime, "runsc") != NULL;
}

/* Keeper's side; engine.c. */

/*
 * Starts the broker and returns our end of the pair, non-blocking and close-on-exec; *pid is the
 * caller's to wait for. It need not reach the Engine for that. To be called before the keeper enters
 * its namespaces, where everybody is root: containers run as who the broker is. ERR_SETUP. Keeper.
 */
int engine_spawn(const struct conf *c, pid_t *pid, struct err *e);

/* Sends q (magic is filled in) with descriptor fd, borrowed, -1 = none. ERR_BUSY: the broker is gone,
 * or has not read what it was sent. */
int engine_ask(int sock, struct engine_question *q, int fd, struct err *e);

/*
 * Receives one message: 1, and its descriptor in *fd (the caller's, or -1); 0: nothing there now; -1:
 * the broker is gone (ERR_BUSY). Texts of *a end with a NUL.
 */
int engine_hear(int sock, struct engine_answer *a, int *fd, struct err *e);

#endif

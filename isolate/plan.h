/*
 * The plan of one sandbox, from the host side (launch.c) to pid 1 (init_*.c): one flat block in
 * a memfd that init maps read-only. Strings are offsets into the block, 0 = none. The keeper is
 * trusted by init, so the block is checked for shape, not for policy.
 */
#ifndef CGIBOX_PLAN_H
#define CGIBOX_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	PLAN_MAGIC = 0x63676931,
	PLAN_SIZE_MAX = 1 << 20, /* bytes */
	PLAN_CPU_WORDS = 16,     /* 1024 processors */
	PLAN_LOWERS_MAX = 300,   /* the kernel stops at 500; the options must fit one page */
	PLAN_ROUTES_MAX = 1024,
	/* descriptors that init starts with */
	PLAN_FD_KEEPER = 3,
	PLAN_FD_PLAN = 4,
	PLAN_FD_CLIENT = 5, /* closed when there is none yet */
	/* the sandbox's control group (plan.in_cgroup), each closed where this kernel lacks it:
	 * an O_PATH descriptor of its directory, cgroup.procs to write, and files to read */
	PLAN_FD_CGROUP = 6,
	PLAN_FD_PROCS = 7,
	PLAN_FD_MEMORY_EVENTS = 8,
	PLAN_FD_MEMORY_PEAK = 9,
	PLAN_FD_CPU_STAT = 10,
	PLAN_FD_PIDS_EVENTS = 11,
	PLAN_FD_PIDS_PEAK = 12,
	PLAN_FD_LAST = PLAN_FD_PIDS_PEAK,
	/* RLIMIT_NPROC over processes_max in a group, so that the group's limit is met first: it
	 * does not count pid 1 and tells when it refuses */
	PLAN_SPARE_PROCESSES = 16,
};

enum plan_kind { PLAN_BIND = 1, PLAN_TMPFS, PLAN_OVERLAY };

enum plan_flags {
	PLAN_WRITABLE = 1 << 0,    /* BIND: without it read-only */
	PLAN_RECURSIVE = 1 << 1,   /* BIND: submounts too */
	PLAN_TMPFS_UPPER = 1 << 2, /* OVERLAY: upper and work on a fresh tmpfs (bytes, inodes) */
	PLAN_READ_ONLY = 1 << 3,   /* the root: read-only once all mounts are in it */
	PLAN_ONE_MOUNT = 1 << 4,   /* BIND: the way to dst leads through no other mount */
};

struct plan_mount {
	uint32_t kind;  /* enum plan_kind */
	uint32_t flags; /* enum plan_flags */
	uint32_t dst;   /* absolute path inside; the root mount has none */
	uint32_t src;   /* BIND: path. OVERLAY: nlowers strings one behind the other, top first */
	uint32_t nlowers;
	uint32_t upper, work;   /* OVERLAY: paths; 0 and no TMPFS_UPPER = read-only */
	uint32_t mode;          /* TMPFS: of its root */
	uint64_t bytes, inodes; /* TMPFS and TMPFS_UPPER */
};

enum plan_network {
	PLAN_NET_HOST,  /* the caller's */
	PLAN_NET_NONE,  /* one with a loopback only */
	PLAN_NET_PASTA, /* one behind a router of its own; init_net.c */
};

/*
 * The network of a sandbox with PLAN_NET_PASTA: TEST-NET-3 of RFC 5737, which nobody has. .1 is
 * the router, .2 the sandbox, .53 its resolver, .254 the program pasta.
 */
#define PLAN_NET_ADDRESS   "203.0.113.0"
#define PLAN_NET_BITS      24
#define PLAN_NET_ROUTER    "203.0.113.1"
#define PLAN_NET_SANDBOX   "203.0.113.2"
#define PLAN_NET_DNS       "203.0.113.53"
#define PLAN_NET_GATEWAY   "203.0.113.254"
#define PLAN_NET_INTERFACE "pasta0" /* the tap device that pasta makes in the router */

/* The argument of a pid 1 that an Engine starts, and the socket in its container that it connects to; or
 * of one that has none (init_stream.h). */
#define PLAN_CONTAINER_MODE   "container"
#define PLAN_STREAM_MODE      "stream"
#define PLAN_CONTAINER_SOCKET "/.cgibox/run/keeper"

/* An IPv4 network that is out of reach. */
struct plan_route {
	uint32_t addr; /* network byte order */
	uint32_t bits;
};

struct plan {
	uint32_t magic, size;       /* size of the whole block in bytes */
	uint32_t uid, gid;          /* inside; the only ids mapped */
	uint32_t hostname, staging; /* staging: a directory of the host to mount the root on */
	uint32_t home;              /* created and owned; 0 = none */
	uint32_t network;           /* enum plan_network */
	uint32_t nblocked, blocked; /* offset of an array of struct plan_route, 8-byte aligned */
	uint32_t resolver;          /* text of /etc/resolv.conf inside; 0 = what the root has */
	uint32_t root_emulation;    /* 1: the filter lets root's calls succeed; init_etc.c */
	uint32_t parked; /* 1: init_park.h. Of the plan then only ids, network, processes_max, shm_*
			  * and staging count; a second plan comes with the claim */
	/* 1: an Engine made the container (init_container.h). Of the plan then only the filter and the
	 * limits of a process count */
	uint32_t container, workspace; /* workspace: see struct launch; 0 = none */
	uint32_t nmounts, mounts;      /* offset of an array of struct plan_mount, 8-byte aligned */
	uint32_t filter, nfilter;      /* offset and count of struct sock_filter */
	uint32_t processes_max, files_open_max; /* RLIMIT_NPROC, 0 = none; RLIMIT_NOFILE */
	uint32_t in_cgroup; /* 1: commands are started in PLAN_FD_CGROUP; the filter lets pid 1
			     * use clone3(2), and its children must close it again */
	/* RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_AS; 0 = none */
	uint64_t file_max_bytes, memory_max_bytes, address_space_max_bytes;
	uint64_t cpu_time_max_s;        /* RLIMIT_CPU; 0 = none */
	uint64_t shm_bytes, shm_inodes; /* /dev/shm */
	uint64_t cpus[PLAN_CPU_WORDS];  /* sched_setaffinity(2); all 0 = as it is */
	struct plan_mount root;
};

static inline const char *plan_str(const struct plan *p, uint32_t off)
{
	return off ? (const char *)p + off : NULL;
}

/* Whether all offsets lie inside the block and it ends in a NUL. */
static inline bool plan_shape_ok(const struct plan *p, size_t size)
{
	return size >= sizeof *p && size <= PLAN_SIZE_MAX && p->magic == PLAN_MAGIC &&
	       p->size == size && ((const char *)p)[size - 1] == '\0' && p->mounts % 8 == 0 &&
	       p->filter % 8 == 0 && p->mounts <= size && p->filter <= size &&
	       p->nmounts <= (size - p->mounts) / sizeof(struct plan_mount) &&
	       p->blocked % 8 == 0 && p->blocked <= size &&
	       p->nblocked <= (size - p->blocked) / sizeof(struct plan_route) &&
	       p->nfilter <= (size - p->filter) / 8 && p->hostname < size && p->staging < size &&
	       p->home < size && p->workspace < size && p->resolver < size;
}

#endif

/*
 * The groups that hold sandboxes, below a delegated one (cgroup.h). A group that can be taken by
 * flock(2) has lost its owner: whoever finds it kills what is in it and removes it.
 *
 * pid 1 of a sandbox stays outside of the limited group, and starts each command in it: were it
 * inside, a tenant who fills a tmpfs to the memory limit would have the kernel kill pid 1, the last
 * process whose end could free anything.
 */
#ifndef CGIBOX_CGROUP_BOX_H
#define CGIBOX_CGROUP_BOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/conf.h"
#include "isolate/err.h"

enum { CGROUP_NAME_MAX = 32 };

/* Of one sandbox without its pid 1. 0 = no limit. */
struct cgroup_limits {
	uint64_t memory_bytes;           /* memory.max; swap is 0 */
	uint32_t processes;              /* pids.max */
	uint32_t cpu_percent;            /* cpu.max, 100 = one processor */
	uint64_t io_bytes_per_s;         /* io.max of disk, each way */
	unsigned disk_major, disk_minor; /* a whole disk, see cgroup_disk() */
};

/* What sandbox.conf says, as far as the controllers (CGROUP_* of have) can hold it: cpu_percent and
 * io_bytes_per_s are 0 where they cannot. Pure but for the look at state_dir's disk. */
void cgroup_limits_of(const struct conf *c, unsigned have, struct cgroup_limits *l);

/* A group of ours, locked while it is open. dir -1: none. */
struct cgroup_box {
	int dir;
	char name[CGROUP_NAME_MAX];
};

/* Makes PREFIX-<random> below parent (a descriptor; borrowed) and opens it. Limits may be NULL.
 * ERR_SETUP names the file that was refused; then nothing is left. Keeper, `cgibox run`. */
int cgroup_box_make(int parent, const char *prefix, const struct cgroup_limits *l,
	struct cgroup_box *b, struct err *e);

/* Kills what is in it. */
void cgroup_box_kill(const struct cgroup_box *b);

/*
 * Kills what is in it, removes it and closes it. -1 with EBUSY in errno while a killed process is
 * not gone yet: b is closed all the same, and cgroup_box_gone() is to be tried later.
 */
int cgroup_box_remove(int parent, struct cgroup_box *b);

/* Removes the empty group of this name. True when it is no longer there. */
bool cgroup_box_gone(int parent, const char *name);

/* Kills and removes the groups below parent whose owners are gone, all but those of other users.
 * Returns how many could not be removed yet; *held (NULL: not asked for): how many somebody holds, whose
 * owner may be about to end all the same. Keeper at its start. */
unsigned cgroup_sweep(int parent, unsigned *held);

/*
 * The keeper's group, in three steps around its unshare(CLONE_NEWCGROUP), for the kernel lets a
 * process start another in a group only if its cgroup namespace shows both (nsdelegate):
 * enter: the calling process goes into b; then it unshares; settle: it goes on to the leaf
 * "main" of b and the controllers (CGROUP_* of have, reduced to those that work) are handed on.
 */
int cgroup_keeper_enter(int parent, struct cgroup_box *b, struct err *e);
int cgroup_keeper_settle(const struct cgroup_box *b, unsigned *have, struct err *e);

/* The whole disk that the file system of path lies on. False: none that io.max knows, as with
 * btrfs, tmpfs and network file systems. */
bool cgroup_disk(const char *path, unsigned *major, unsigned *minor);

#endif

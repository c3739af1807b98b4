/*
 * Where control groups of ours may be made: a delegated subtree of cgroup v2. A group whose
 * controllers are handed on may hold no process itself ("no internal processes", cgroups(7)), so
 * what runs there moves to a leaf, and groups of sandboxes are made beside it (cgroup_box.h):
 *
 *	DELEGATED/service       whatever was in DELEGATED: web server, supervisor, workers
 *	DELEGATED/keeper-X/     one keeper: main (itself, every pid 1) and box-Y, one a sandbox
 *	DELEGATED/run-X         one `cgibox run`
 *
 * Nothing here needs a privilege beyond the ownership that delegation gives.
 */
#ifndef CGIBOX_CGROUP_H
#define CGIBOX_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "isolate/err.h"

#define CGROUP_LEAF "service"

/* Controllers. Memory and pids are always there when a struct cgroup is open. */
enum { CGROUP_MEMORY = 1 << 0, CGROUP_PIDS = 1 << 1, CGROUP_CPU = 1 << 2, CGROUP_IO = 1 << 3 };

struct cgroup {
	char path[PATH_MAX]; /* of DELEGATED, in the file system */
	unsigned have;       /* CGROUP_* */
	int dir;             /* -1: there is none */
	bool v1;             /* there are groups of version 1 */
};

/*
 * Looks for the subtree and changes nothing. setting is the key `cgroup` of sandbox.conf: "auto"
 * (our own group, or the one above when we are in its leaf), "none", or a path. Fills all but
 * dir. -1 with the reason: ERR_NOTFOUND for "none" and for what is missing in auto mode,
 * ERR_CONF for a path. Any host process.
 */
int cgroup_find(const char *setting, struct cgroup *g, struct err *e);

/*
 * Finds it, moves the processes in it (us, too) to its leaf, hands the controllers on, and opens
 * it. Doing it again is harmless. Supervisor, keeper, `cgibox run`. Errors as cgroup_find().
 */
int cgroup_open(const char *setting, struct cgroup *g, struct err *e);
void cgroup_close(struct cgroup *g);

/* "memory pids cpu io": the names of the controllers in have. */
const char *cgroup_names(unsigned have, char out[32]);

/* Of text as in /proc/self/mountinfo: where cgroup v2 is mounted, and which of its groups is
 * shown there. v1: whether there are any of version 1. Pure. */
bool cgroup_parse_mount(const char *text, char *at, char *root, size_t size, bool *v1);

/* Of text as in /proc/self/cgroup: the group of v2. Pure. */
bool cgroup_parse_own(const char *text, char *path, size_t size);

/* Of text as in cgroup.controllers: CGROUP_*. Pure. */
unsigned cgroup_parse_controllers(const char *text);

#endif

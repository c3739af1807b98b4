/* The control group of one `cgibox run`, where a subtree is delegated to the caller. */
#ifndef CGIBOX_MAIN_GROUP_H
#define CGIBOX_MAIN_GROUP_H

#include "isolate/cgroup.h"
#include "isolate/cgroup_box.h"
#include "isolate/conf.h"

struct run_group {
	struct cgroup delegated;
	struct cgroup_box box; /* dir -1: none, and no limit on the whole sandbox */
};

/*
 * Makes the group with the limits of sandbox.conf; rg->box is for struct launch.cgroup. 0 also
 * where nothing is delegated (cgroup = auto). -1: sandbox.conf names a path that does not work, or
 * a limit was refused. Moves the caller to the leaf "service", see cgroup_open().
 */
int run_group_open(const struct conf *c, struct run_group *rg, struct err *e);

/* After the end of the sandbox: removes the group. */
void run_group_close(struct run_group *rg);

#endif

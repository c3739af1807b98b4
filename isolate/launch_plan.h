/* From a description of a sandbox to the block that pid 1 reads (plan.h). */
#ifndef CGIBOX_LAUNCH_PLAN_H
#define CGIBOX_LAUNCH_PLAN_H

#include "isolate/launch.h"

/*
 * Writes the plan of a sandbox into a memfd and returns it; the caller owns it. -1: ERR_LIMIT when it
 * is too large, ERR_SETUP. Any process that starts sandboxes.
 */
int launch_make_plan(const struct launcher *l, const struct launch *w, struct err *e);

/* Whether its commands are, or will be, in a control group. */
static inline bool launch_grouped(const struct launch *w)
{
	return w->cgroup || (w->parked && w->cgroup_shared);
}

/* write(2) until all is written. -1 with errno. */
int launch_write_all(int fd, const void *p, size_t n);

#endif

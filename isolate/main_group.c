#include "isolate/main_group.h"

int run_group_open(const struct conf *c, struct run_group *rg, struct err *e)
{
	struct cgroup_limits l;
	struct err why = {0};

	rg->box.dir = -1;
	if (cgroup_open(c->cgroup, &rg->delegated, &why) < 0) {
		if (why.kind == ERR_NOTFOUND)
			return 0;
		*e = why;
		return -1;
	}
	cgroup_sweep(rg->delegated.dir, NULL);
	cgroup_limits_of(c, rg->delegated.have, &l);
	return cgroup_box_make(rg->delegated.dir, "run", &l, &rg->box, e);
}

void run_group_close(struct run_group *rg)
{
	/* What is busy now is swept by whoever comes next. */
	(void)cgroup_box_remove(rg->delegated.dir, &rg->box);
	cgroup_close(&rg->delegated);
}

/* The control groups of the keeper: limits on whole sandboxes, where a subtree is delegated. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/keeper_int.h"
#include "isolate/log.h"

enum { RETRY_MS = 200, RETRY_NONE_MS = 60000, HELD_MS = 60000 /* after our start */ };

/* In auto mode a machine without control groups is served all the same, and told. */
static int not_held(struct keeper *k, struct err *e)
{
	char why[400];

	if (e->kind != ERR_NOTFOUND)
		return -1;
	cgroup_close(&k->delegated);
	log_line(LOG_INFO, "cgroup: not in force: %s", err_text(e, why, sizeof why));
	*e = (struct err){0};
	return 0;
}

/*
 * True: once more. A keeper that was killed lets go of its group later than of the state directory, for
 * which we waited: what is held just after our start may be its, or that of another service.
 */
static bool sweep(struct keeper *k)
{
	unsigned held = 0, left = cgroup_sweep(k->delegated.dir, &held);

	return left > 0 || (held > 0 && keeper_now_ms() - k->start_ms < HELD_MS);
}

int group_enter(struct keeper *k, struct err *e)
{
	k->group.dir = -1;
	LIST_INIT(&k->groups_left);
	if (cgroup_open(k->conf->cgroup, &k->delegated, e) < 0)
		return not_held(k, e);
	k->sweep_groups = sweep(k);
	if (cgroup_keeper_enter(k->delegated.dir, &k->group, e) == 0)
		return 0;
	e->kind = strcmp(k->conf->cgroup, "auto") ? e->kind : ERR_NOTFOUND;
	return not_held(k, e);
}

static void warn_io(const struct keeper *k)
{
	struct cgroup_limits l;

	cgroup_limits_of(k->conf, k->delegated.have, &l);
	if (k->conf->io_max_bytes_per_s && !l.io_bytes_per_s)
		log_line(LOG_WARN, "io_max_bytes_per_s is not held: %s",
			group_holds(k, CGROUP_IO)
				? "the state directory lies on no disk that can be limited"
				: "the controller io is not delegated");
	if (k->conf->cpu_max_percent && !group_holds(k, CGROUP_CPU))
		log_line(LOG_WARN, "cpu_max_percent is not held: the controller cpu is not "
				   "delegated");
}

int group_settle(struct keeper *k, struct err *e)
{
	char names[32];

	if (k->group.dir < 0)
		return 0;
	if (cgroup_keeper_settle(&k->group, &k->delegated.have, e) < 0) {
		k->group.dir = -1;
		e->kind = strcmp(k->conf->cgroup, "auto") ? e->kind : ERR_NOTFOUND;
		return not_held(k, e);
	}
	log_line(LOG_INFO, "cgroup: in force: %s, below %s", cgroup_names(k->delegated.have, names),
		k->delegated.path);
	warn_io(k);
	return 0;
}

bool group_holds(const struct keeper *k, unsigned controller)
{
	return k->group.dir >= 0 && (k->delegated.have & controller);
}

/* What the session asked for, never more than sandbox.conf allows. 0 = no limit. */
static uint64_t least(uint64_t asked, uint64_t allowed)
{
	if (!asked || !allowed)
		return asked ? asked : allowed;
	return asked < allowed ? asked : allowed;
}

int group_make(struct keeper *k, struct box *b, struct err *e)
{
	struct cgroup_limits l;

	if (k->group.dir < 0)
		return 0;
	cgroup_limits_of(k->conf, k->delegated.have, &l);
	l.memory_bytes = least(b->memory_bytes, l.memory_bytes);
	if (group_holds(k, CGROUP_CPU))
		l.cpu_percent = (uint32_t)least(b->cpu_percent, l.cpu_percent);
	return cgroup_box_make(k->group.dir, "box", &l, &b->group, e);
}

void group_drop(struct keeper *k, struct box *b)
{
	struct group_left *left;

	if (cgroup_box_remove(k->group.dir, &b->group) == 0)
		return;
	log_line(errno == EBUSY ? LOG_DEBUG : LOG_WARN, "group %s: %s", b->group.name,
		strerror(errno));
	left = calloc(1, sizeof *left);
	if (!left)
		return; /* the next keeper sweeps */
	memcpy(left->name, b->group.name, sizeof left->name);
	LIST_INSERT_HEAD(&k->groups_left, left, link);
}

int group_retry(struct keeper *k)
{
	uint64_t now = keeper_now_ms();
	struct group_left *left = LIST_FIRST(&k->groups_left), *next;

	if (!left && !k->sweep_groups)
		return RETRY_NONE_MS;
	if (now < k->groups_at_ms)
		return (int)(k->groups_at_ms - now) + 1;
	k->groups_at_ms = now + RETRY_MS;
	if (k->sweep_groups)
		k->sweep_groups = sweep(k);
	for (; left; left = next) {
		next = LIST_NEXT(left, link);
		if (!cgroup_box_gone(k->group.dir, left->name))
			continue;
		LIST_REMOVE(left, link);
		free(left);
	}
	return RETRY_MS;
}

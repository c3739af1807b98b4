/*
 * The keeper's side of the watchdog: what is over its memory is told by the watchdog's process
 * (watcher.h); what is over its disk is found here, by helpers that measure sessions when free space
 * fell. Either way pid 1 gets the order to end the sandbox's processes with a verdict.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "fcgi/keeper_container.h"
#include "fcgi/keeper_int.h"
#include "fcgi/watcher.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	MEASURING_MAX = 2, /* helpers at once */
	REST_FACTOR = 4,   /* a measurement is followed by a rest of as many times its length */
	DISK_STEP_BYTES = 16 << 20,
	DISK_STEP_INODES = 2000,
	DISK_GRACE_BYTES = 16 << 20, /* for a session over its limit, to tidy up */
	DISK_GRACE_INODES = 1000,
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static const char *what_name(uint32_t what)
{
	switch (what) {
	case WATCH_MEMORY:
		return "memory";
	case WATCH_SOCKETS:
		return "socket buffers";
	case WATCH_RESERVE:
		return "the machine's memory is short; largest sandbox";
	case WATCH_BLIND:
		return "cannot be measured";
	default:
		return "disk";
	}
}

static enum stats_count what_count(uint32_t what)
{
	switch (what) {
	case WATCH_MEMORY:
		return COUNT_KILL_MEMORY;
	case WATCH_SOCKETS:
		return COUNT_KILL_SOCKETS;
	case WATCH_RESERVE:
		return COUNT_KILL_RESERVE;
	case WATCH_BLIND:
		return COUNT_KILL_BLIND;
	default:
		return COUNT_KILL_DISK;
	}
}

/* Ends the processes; pid 1 stays and answers for the commands. */
static void end_sandbox(struct keeper *k, struct box *b, enum verdict verdict, uint32_t what,
	uint64_t have, uint64_t limit)
{
	struct proto_request rq = {.op = PROTO_KILL, .verdict = verdict};

	stats_add(&k->stats, what_count(what), 1);
	log_line(LOG_WARN, "session %s: %s: %llu over %llu, ended", b->session->id, what_name(what),
		(unsigned long long)have, (unsigned long long)limit);
	if (b->ctl.fd >= 0 && send(b->ctl.fd, &rq, sizeof rq, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_line(LOG_ERROR, "pid 1 does not take an order: %s", strerror(errno));
}

void watch_end_commands(struct box *b)
{
	struct proto_request rq = {.op = PROTO_KILL, .verdict = VERDICT_KILLED};

	if (b->ctl.fd >= 0 && send(b->ctl.fd, &rq, sizeof rq, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_line(LOG_ERROR, "pid 1 does not take an order: %s", strerror(errno));
}

static bool running(const struct box *b)
{
	return b->watch_id != 0 && !b->over;
}

void watch_end_full(struct keeper *k, struct box *b, uint64_t have, uint64_t limit)
{
	if (running(b))
		end_sandbox(k, b, VERDICT_DISK, 0, have, limit);
}

static struct box *box_of(struct keeper *k, uint64_t id)
{
	struct box *b;

	LIST_FOREACH(b, &k->boxes, link)
	if (running(b) && b->watch_id == id)
		return b;
	return NULL;
}

static void disk_written(struct keeper *k)
{
	struct box *b;

	LIST_FOREACH(b, &k->boxes, link)
	if (running(b) && (b->disk.limit.bytes || b->disk.limit.inodes))
		b->disk.want = true;
	volumes_written(k);
}

static void obey(struct keeper *k, const struct watch_event *ev)
{
	struct box *b;

	if (ev->what == WATCHER_DISK) {
		disk_written(k);
		return;
	}
	b = box_of(k, ev->id);
	/* it has ended since: known here, or not yet, and then it cannot be looked at either */
	if (!b || (ev->what == WATCH_BLIND && box_has_ended(b)))
		return;
	if (ev->what == WATCH_UNLINKED) {
		b->disk.unlinked = ev->bytes;
		b->disk.want = b->disk.limit.bytes != 0;
		return;
	}
	end_sandbox(k, b, VERDICT_MEMORY, ev->what, ev->bytes, ev->limit);
}

/* Without a watchdog there are no limits: end, and be started anew. */
static void watcher_ready(struct keeper *k, struct source *s)
{
	struct watch_event ev;
	int got = watcher_event(s->fd, &ev);

	if (got > 0) {
		obey(k, &ev);
	} else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
		log_line(LOG_ERROR, "the watchdog died");
		k->stop = true;
	}
}

/* A session is looked at when so much was written as could be an eighth of what it may. */
static uint64_t step_for(uint64_t limit)
{
	return limit ? least(DISK_STEP_BYTES, limit / 8 + 1) : DISK_STEP_BYTES;
}

/* b, whose limit may be smaller than others', comes or has gone. */
static void settle_step(struct keeper *k, const struct box *b)
{
	uint64_t step = step_for((uint64_t)k->conf->session_disk_max_bytes);
	const struct box *other;
	struct err e;

	if (step_for(b->disk.limit.bytes) >= step)
		return;
	LIST_FOREACH(other, &k->boxes, link)
	if (running(other))
		step = least(step, step_for(other->disk.limit.bytes));
	if (step == k->disk_step)
		return;
	if (watcher_step(k->watcher.fd, step, &e) < 0)
		log_err(LOG_WARN, &e, "session %s", b->session->id);
	else
		k->disk_step = step;
}

int watch_start(struct keeper *k, struct err *e)
{
	const struct conf *f = k->conf;
	uint64_t bytes = step_for((uint64_t)f->session_disk_max_bytes), inodes = DISK_STEP_INODES;
	struct watcher_conf c;
	struct statfs state;
	int fd;

	k->state_in_memory = fstatfs(k->dirs.state, &state) < 0 || state.f_type == TMPFS_MAGIC;
	k->disk_step = bytes;
	if (f->session_disk_max_inodes)
		inodes = least(inodes, (uint64_t)f->session_disk_max_inodes / 8 + 1);
	c = (struct watcher_conf){.interval_ms = (unsigned)f->watch_interval_ms,
		.reserve_bytes = (uint64_t)f->memory_reserve_bytes,
		.disk_step_bytes = bytes,
		.disk_step_inodes = inodes};
	fd = watcher_start(&c, k->dirs.state, e);
	if (fd < 0)
		return -1;
	k->watcher.ready = watcher_ready;
	return keeper_watch(k, &k->watcher, fd, e);
}

/* Bytes, 0 = none. */
static uint64_t memory_limit(const struct keeper *k, const struct box *b)
{
	uint64_t max = (uint64_t)k->conf->memory_max_bytes;
	uint64_t own = b->memory_bytes;

	if (group_holds(k, CGROUP_MEMORY)) /* the kernel's affair, then */
		return 0;
	return !own ? max : !max ? own : least(own, max);
}

double watch_cpus(const struct keeper *k, const struct box *b)
{
	double max = (double)k->conf->cpu_max_percent / 100, own = b->cpu_percent / 100.0;

	if (group_holds(k, CGROUP_CPU))
		return 0;
	return own <= 0 ? max : max <= 0 ? own : fmin(own, max);
}

int watch_add(struct keeper *k, struct box *b, struct err *e)
{
	struct watch_limits lim = {
		.memory_max_bytes = memory_limit(k, b),
		.socket_max_bytes = (uint64_t)k->conf->socket_memory_max_bytes,
		.root_memory = root_in_memory(k),
		/* a volume's place may be moved, as may those of other parts of STATE */
		.late = !b->starter->record.nvolumes && !k->state_in_memory,
	};

	b->watch_id = ++k->last_watch_id;
	b->disk.unlinked = 0;
	settle_step(k, b);
	if (b->container) /* its memory is the Engine's affair; its disk is measured as others' */
		return 0;
	return watcher_add(k->watcher.fd, b->watch_id, &lim, &b->sandbox, e);
}

static void measured(struct keeper *k, struct source *s);

void watch_remove(struct keeper *k, struct box *b)
{
	struct err e;

	if (!b->watch_id)
		return;
	/* A full queue would leave the watchdog with a sandbox that is gone: it finds that out. */
	if (!b->container && watcher_remove(k->watcher.fd, b->watch_id, &e) < 0)
		log_err(LOG_WARN, &e, "session %s", b->session->id);
	b->watch_id = 0;
	settle_step(k, b);
	if (b->disk.job.fd >= 0) {
		keeper_unwatch(k, &b->disk.job);
		k->nmeasuring--;
		b->disk.want = true;
	}
	if (b->disk.want)
		session_dir_set_check(&k->dirs, b->session->id, true);
	b->disk.want = false;
}

/* --- disk --- */

int watch_disk_room(const struct keeper *k, struct err *e)
{
	uint64_t reserve = (uint64_t)k->conf->disk_reserve_bytes;
	struct statvfs s;

	if (fstatvfs(k->dirs.state, &s) < 0)
		return err_set(e, ERR_SETUP, errno, "look at the state directory's file system");
	if ((uint64_t)s.f_bavail * s.f_frsize >= reserve)
		return 0;
	return err_set(e, ERR_BUSY, ENOSPC,
		"free space of the state directory is below %llu bytes (disk_reserve_bytes)",
		(unsigned long long)reserve);
}

void watch_disk_limits(const struct keeper *k, struct call *c)
{
	uint64_t max = (uint64_t)k->conf->session_disk_max_bytes, own = c->record.disk_bytes;

	c->disk.bytes = !own ? max : !max ? own : least(own, max);
	c->disk.inodes = (uint64_t)k->conf->session_disk_max_inodes;
}

int watch_disk_admit(
	struct keeper *k, struct call *c, uint64_t bytes, uint64_t inodes, struct err *e)
{
	struct disk_limits *d = &c->disk;
	bool over = (d->bytes && bytes > d->bytes) || (d->inodes && inodes > d->inodes);

	if (!over) {
		session_dir_set_check(&k->dirs, c->held->id, false);
		return 0;
	}
	if ((d->bytes && bytes > 2 * d->bytes) || (d->inodes && inodes > 2 * d->inodes))
		return err_set(e, ERR_LIMIT, 0,
			"the session holds %llu bytes in %llu files beyond its archives, over "
			"twice its limit; delete it",
			(unsigned long long)bytes, (unsigned long long)inodes);
	/* It may run, for who wants to tidy up, but hardly grow. */
	if (d->bytes && bytes > d->bytes)
		d->bytes = bytes + DISK_GRACE_BYTES;
	if (d->inodes && inodes > d->inodes)
		d->inodes = inodes + DISK_GRACE_INODES;
	return 0;
}

static void judge(struct keeper *k, struct box *b, const struct tree_result *r)
{
	struct disk_watch *d = &b->disk;
	uint64_t bytes = r->bytes + d->unlinked;
	bool big = d->limit.bytes && bytes > d->limit.bytes;

	if (!big && (!d->limit.inodes || r->inodes <= d->limit.inodes))
		return;
	/* first: once the end is known, the next call may look */
	session_dir_set_check(&k->dirs, b->session->id, true);
	if (big)
		end_sandbox(k, b, VERDICT_DISK, 0, bytes, d->limit.bytes);
	else
		end_sandbox(k, b, VERDICT_DISK, 0, r->inodes, d->limit.inodes);
}

static void measured(struct keeper *k, struct source *s)
{
	struct box *b = s->box;
	struct tree_result r;
	struct err e = {0};
	uint64_t now = keeper_now_ms();

	if (tree_finish(s->fd, &r, &e) == 0)
		e = r.err;
	keeper_unwatch(k, s);
	k->nmeasuring--;
	b->disk.rest_until_ms = now + REST_FACTOR * (now - b->disk.begun_ms);
	/* A tenant that moves directories about while they are measured gains nothing: what was met
	 * until then counts, and it is tried again. */
	if (e.kind != ERR_NONE) {
		b->disk.want = true;
		log_err(LOG_INFO, &e, "measure session %s", b->session->id);
		if (e.kind != ERR_BUSY)
			return;
	}
	if (running(b))
		judge(k, b, &r);
}

static void measure(struct keeper *k, struct box *b)
{
	OWN_FD dir = session_dir_open(&k->dirs, b->session->id, ".", O_RDONLY | O_DIRECTORY);
	struct err e = {0};
	int fd = dir < 0 ? -1 : job_measure(k, &b->layout, &b->disk.limit, dir, &e);

	b->disk.begun_ms = keeper_now_ms();
	b->disk.job.ready = measured;
	if (fd < 0 || keeper_watch(k, &b->disk.job, fd, &e) < 0) {
		log_err(LOG_WARN, &e, "measure session %s", b->session->id);
		b->disk.rest_until_ms = b->disk.begun_ms + 100;
		return;
	}
	b->disk.want = false;
	k->nmeasuring++;
}

/* The one that waits longest of those whose rest is over; *wait: ms until another's is. */
static struct box *next_measured(struct keeper *k, int *wait)
{
	uint64_t now = keeper_now_ms();
	struct box *b, *best = NULL;

	LIST_FOREACH(b, &k->boxes, link)
	{
		if (!running(b) || !b->disk.want || b->disk.job.fd >= 0)
			continue;
		if (b->disk.rest_until_ms > now) {
			int in = (int)least(b->disk.rest_until_ms - now, 60000);

			*wait = *wait < 0 || in < *wait ? in : *wait;
		} else if (!best || b->disk.begun_ms < best->disk.begun_ms) {
			best = b;
		}
	}
	return best;
}

int watch_disk_work(struct keeper *k)
{
	int wait = container_disk_work(k);
	struct box *b;

	while (k->nmeasuring < MEASURING_MAX && (b = next_measured(k, &wait)))
		measure(k, b);
	volumes_measure(k, &wait);
	return wait;
}

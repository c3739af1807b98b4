#include "fcgi/keeper_pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fcgi/keeper_demand.h"
#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	QUIET_MS = 1,    /* nothing else to do for so long */
	BUSY_MS = 20,    /* until it is tried again */
	SLOW_MS = 1000,  /* but one is made so often on a busy machine */
	RETRY_MS = 5000, /* after a failure */
};

struct prepared {
	struct source ctl; /* first: its ready() finds the rest by it; fd -1: free */
	struct sandbox box;
	bool ready;
	uint64_t since_ms;
};

struct pool {
	struct launch kind;
	char *staging;
	struct spare_processor processor;
	struct prepared slot[PREPARED_MAX];
	struct demand demand;
	unsigned n;
	uint64_t made_ms, retry_ms;
	struct pool_stats stats;
};

static unsigned ready_now(const struct pool *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->demand.max; i++)
		n += p->slot[i].ready;
	return n;
}

struct pool *pool_open(struct keeper *k, struct err *e)
{
	struct pool *p;

	e->kind = ERR_NONE;
	if (k->conf->prepared_max == 0)
		return NULL;
	p = calloc(1, sizeof *p);
	if (!p || asprintf(&p->staging, "%s/mnt", k->dirs.path) < 0) {
		free(p);
		err_set(e, ERR_SETUP, ENOMEM, "prepare sandboxes");
		return NULL;
	}
	p->kind = start_kind(k->conf);
	p->kind.staging = p->staging;
	p->kind.cgroup_shared = k->group.dir >= 0;
	spare_processor_open(&p->processor);
	demand_open(&p->demand, (unsigned)k->conf->prepared_max, k->on_demand ? 0 : 1,
		(uint64_t)k->conf->prepared_idle_s * 1000, keeper_now_ms());
	for (unsigned i = 0; i < p->demand.max; i++) {
		p->slot[i].ctl.fd = -1;
		p->slot[i].box = SANDBOX_NONE;
	}
	return p;
}

/* Waits for the end of a process that does nothing but wait itself: a fraction of a millisecond. */
static void drop(struct keeper *k, struct pool *p, struct prepared *s)
{
	keeper_unwatch(k, &s->ctl);
	s->box.ctl = -1; /* which was the same descriptor */
	sandbox_stop(&s->box);
	s->ready = false;
	p->n--;
}

static void fail(struct keeper *k, struct pool *p, struct prepared *s, const struct err *e)
{
	drop(k, p, s);
	p->stats.failed++;
	p->retry_ms = keeper_now_ms() + RETRY_MS;
	log_err(LOG_WARN, e, "prepare a sandbox");
}

static void heard(struct keeper *k, struct source *src)
{
	struct prepared *s = (struct prepared *)(void *)src;
	int ns[SANDBOX_NS] = {-1, -1};
	struct err e = {0};
	int got = sandbox_next(&s->box, 0, ns, &e);

	if (got == SANDBOX_PARKED) {
		s->ready = true;
		demand_ready(&k->pool->demand, ready_now(k->pool));
		return;
	}
	if (got >= 0)
		err_set(&e, ERR_BUG, 0, "message %d of a prepared sandbox", got);
	fail(k, k->pool, s, &e);
}

static void prepare(struct keeper *k, struct pool *p)
{
	struct prepared *s = p->slot;
	struct err e = {0};

	p->made_ms = keeper_now_ms();
	while (s->ctl.fd >= 0)
		s++;
	if (sandbox_park(&k->launcher, &p->kind, &s->box, &e) < 0) {
		p->stats.failed++;
		p->retry_ms = keeper_now_ms() + RETRY_MS;
		log_err(LOG_WARN, &e, "prepare a sandbox");
		return;
	}
	p->n++;
	p->stats.made++;
	s->since_ms = p->made_ms;
	s->ctl.ready = heard;
	if (keeper_watch(k, &s->ctl, s->box.ctl, &e) < 0)
		fail(k, p, s, &e);
}

/* Its socket becomes the caller's to watch. */
static bool claim(struct keeper *k, struct pool *p, struct prepared *s, const struct launch *what)
{
	struct err e = {0};

	if (sandbox_claim(&k->launcher, what, &s->box, &e) < 0) {
		fail(k, p, s, &e);
		return false;
	}
	epoll_ctl(k->epoll, EPOLL_CTL_DEL, s->ctl.fd, NULL);
	s->ctl.fd = -1;
	s->ready = false;
	p->n--;
	return true;
}

bool pool_take(struct keeper *k, struct pool *p, const struct launch *what, struct sandbox *out)
{
	if (!p || !sandbox_fits(&p->kind, what))
		return false;
	demand_asked(&p->demand, keeper_now_ms());
	for (unsigned i = 0; i < p->demand.max; i++) {
		struct prepared *s = &p->slot[i];

		if (!s->ready || !claim(k, p, s, what))
			continue;
		*out = s->box;
		s->box = SANDBOX_NONE;
		p->stats.claimed++;
		demand_taken(&p->demand, ready_now(p));
		return true;
	}
	p->stats.cold++;
	demand_missed(&p->demand);
	return false;
}

static struct prepared *oldest(struct pool *p)
{
	struct prepared *old = NULL;

	for (unsigned i = 0; i < p->demand.max; i++)
		if (p->slot[i].ctl.fd >= 0 && (!old || p->slot[i].since_ms < old->since_ms))
			old = &p->slot[i];
	return old;
}

int pool_tick(struct keeper *k, struct pool *p)
{
	uint64_t now = keeper_now_ms(), next;
	unsigned want;

	if (!p)
		return -1;
	demand_shrink(&p->demand, ready_now(p), now);
	want = p->demand.want;
	if (p->n > want) {
		drop(k, p, oldest(p));
		p->stats.trimmed++;
	}
	if (p->n == 0 && want == 0)
		return -1;
	next = demand_next(&p->demand, now);
	if (p->n < want) {
		uint64_t fill = p->retry_ms > now ? p->retry_ms - now : QUIET_MS;

		next = fill < next ? fill : next;
	}
	return p->n > want ? 0 : (int)next;
}

void pool_idle(struct keeper *k, struct pool *p)
{
	uint64_t now = keeper_now_ms();

	if (!p || p->n >= p->demand.want || now < p->retry_ms)
		return;
	if (now - p->made_ms >= SLOW_MS || spare_processor_now(&p->processor))
		prepare(k, p);
	else
		p->retry_ms = now + BUSY_MS;
}

void pool_stats(const struct pool *p, struct pool_stats *out)
{
	*out = p ? p->stats : (struct pool_stats){0};
	out->ready = p ? ready_now(p) : 0;
}

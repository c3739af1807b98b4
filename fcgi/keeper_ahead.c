#include "fcgi/keeper_ahead.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "fcgi/keeper_container_int.h"
#include "fcgi/keeper_demand.h"
#include "fcgi/keeper_engine.h"
#include "fcgi/keeper_seed.h"
#include "fcgi/statesock.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	QUIET_MS = 10,       /* nothing else to do for so long */
	BUSY_MS = 50,        /* until it is tried again */
	SLOW_MS = 2000,      /* but one is made so often on a busy machine */
	RETRY_MS = 5000,     /* after a failure */
	CONNECT_MS = 600000, /* engine_timeout_s and what pid 1 needs, at their longest */
};

/* What sessions have in common that can have the same container. */
struct kind {
	char image[IMAGE_REF_MAX + 1];
	uint64_t memory_bytes;
	uint32_t cpu_percent;
	bool network;
};

struct wanted {
	struct kind kind; /* image "": free */
	struct demand demand;
};

enum slot_state { SLOT_FREE, SLOT_MAKING, SLOT_READY, SLOT_CHOSEN };

struct slot {
	struct source conn; /* first: of its pid 1 */
	enum slot_state state;
	struct container *t;
	struct seed seed;
	struct kind kind;
	uint64_t since_ms;
	const struct call *chosen_by; /* which holds session; only compared */
	char session[SESSION_ID_LEN + 1];
};

struct ahead {
	unsigned max, n;
	bool emptying;
	struct wanted wanted[AHEAD_KINDS];
	struct slot slot[AHEAD_MAX];
	struct spare_processor processor;
	uint64_t made_ms, retry_ms;
	struct pool_stats stats;
	uint64_t last_removal;     /* that is waited for while emptying; broker_removals() */
	struct call_queue waiters; /* until none is left */
	void (*again)(struct keeper *k, struct call *c);
};

struct ahead *ahead_open(struct keeper *k, struct err *e)
{
	struct ahead *p;

	e->kind = ERR_NONE;
	if (!k->engine || k->conf->engine_prepared_max == 0)
		return NULL;
	if (!seed_possible(k->conf)) {
		log_line(LOG_WARN, "engine_prepared_max: none, for run_home lies in /tmp or /repo");
		return NULL;
	}
	p = calloc(1, sizeof *p);
	if (!p) {
		err_set(e, ERR_SETUP, ENOMEM, "make containers ahead");
		return NULL;
	}
	TAILQ_INIT(&p->waiters);
	p->max = (unsigned)k->conf->engine_prepared_max;
	spare_processor_open(&p->processor);
	for (unsigned i = 0; i < AHEAD_MAX; i++)
		p->slot[i].conn.fd = -1;
	return p;
}

/* --- kinds --- */

static bool same(const struct kind *a, const struct kind *b)
{
	return !strcmp(a->image, b->image) && a->memory_bytes == b->memory_bytes &&
	       a->cpu_percent == b->cpu_percent && a->network == b->network;
}

static unsigned count(const struct ahead *p, const struct kind *of, bool ready)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->max; i++)
		n += p->slot[i].state != SLOT_FREE && p->slot[i].state != SLOT_CHOSEN &&
		     (!ready || p->slot[i].state == SLOT_READY) && same(&p->slot[i].kind, of);
	return n;
}

static struct wanted *wanted_of(struct ahead *p, const struct kind *of)
{
	for (unsigned i = 0; i < AHEAD_KINDS; i++)
		if (same(&p->wanted[i].kind, of))
			return &p->wanted[i];
	return NULL;
}

/* The same; a new one takes the place of that which was asked for longest ago. */
static struct wanted *want(struct keeper *k, struct ahead *p, const struct kind *of)
{
	struct wanted *w = wanted_of(p, of), *old = p->wanted;
	uint64_t now = keeper_now_ms();

	if (!w) {
		for (unsigned i = 1; i < AHEAD_KINDS; i++)
			if (p->wanted[i].demand.used_ms < old->demand.used_ms)
				old = &p->wanted[i];
		w = old;
		w->kind = *of;
		demand_open(&w->demand, p->max, 0, (uint64_t)k->conf->prepared_idle_s * 1000, now);
	}
	demand_asked(&w->demand, now);
	return w;
}

static bool kind_of(const struct call *c, struct kind *out)
{
	memset(out, 0, sizeof *out);
	if (c->record.nvolumes || strlen(c->record.image) >= sizeof out->image)
		return false;
	strcpy(out->image, c->record.image);
	out->memory_bytes = c->record.memory_bytes;
	out->cpu_percent = c->record.cpu_percent;
	out->network = c->record.network;
	return true;
}

/* --- one of them --- */

/* Pid 1 ends with its connection; what there is at the Engine is removed. */
static void drop(struct keeper *k, struct slot *s, bool late)
{
	struct container *t = s->t;

	container_stop_listening(k, t);
	keeper_unwatch(k, &s->conn);
	container_remove_dir(k, t);
	seed_remove(k, &s->seed);
	container_relay_end(t);
	if (!t->asked) /* else when the Engine has answered: it would make it after that */
		broker_remove(k, t->id, late);
	if (k->ahead->emptying)
		k->ahead->last_removal = broker_removals(k);
	free(t);
	s->t = NULL;
	s->state = SLOT_FREE;
	k->ahead->n--;
}

static void fail(struct keeper *k, struct slot *s, bool late, const struct err *e)
{
	struct ahead *p = k->ahead;

	log_err(LOG_WARN, e, "make a container ahead");
	p->stats.failed++;
	p->retry_ms = keeper_now_ms() + RETRY_MS;
	drop(k, s, late);
}

/* One that waits says nothing: it has ended. */
static void heard(struct keeper *k, struct source *src)
{
	struct slot *s = (struct slot *)(void *)src;
	struct err e = {0};

	err_set(&e, ERR_SETUP, 0, "its pid 1 has ended");
	fail(k, s, false, &e);
}

static void connected(struct keeper *k, struct source *src)
{
	struct slot *s = src->data;
	struct wanted *w = wanted_of(k->ahead, &s->kind);
	struct err e = {0};
	int fd = statesock_accept(src->fd);

	if (fd < 0)
		return;
	container_stop_listening(k, s->t);
	s->conn.ready = heard;
	if (keeper_watch(k, &s->conn, fd, &e) < 0) {
		fail(k, s, false, &e);
		return;
	}
	s->state = SLOT_READY;
	k->ahead->stats.made++;
	if (w)
		demand_ready(&w->demand, count(k->ahead, &s->kind, true));
}

static int ask(struct keeper *k, struct slot *s, struct err *e)
{
	OWN_MEM struct engine_question *q = calloc(1, sizeof *q);
	const struct session_record like = {.memory_bytes = s->kind.memory_bytes,
		.cpu_percent = s->kind.cpu_percent,
		.network = s->kind.network};

	if (!q)
		return err_set(e, ERR_SETUP, ENOMEM, "make a container ahead");
	q->op = ENGINE_MAKE;
	snprintf(q->box, sizeof q->box, "%s", s->t->id);
	memcpy(q->image, s->kind.image, sizeof q->image);
	container_limit(k->conf, &like, q);
	if (container_reach(k, s->t, q, e) < 0 || seed_make(k, s->t->id, &s->seed, q, e) < 0)
		return -1;
	return broker_ask(k, q, -1, NULL, container_made, e);
}

static void make(struct keeper *k, struct ahead *p, const struct kind *like)
{
	struct container *t = calloc(1, sizeof *t);
	struct slot *s = p->slot;
	struct err e = {0};

	p->made_ms = keeper_now_ms();
	if (!t || session_id_make(t->id, &e) < 0) {
		free(t);
		p->retry_ms = p->made_ms + RETRY_MS;
		return;
	}
	while (s->state != SLOT_FREE)
		s++;
	*s = (struct slot){
		.conn.fd = -1, .state = SLOT_MAKING, .t = t, .kind = *like, .since_ms = p->made_ms};
	p->n++;
	t->client = -1;
	t->asked = true;
	t->listen = (struct source){.fd = -1, .data = s};
	snprintf(s->seed.box, sizeof s->seed.box, "%s", t->id);
	if (container_listen(k, t, connected, &e) < 0 || ask(k, s, &e) < 0)
		fail(k, s, false, &e); /* asked: nothing is there to be removed */
}

static struct slot *slot_of(struct ahead *p, const char *box)
{
	for (unsigned i = 0; p && i < p->max; i++)
		if (p->slot[i].state != SLOT_FREE && !strcmp(p->slot[i].t->id, box))
			return &p->slot[i];
	return NULL;
}

bool ahead_made(struct keeper *k, const struct engine_answer *a, int stream)
{
	struct slot *s = slot_of(k->ahead, a->box);
	struct err e = {0};

	if (!s)
		return false;
	s->t->asked = false;
	if (a->err.kind == ERR_NOTFOUND && wanted_of(k->ahead, &s->kind)) {
		*wanted_of(k->ahead, &s->kind) = (struct wanted){.demand = {0}};
		drop(k, s, false); /* nobody will ask for an image that was removed */
	} else if (a->err.kind != ERR_NONE)
		fail(k, s, a->err.errnum == ETIMEDOUT || a->err.errnum == EPIPE, &a->err);
	else if (container_relay(k, s->t, stream, &e) < 0)
		fail(k, s, false, &e);
	return true;
}

void ahead_has_ended(struct keeper *k, const struct engine_answer *a)
{
	struct slot *s = slot_of(k->ahead, a->box);
	struct err e = {0};

	/* its socket tells the rest, or the answer does; by way of a relay the Engine tells sooner */
	if (!s || s->t->asked ||
		(s->state != SLOT_MAKING && (s->state != SLOT_READY || s->t->relay <= 0)))
		return;
	err_set(&e, ERR_SETUP, 0, "it ended before it was ready: exit code %d", a->exit_code);
	fail(k, s, false, &e);
}

/* --- given away --- */

/* Of those that wait; it and the session have the same directories then. */
static struct slot *plant(struct keeper *k, struct ahead *p, struct call *c)
{
	struct wanted *w;
	struct kind like;
	struct err e = {0};

	if (p->emptying || !kind_of(c, &like) || !seed_fits(k, c))
		return NULL;
	w = want(k, p, &like);
	for (unsigned i = 0; i < p->max; i++) {
		struct slot *s = &p->slot[i];

		if (s->state != SLOT_READY || !same(&s->kind, &like))
			continue;
		if (seed_plant(k, c, &s->seed, &e) < 0) {
			fail(k, s, false, &e);
			break; /* the next would fare no better */
		}
		s->state = SLOT_CHOSEN;
		s->chosen_by = c;
		memcpy(s->session, c->held->id, sizeof s->session);
		demand_taken(&w->demand, count(p, &like, true));
		return s;
	}
	p->stats.cold++;
	demand_missed(&w->demand);
	return NULL;
}

static struct slot *chosen(struct ahead *p, const struct call *c)
{
	for (unsigned i = 0; i < p->max; i++)
		if (p->slot[i].state == SLOT_CHOSEN && p->slot[i].chosen_by == c)
			return &p->slot[i];
	return NULL;
}

void ahead_choose(struct keeper *k, struct call *c)
{
	struct ahead *p = k->ahead;
	struct slot *s = p ? chosen(p, c) : NULL;

	if (s) /* of an earlier request that came to nothing */
		drop(k, s, false);
	if (p)
		plant(k, p, c);
}

struct container *ahead_take(struct keeper *k, struct call *c, int *conn)
{
	struct ahead *p = k->ahead;
	struct slot *s = p ? chosen(p, c) : NULL;
	struct container *t;

	if (p && !s && !c->rq.has_archive)
		s = plant(k, p, c);
	if (!s)
		return NULL;
	if (strcmp(s->session, c->held->id) != 0 || !seed_grew(k, c, &s->seed)) {
		p->stats.cold++;
		drop(k, s, false);
		return NULL;
	}
	epoll_ctl(k->epoll, EPOLL_CTL_DEL, s->conn.fd, NULL);
	*conn = take_fd(&s->conn.fd);
	seed_remove(k, &s->seed);
	t = s->t;
	t->listen = (struct source){.fd = -1};
	s->t = NULL;
	s->state = SLOT_FREE;
	p->n--;
	p->stats.claimed++;
	return t;
}

/* --- how many --- */

/* Whoever had chosen it has not taken it, and lets go of the session. */
static bool given_up(struct keeper *k, const struct slot *s)
{
	const struct session *of = lock_find(k, s->session);

	return !of || of->holder != s->chosen_by;
}

/* One too many, or no use to anybody. */
static bool trim_one(struct keeper *k, struct ahead *p, uint64_t now)
{
	for (unsigned i = 0; i < p->max; i++) {
		struct slot *s = &p->slot[i];
		const struct wanted *w = s->state == SLOT_FREE ? NULL : wanted_of(p, &s->kind);
		bool slow = s->state == SLOT_MAKING && now - s->since_ms > CONNECT_MS;

		if (slow || (s->state == SLOT_CHOSEN && given_up(k, s)) ||
			(s->state == SLOT_READY && !s->t->asked &&
				(p->emptying || !w ||
					count(p, &s->kind, false) > w->demand.want))) {
			p->stats.trimmed++;
			drop(k, s, slow);
			return true;
		}
	}
	return false;
}

static bool gone(const struct keeper *k, const struct ahead *p)
{
	return p->n == 0 && !broker_removes(k, p->last_removal);
}

bool ahead_end(struct keeper *k, struct call *c, void (*again)(struct keeper *k, struct call *c))
{
	struct ahead *p = k->ahead;

	if (!p)
		return true;
	p->emptying = true;
	p->last_removal = broker_removals(k); /* sessions' own containers count, too */
	while (trim_one(k, p, keeper_now_ms()))
		;
	if (gone(k, p))
		return true;
	if (c) {
		p->again = again;
		c->state = CALL_PULL;
		TAILQ_INSERT_TAIL(&p->waiters, c, waiting);
	}
	return false;
}

/* Those who waited for it go on, and others may be made. */
static void emptied(struct keeper *k, struct ahead *p)
{
	struct call *c;

	p->emptying = false;
	while ((c = TAILQ_FIRST(&p->waiters))) {
		TAILQ_REMOVE(&p->waiters, c, waiting);
		p->again(k, c);
	}
}

/* One that makes room: of a kind that was asked for longer ago than w. */
static struct slot *victim(struct ahead *p, const struct wanted *w)
{
	struct slot *worst = NULL;
	uint64_t least = w->demand.used_ms;

	for (unsigned i = 0; i < p->max; i++) {
		const struct wanted *of = wanted_of(p, &p->slot[i].kind);
		uint64_t used = of ? of->demand.used_ms : 0;

		if (p->slot[i].state != SLOT_READY || of == w || used >= least)
			continue;
		worst = &p->slot[i];
		least = used;
	}
	return worst;
}

/* The kind that lacks one and was asked for last. */
static struct wanted *next_wanted(struct ahead *p)
{
	struct wanted *best = NULL;

	for (unsigned i = 0; i < AHEAD_KINDS; i++) {
		struct wanted *w = &p->wanted[i];

		if (*w->kind.image && count(p, &w->kind, false) < w->demand.want &&
			(!best || w->demand.used_ms > best->demand.used_ms) &&
			(p->n < p->max || victim(p, w)))
			best = w;
	}
	return best;
}

/* One after the other. */
static bool making(const struct ahead *p)
{
	for (unsigned i = 0; i < p->max; i++)
		if (p->slot[i].state == SLOT_MAKING)
			return true;
	return false;
}

int ahead_tick(struct keeper *k)
{
	struct ahead *p = k->ahead;
	uint64_t now = keeper_now_ms(), next = UINT64_MAX;

	if (!p)
		return -1;
	if (p->emptying && gone(k, p))
		emptied(k, p);
	for (unsigned i = 0; i < AHEAD_KINDS; i++) {
		struct wanted *w = &p->wanted[i];
		uint64_t in;

		if (!*w->kind.image)
			continue;
		demand_shrink(&w->demand, count(p, &w->kind, true), now);
		in = w->demand.want ? demand_next(&w->demand, now) : UINT64_MAX;
		next = in < next ? in : next;
	}
	while (trim_one(k, p, now))
		;
	if (!p->emptying && !making(p) && next_wanted(p)) {
		uint64_t in = p->retry_ms > now ? p->retry_ms - now : QUIET_MS;

		next = in < next ? in : next;
	}
	return next == UINT64_MAX ? -1 : (int)next;
}

void ahead_idle(struct keeper *k)
{
	struct ahead *p = k->ahead;
	uint64_t now = keeper_now_ms();
	struct wanted *w = p && !p->emptying && now >= p->retry_ms ? next_wanted(p) : NULL;
	struct err e;

	if (!w || making(p))
		return;
	if (broker_serves(k, &e) < 0) {
		p->retry_ms = now + RETRY_MS;
		return;
	}
	if (now - p->made_ms < SLOW_MS && !spare_processor_now(&p->processor)) {
		p->retry_ms = now + BUSY_MS;
		return;
	}
	if (p->n == p->max) {
		p->stats.trimmed++;
		drop(k, victim(p, w), false);
	}
	make(k, p, &w->kind);
}

void ahead_stats(const struct keeper *k, struct pool_stats *out)
{
	const struct ahead *p = k->ahead;

	*out = p ? p->stats : (struct pool_stats){0};
	out->ready = 0;
	for (unsigned i = 0; p && i < p->max; i++)
		out->ready += p->slot[i].state == SLOT_READY;
}

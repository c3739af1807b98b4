#include "fcgi/keeper_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fcgi/engine_spec.h"
#include "fcgi/keeper_container.h"
#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	RETRY_MS = 1000,
	RETRY_NONE_MS = 60000,
	LATE_MS = 600000, /* an Engine may still make what it was asked for, */
	LATE_STEP_MS = 10000,
	STUCK_SHIFT_MAX = 9, /* at most 2^9 s between two tries */
};

/* A question in progress. */
struct ask {
	LIST_ENTRY(ask) link;
	uint64_t number;
	char box[ENGINE_BOX_MAX + 1];
	struct call *call;
	broker_heard *heard;
};
LIST_HEAD(ask_list, ask);

/* A container that is to go. */
struct leftover {
	LIST_ENTRY(leftover) link;
	uint64_t number;
	char box[ENGINE_BOX_MAX + 1];
	bool asked;
	uint64_t at_ms;    /* not before */
	uint64_t until_ms; /* that it is not there is no proof until then; 0 = it is */
	unsigned refused;  /* so often by the Engine */
};
LIST_HEAD(leftover_list, leftover);

struct engine_link {
	struct source sock; /* the broker's */
	pid_t pid;
	uint64_t last_number, removals;
	struct ask_list asks;
	struct leftover_list left;
	bool swept, sweeping; /* what a keeper before us left */
	struct err why;       /* the Engine does not answer; ERR_NONE = it does */
	uint64_t retry_ms;
};

int broker_open(struct keeper *k, struct err *e)
{
	struct engine_link *g;

	if (k->conf->backend != BACKEND_DOCKER)
		return 0;
	g = calloc(1, sizeof *g);
	if (!g)
		return err_set(e, ERR_SETUP, ENOMEM, "start the engine broker");
	LIST_INIT(&g->asks);
	LIST_INIT(&g->left);
	g->sock.fd = engine_spawn(k->conf, &g->pid, e);
	if (g->sock.fd < 0) {
		free(g);
		return -1;
	}
	k->engine = g;
	return 0;
}

int broker_serves(const struct keeper *k, struct err *e)
{
	const struct engine_link *g = k->engine;

	if (!g)
		return 0;
	if (g->why.kind != ERR_NONE) {
		*e = g->why;
		e->kind = ERR_BUSY; /* whatever it is: later it may be put right */
		e->errnum = EHOSTDOWN;
		return err_in(e, "the Engine");
	}
	return g->swept ? 0
			: err_set(e, ERR_BUSY, EHOSTDOWN,
				  "the Engine is being asked what an earlier service left there");
}

int broker_ask(struct keeper *k, struct engine_question *q, int fd, struct call *c,
	broker_heard *heard, struct err *e)
{
	struct engine_link *g = k->engine;
	struct ask *a = calloc(1, sizeof *a);

	if (!a)
		return err_set(e, ERR_SETUP, ENOMEM, "ask the Engine");
	q->number = ++g->last_number;
	if (engine_ask(g->sock.fd, q, fd, e) < 0) {
		free(a);
		return -1;
	}
	a->number = q->number;
	snprintf(a->box, sizeof a->box, "%s", q->box);
	a->call = c;
	a->heard = heard;
	LIST_INSERT_HEAD(&g->asks, a, link);
	return 0;
}

static void answer(struct keeper *k, struct ask *a, struct engine_answer *with, int *fd)
{
	LIST_REMOVE(a, link);
	memcpy(with->box, a->box, sizeof with->box);
	a->heard(k, a->call, with, fd);
	free(a);
}

/* --- what is to go --- */

static void ask_removals(struct keeper *k);

/* Asked again, ever less often: one that the Engine cannot remove must not keep anybody busy. */
static void not_removed(struct leftover *l, const struct err *why)
{
	uint64_t pause = RETRY_MS;

	/* an Engine that is away says nothing about the container */
	if (why->kind != ERR_BUSY || why->errnum == ETIMEDOUT)
		pause <<= l->refused < STUCK_SHIFT_MAX ? l->refused++ : STUCK_SHIFT_MAX;
	l->at_ms = keeper_now_ms() + pause;
	log_err(LOG_WARN, why, "remove container " ENGINE_NAME "%s; tried again in %llu s", l->box,
		(unsigned long long)pause / 1000);
}

static void removed(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd)
{
	struct leftover *l, *next;

	(void)c;
	(void)fd;
	for (l = LIST_FIRST(&k->engine->left); l; l = next) {
		next = LIST_NEXT(l, link);
		if (strcmp(l->box, a->box) != 0)
			continue;
		l->asked = false;
		if (a->err.kind != ERR_NONE) {
			not_removed(l, &a->err);
			continue;
		}
		if (keeper_now_ms() < l->until_ms) {
			l->at_ms = keeper_now_ms() + LATE_STEP_MS;
			continue;
		}
		LIST_REMOVE(l, link);
		free(l);
	}
	container_removed(k, a->box);
}

static void ask_removals(struct keeper *k)
{
	struct leftover *l;

	LIST_FOREACH(l, &k->engine->left, link)
	{
		struct engine_question q = {.op = ENGINE_REMOVE};
		struct err e = {0};

		if (l->asked || keeper_now_ms() < l->at_ms)
			continue;
		memcpy(q.box, l->box, sizeof q.box);
		if (broker_ask(k, &q, -1, NULL, removed, &e) < 0)
			return; /* broker_retry() */
		l->asked = true;
	}
}

/* refused: how often it was already. */
static void leave(struct keeper *k, const char *box, unsigned refused, uint64_t until_ms)
{
	struct leftover *l = calloc(1, sizeof *l);

	if (!l) {
		log_line(
			LOG_ERROR, "no memory to remove container %s by; the next start does", box);
		return;
	}
	snprintf(l->box, sizeof l->box, "%s", box);
	l->number = ++k->engine->removals;
	l->until_ms = until_ms;
	l->refused = refused;
	l->at_ms = refused ? keeper_now_ms() + RETRY_MS : 0;
	LIST_INSERT_HEAD(&k->engine->left, l, link);
}

void broker_remove(struct keeper *k, const char *box, bool late)
{
	leave(k, box, 0, late ? keeper_now_ms() + LATE_MS : 0);
	ask_removals(k);
}

uint64_t broker_removals(const struct keeper *k)
{
	return k->engine->removals;
}

bool broker_removes(const struct keeper *k, uint64_t last)
{
	const struct leftover *l;

	LIST_FOREACH(l, &k->engine->left, link)
	if (l->asked && l->number <= last)
		return true;
	return false;
}

/* A line each; "": it has no name of ours, and only the next sweep finds it. */
static void take_stuck(struct keeper *k, int fd)
{
	OWN_FILE f = fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 3), "r");
	char line[ENGINE_BOX_MAX + 2];

	if (f)
		rewind(f); /* the broker has written there */
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = '\0';
		if (engine_box_valid(line))
			leave(k, line, 1, 0);
	}
}

unsigned broker_stuck(const struct keeper *k)
{
	const struct leftover *l;
	unsigned n = 0;

	if (k->engine)
		LIST_FOREACH(l, &k->engine->left, link)
	n += l->refused > 0;
	return n;
}

static void swept(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd)
{
	struct engine_link *g = k->engine;

	(void)c;
	g->sweeping = false;
	g->why = a->err;
	if (a->err.kind != ERR_NONE)
		return;
	g->swept = true;
	log_line(a->stuck ? LOG_WARN : LOG_INFO,
		"Engine: %u containers of before removed, %u could not be", a->count, a->stuck);
	if (*fd >= 0)
		take_stuck(k, *fd);
}

/* Before anything is made: the list of what is ours to keep is empty. */
static void sweep(struct keeper *k)
{
	struct engine_link *g = k->engine;
	struct engine_question q = {.op = ENGINE_SWEEP};
	OWN_FD none = memfd_create("kept", MFD_CLOEXEC);

	g->retry_ms = keeper_now_ms() + RETRY_MS;
	if (none < 0)
		err_set(&g->why, ERR_SETUP, errno, "make a file");
	else
		g->sweeping = broker_ask(k, &q, none, NULL, swept, &g->why) == 0;
}

/* --- what the broker says --- */

static void lost(struct keeper *k)
{
	struct engine_answer none = {.op = ENGINE_LOST};
	struct ask *a;
	int fd = -1;

	err_set(&none.err, ERR_BUSY, EPIPE, "the engine broker died; it is there again");
	while ((a = LIST_FIRST(&k->engine->asks)))
		answer(k, a, &none, &fd);
}

static void state(struct keeper *k, const struct engine_answer *a)
{
	struct engine_link *g = k->engine;

	if (a->err.kind != ERR_NONE)
		log_err(LOG_ERROR, &a->err, "the Engine");
	else
		log_line(LOG_INFO, "the Engine answers again");
	g->why = a->err;
	g->retry_ms = 0;
}

static void dispatch(struct keeper *k, struct engine_answer *a, int *fd)
{
	struct ask *q;

	if (a->op == ENGINE_ENDED) {
		container_has_ended(k, a);
	} else if (a->op == ENGINE_OOM) {
		container_oom(k, a);
	} else if (a->op == ENGINE_STATE) {
		state(k, a);
	} else if (a->op == ENGINE_LOST) {
		lost(k);
	} else {
		LIST_FOREACH(q, &k->engine->asks, link)
		if (q->number == a->number) {
			answer(k, q, a, fd);
			return;
		}
	}
}

static void broker_said(struct keeper *k, struct source *s)
{
	OWN_MEM struct engine_answer *a = malloc(sizeof *a);
	struct err e = {0};
	int got = -1;

	while (a) {
		OWN_FD fd = -1;

		got = engine_hear(s->fd, a, &fd, &e);
		if (got <= 0)
			break;
		dispatch(k, a, &fd);
	}
	if (got == 0)
		return;
	log_err(LOG_ERROR, &e, "the engine broker");
	k->stop = true; /* main starts a keeper that has one */
}

int broker_watch(struct keeper *k, struct err *e)
{
	struct engine_link *g = k->engine;
	int fd;

	if (!g)
		return 0;
	if (container_dirs_open(k, e) < 0)
		return -1;
	fd = take_fd(&g->sock.fd);
	g->sock.ready = broker_said;
	if (keeper_watch(k, &g->sock, fd, e) < 0)
		return -1;
	sweep(k);
	return 0;
}

int broker_retry(struct keeper *k)
{
	struct engine_link *g = k->engine;
	uint64_t now = keeper_now_ms();

	if (!g || (g->swept && LIST_EMPTY(&g->left)))
		return RETRY_NONE_MS;
	if (now < g->retry_ms)
		return (int)(g->retry_ms - now) + 1;
	g->retry_ms = now + RETRY_MS;
	if (!g->swept && !g->sweeping)
		sweep(k);
	ask_removals(k);
	return RETRY_MS;
}

/* Who holds a session. One holder, then a bounded queue in order of arrival. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/keeper_int.h"

struct session *lock_find(struct keeper *k, const char *id)
{
	struct session *s;

	LIST_FOREACH(s, &k->sessions, link)
	if (!strcmp(s->id, id))
		return s;
	return NULL;
}

static struct session *session_new(struct keeper *k, const char *id)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	memcpy(s->id, id, sizeof s->id);
	TAILQ_INIT(&s->waiters);
	LIST_INSERT_HEAD(&k->sessions, s, link);
	return s;
}

int lock_take(struct keeper *k, struct call *c, const char *id, struct err *e)
{
	struct session *s = lock_find(k, id);

	if (!s && !(s = session_new(k, id)))
		return err_set(e, ERR_SETUP, ENOMEM, "session");
	if (!s->holder) {
		s->holder = c;
		c->held = s;
		return 1;
	}
	/* Runs wait for the sandbox to start, not for one another. */
	if ((c->rq.op != KEEPER_RUN && s->nwaiters >= (unsigned)k->conf->session_lock_waiters) ||
		k->conf->session_lock_wait_ms == 0)
		return err_set(e, ERR_BUSY, EWOULDBLOCK, "session is busy");
	c->state = CALL_LOCK;
	c->since_us = stats_now_us();
	c->wanted = s;
	c->deadline_ms = keeper_now_ms() + (uint64_t)k->conf->session_lock_wait_ms;
	TAILQ_INSERT_TAIL(&s->waiters, c, waiting);
	s->nwaiters++;
	return 0;
}

void lock_give_up(struct keeper *k, struct call *c)
{
	struct session *s = c->wanted;

	(void)k;
	TAILQ_REMOVE(&s->waiters, c, waiting);
	s->nwaiters--;
	c->wanted = NULL;
	c->deadline_ms = 0;
	c->state = CALL_IDLE;
}

void lock_forget(struct session *s)
{
	if (s->holder || s->box || s->pinned || !TAILQ_EMPTY(&s->waiters))
		return;
	LIST_REMOVE(s, link);
	free(s);
}

void lock_release(struct keeper *k, struct call *c)
{
	struct session *s = c->held;
	struct call *next;

	if (!s)
		return;
	c->held = NULL;
	s->holder = NULL;
	session_dir_touch(&k->dirs, s->id);
	next = TAILQ_FIRST(&s->waiters);
	if (!next) {
		lock_forget(s);
		return;
	}
	lock_give_up(k, next);
	s->holder = next;
	next->held = s;
	call_locked(k, next);
}

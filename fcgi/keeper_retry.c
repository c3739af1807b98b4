/*
 * Runs that are begun anew when they fail. Nothing but the descriptors of the message is kept for
 * that, so it costs no time until one fails; and it is done where its end is told first, so that a
 * service is back at once, whoever looks.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"

struct run_retry {
	struct keeper_request rq;
	int fd[KEEPER_FDS_MAX];
	uint32_t left;
};

static void retry_free(struct run_retry *t)
{
	for (int i = 0; t && i < KEEPER_FDS_MAX; i++)
		own_close(&t->fd[i]);
	free(t);
}

void retry_drop(struct box_run *r)
{
	retry_free(take_ptr(&r->retry));
}

int retry_keep(struct box_run *r, const struct call *c, struct err *e)
{
	struct run_retry *t;

	if (!c->rq.retries)
		return 0;
	t = calloc(1, sizeof *t);
	if (!t)
		return err_set(e, ERR_SETUP, ENOMEM, "start a run");
	t->rq = c->rq;
	t->left = c->rq.retries;
	for (int i = 0; i < KEEPER_FDS_MAX; i++) {
		t->fd[i] = c->fd[i] < 0 ? -1 : fcntl(c->fd[i], F_DUPFD_CLOEXEC, 3);
		if (c->fd[i] >= 0 && t->fd[i] < 0) {
			err_set(e, ERR_SETUP, errno, "keep a command");
			while (i-- > 0)
				own_close(&t->fd[i]);
			free(t);
			return -1;
		}
	}
	r->retry = t;
	return 0;
}

/* Of its own doing. One that was ended from outside or by its time limit was meant to end; and what
 * filled its disk would be refused again. */
static bool failed(const struct result *r)
{
	return r->verdict == VERDICT_EXIT || r->verdict == VERDICT_SIGNAL ||
	       r->verdict == VERDICT_MEMORY || r->verdict == VERDICT_PIDS ||
	       r->verdict == VERDICT_OUTPUT;
}

void retry_begin(struct keeper *k, struct box *b, struct box_run *r, const struct result *res)
{
	OWN_MEM struct box_run *next = NULL;
	struct run_retry *t = r->retry;
	struct err e = {0};
	OWN_FD sock = -1, spool = -1;

	if (!t || !t->left || !res || !failed(res) || r->forget || !box_usable(b))
		return;
	next = calloc(1, sizeof *next);
	if (next && t->fd[2] >= 0)
		lseek(t->fd[2], 0, SEEK_SET); /* its input from the start */
	if (!next)
		err_set(&e, ERR_SETUP, ENOMEM, "start a run");
	else
		spool = run_begin(k, &(struct run_order){&t->rq, t->fd}, b, next, &sock, &e);
	if (spool < 0) {
		log_err(LOG_WARN, &e, "session %s: run %s is not begun anew", b->session->id,
			r->id);
		return;
	}
	t->left--;
	next->retry = take_ptr(&r->retry);
	log_line(LOG_INFO, "session %s: run %s failed and is begun anew as %s", b->session->id,
		r->id, next->id);
	run_add(b, take_ptr(&next));
}

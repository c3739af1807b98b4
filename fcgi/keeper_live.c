/* Calls that meet a live sandbox in their session. */
#include <errno.h>

#include "fcgi/keeper_int.h"

bool live_open(struct keeper *k, struct call *c)
{
	struct box *b = c->held->box;
	struct err e = {0};

	if (!b)
		return false;
	if (!box_usable(b))
		return box_await_end(b, c);
	if (c->rq.has_archive && b->nruns == 0)
		return box_finish(k, b, c);
	if (c->rq.has_archive)
		err_set(&e, ERR_BUSY, EWOULDBLOCK, "%u runs are in progress", b->nruns);
	else if (box_join(k, b, c, &e) == 0)
		call_ready(k, c);
	if (e.kind != ERR_NONE)
		call_fail(k, c, &e);
	return true;
}

void live_stop(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_STOP};

	if (c->held->box && box_finish(k, c->held->box, c))
		return;
	if (!session_dir_exists(&k->dirs, c->held->id))
		err_set(&rp.err, ERR_NOTFOUND, 0, "no such session");
	call_answer(c, &rp, NULL, 0);
	lock_release(k, c);
}

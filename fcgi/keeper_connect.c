/* Connections to ports of a sandbox: pid 1 makes them, for a socket that a worker gets here. */
#include <errno.h>

#include "fcgi/keeper_int.h"
#include "isolate/own.h"

/* That somebody asks counts as use: of the session, and of a sandbox that would idle. */
void connect_begin(struct keeper *k, struct call *c)
{
	struct session *s = lock_find(k, c->rq.id);
	struct keeper_reply rp = {.op = KEEPER_CONNECT};
	struct err e = {0};
	OWN_FD sock = -1;

	if (!session_dir_exists(&k->dirs, c->rq.id))
		err_set(&e, ERR_NOTFOUND, ENOENT, "no such session");
	else if (!s || !box_usable(s->box))
		err_set(&e, ERR_REQUEST, ENOENT, "nothing runs in the sandbox");
	else if (!follows_full(k, c, &e))
		sock = box_attach(s->box, &e);
	if (sock < 0) {
		call_fail(k, c, &e);
		return;
	}
	session_dir_touch(&k->dirs, c->rq.id);
	box_idle(k, s->box);
	call_answer(c, &rp, &sock, 1);
}

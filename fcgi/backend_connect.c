/* Connections to ports of a sandbox, a worker's side: the keeper names pid 1, which connects. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "fcgi/backend_int.h"
#include "fcgi/keeper.h"
#include "fcgi/keeper_proto.h"
#include "isolate/clock.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"
#include "isolate/proto.h"

/* The socket may still be on its way (connect(2), EINPROGRESS). */
static int await_connected(int fd, int timeout_ms, struct err *e)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int64_t until = clock_ms() + timeout_ms;
	int got, errnum = 0;
	socklen_t n = sizeof errnum;

	do
		got = poll(&p, 1, until > clock_ms() ? (int)(until - clock_ms()) : 0);
	while (got < 0 && errno == EINTR);
	if (got == 0)
		return err_set(e, ERR_LIMIT, ETIMEDOUT, "the port does not answer");
	if (got < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &errnum, &n) < 0)
		return err_set(e, ERR_SETUP, errno, "connect to a port");
	return errnum ? err_set(e, ERR_REQUEST, errnum, "nothing answers at the port") : 0;
}

int backend_connect(struct backend *b, const char *session, unsigned port, int timeout_ms, int conn,
	struct live_connection *out, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_CONNECT, .follow = FOLLOW_WAIT};
	struct proto_request to = {.op = PROTO_CONNECT, .port = port};
	struct run_view v;
	struct keeper_reply rp;
	struct proto_reply pr;
	OWN_FD keeper = keeper_connect(b->conf->state_dir, e), peer = -1, fd = -1;
	int fds[3], got;

	snprintf(rq.id, sizeof rq.id, "%s", session);
	if (keeper < 0 || live_ask(keeper, &rq, NULL, 0, &rp, fds, 1, 1, e) < 0)
		return -1;
	peer = fds[0];
	live_view_init(&v, session);
	v.peer = peer;
	if (fdmsg_send(peer, &to, sizeof to, NULL, 0, 0) < 0)
		return err_set(e, ERR_REQUEST, errno, "the sandbox has ended");
	got = live_hear(&v, timeout_ms, conn, &pr, &fd, e);
	if (got <= 0)
		return got < 0 ? -1
			       : err_set(e, ERR_LIMIT, ETIMEDOUT, "the sandbox does not answer");
	if (pr.op != PROTO_CONNECTED || fd < 0)
		return err_set(e, ERR_BUG, 0, "the sandbox gave no connection");
	if (await_connected(fd, timeout_ms, e) < 0)
		return -1;
	*out = (struct live_connection){take_fd(&fd), take_fd(&keeper)};
	return 0;
}

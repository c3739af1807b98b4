/*
 * A connection to a port of the sandbox's own loopback, for who forwards requests to what listens
 * there (proto.h, CONNECT). Made here because no other process is in that network namespace and not
 * the tenant's; pid 1 waits for nothing: the descriptor goes out while it connects (connect(2),
 * EINPROGRESS), and closes here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "isolate/init.h"
#include "isolate/own.h"

static int start(const struct init_state *s, uint32_t port, struct err *e)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	OWN_FD fd = -1;

	if (s->plan->network == PLAN_NET_HOST) /* that loopback is the machine's */
		return err_set(e, ERR_REQUEST, EACCES, "the sandbox has the machine's network");
	if (port < 1 || port > UINT16_MAX)
		return err_set(e, ERR_REQUEST, 0, "a port is from 1 to 65535");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket in the sandbox");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
		return err_set(e, ERR_REQUEST, errno, "nothing answers at port %u", port);
	return take_fd(&fd);
}

void init_connect(const struct init_state *s, int peer, const struct proto_request *rq)
{
	struct proto_reply rp = {.op = PROTO_CONNECTED, .run = rq->run};
	OWN_FD fd = start(s, rq->port, &rp.err);

	if (fd >= 0) {
		init_reply_fd(s, peer, &rp, fd);
		return;
	}
	rp.op = PROTO_FAILED;
	init_reply(s, peer, &rp);
}

/* The last answer of a pid 1 that ends with it. */
#include "isolate/client.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/tap.h"

/* Our end of a socket whose other end has answered, if it has, and is gone, with an order of ours unread. */
static int left_behind(bool answered)
{
	struct proto_reply rp = {.op = PROTO_DONE, .run = 7, .result = {.verdict = VERDICT_KILLED}};
	int pair[2];
	struct err e;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	ok(client_signal(pair[0], 7, SIGTERM, &e) == 0, "an order that nobody reads");
	if (answered)
		ok(send(pair[1], &rp, sizeof rp, 0) == (ssize_t)sizeof rp, "the last answer");
	close(pair[1]);
	return pair[0];
}

int main(void)
{
	struct proto_reply rp = {.op = 0};
	struct err e = {0};
	int sock = left_behind(true);

	ok(recv(sock, &rp, sizeof rp, 0) < 0 && errno == ECONNRESET,
		"control: the end is told before the answer");
	close(sock);
	sock = left_behind(true);
	ok(client_receive(sock, &rp, &e) == 0 && rp.op == PROTO_DONE && rp.run == 7 &&
			rp.result.verdict == VERDICT_KILLED,
		"the answer is received all the same");
	ok(client_receive(sock, &rp, &e) < 0 && e.kind == ERR_BUSY && e.errnum == EPIPE,
		"then the end");
	close(sock);
	sock = left_behind(false);
	ok(client_receive(sock, &rp, &e) < 0 && e.kind == ERR_BUSY && e.errnum == EPIPE,
		"without an answer it is the end");
	close(sock);
	return done();
}

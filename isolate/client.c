#include "isolate/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "isolate/buf.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"

static int send_request(
	int sock, const struct proto_request *rq, const int *fds, unsigned nfds, struct err *e)
{
	if (fdmsg_send(sock, rq, sizeof *rq, fds, nfds, 0) < 0)
		return err_set(e, ERR_BUSY, errno, "send to the sandbox");
	return 0;
}

int client_make_blob(const struct client_exec *x, struct proto_request *rq, struct err *e)
{
	OWN_BUF b = BUF_INIT(PROTO_BLOB_MAX);
	OWN_FD fd = memfd_create("command", MFD_CLOEXEC);

	buf_add(&b, x->dir, strlen(x->dir) + 1);
	for (const char *const *a = x->argv; *a; a++, rq->nargs++)
		buf_add(&b, *a, strlen(*a) + 1);
	buf_add(&b, x->env, x->env_bytes);
	for (size_t i = 0; i < x->env_bytes; i++)
		rq->nenv += x->env[i] == '\0';
	if (!buf_ok(&b) || rq->nargs > PROTO_ARGS_MAX || rq->nenv > PROTO_ARGS_MAX)
		return err_set(e, ERR_LIMIT, 0,
			"arguments and environment are over %d bytes or %d strings", PROTO_BLOB_MAX,
			PROTO_ARGS_MAX);
	rq->blob_bytes = (uint32_t)b.len;
	if (fd < 0 || write(fd, b.p, b.len) != (ssize_t)b.len)
		return err_set(e, ERR_SETUP, errno, "write the command");
	return take_fd(&fd);
}

int client_check(struct proto_reply *rp, struct err *e)
{
	/* pid 1 lives among hostile processes: believe nothing but numbers in range. */
	if (rp->err.kind < 0 || rp->err.kind >= ERR_KIND_MAX || rp->result.verdict >= VERDICT_MAX ||
		rp->result.exit_code < 0 || rp->result.exit_code > 255 + 128)
		return err_set(e, ERR_BUG, 0, "the sandbox answered out of range");
	rp->err.msg[sizeof rp->err.msg - 1] = '\0';
	if (rp->op != PROTO_FAILED)
		return 0;
	if (e)
		*e = rp->err;
	return -1;
}

int client_send_exec(int sock, const struct client_exec *x, struct err *e)
{
	struct proto_request rq = {.op = PROTO_EXEC,
		.run = x->run,
		.flags = x->flags,
		.timeout_ms = x->timeout_ms,
		.output_max_bytes = x->output_max_bytes};
	unsigned n = x->flags & PROTO_STDIO ? 3 : 1;
	OWN_FD blob = client_make_blob(x, &rq, e);
	int fds[PROTO_FDS_MAX] = {blob, x->fds[0], x->fds[1], x->fds[2]};

	return blob < 0 ? -1 : send_request(sock, &rq, fds, n + 1, e);
}

int client_send(int sock, uint32_t op, struct err *e)
{
	struct proto_request rq = {.op = op};

	return send_request(sock, &rq, NULL, 0, e);
}

int client_kill(int ctl, uint32_t verdict, struct err *e)
{
	struct proto_request rq = {.op = PROTO_KILL, .verdict = verdict};

	return send_request(ctl, &rq, NULL, 0, e);
}

int client_signal(int sock, uint32_t run, int sig, struct err *e)
{
	struct proto_request rq = {.op = PROTO_SIGNAL, .run = run, .signal = (uint32_t)sig};

	return send_request(sock, &rq, NULL, 0, e);
}

int client_open_pty(int sock, struct err *e)
{
	struct proto_request rq = {.op = PROTO_PTY};
	struct proto_reply rp;
	OWN_FD master = -1;
	unsigned n;

	if (send_request(sock, &rq, NULL, 0, e) < 0)
		return -1;
	if (fdmsg_receive(sock, &rp, sizeof rp, &master, 1, &n, 0) <= 0)
		return err_set(e, ERR_BUSY, EPIPE, "the sandbox ended");
	if (client_check(&rp, e) < 0)
		return -1;
	if (rp.op != PROTO_PTY_OPEN || n != 1)
		return err_set(e, ERR_BUG, 0, "the sandbox answered without a pseudo terminal");
	return take_fd(&master);
}

int client_attach(int ctl, int peer, struct err *e)
{
	struct proto_request rq = {.op = PROTO_ATTACH};

	return send_request(ctl, &rq, &peer, 1, e);
}

int client_receive(int sock, struct proto_reply *rp, struct err *e)
{
	ssize_t n = recv(sock, rp, sizeof *rp, 0);

	/* pid 1 has ended with an order of ours unread: that is told first, once, and then what it sent before */
	if (n < 0 && errno == ECONNRESET)
		n = recv(sock, rp, sizeof *rp, 0);
	if (n < 0 && errno == EINTR)
		return err_set(e, ERR_BUSY, EINTR, "wait for the sandbox");
	if (n != (ssize_t)sizeof *rp)
		return err_set(e, ERR_BUSY, EPIPE, "the sandbox ended");
	return client_check(rp, e);
}

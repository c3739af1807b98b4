#include "fcgi/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "fcgi/statesock.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"

enum { ANSWER_S = 30 };

static int body_file(const char *body, size_t n, struct err *e)
{
	OWN_FD fd = -1;

	if (n > INDEX_BODY_MAX)
		return err_set(e, ERR_LIMIT, EFBIG, "a document of %zu bytes; at most %d", n,
			INDEX_BODY_MAX);
	fd = memfd_create("document", MFD_CLOEXEC);
	for (size_t done = 0; fd >= 0 && done < n;) {
		ssize_t w = write(fd, body + done, n - done);

		if (w <= 0)
			return err_set(e, ERR_SETUP, errno, "write a document");
		done += (size_t)w;
	}
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "make a document") : take_fd(&fd);
}

static int read_text(int fd, uint64_t n, char **text, struct err *e)
{
	OWN_MEM char *p = n > INDEX_ANSWER_MAX ? NULL : malloc(n + 1);

	if (!p)
		return err_set(e, ERR_SETUP, ENOMEM, "read the index's answer");
	for (size_t done = 0; done < n;) {
		ssize_t got = pread(fd, p + done, n - done, (off_t)done);

		if (got <= 0)
			return err_set(e, ERR_BUG, errno, "the index's answer is cut short");
		done += (size_t)got;
	}
	p[n] = '\0';
	*text = take_ptr(&p);
	return 0;
}

int index_ask(const char *state_dir, struct index_question *q, const char *body, size_t n,
	struct index_answer *a, char **text, struct err *e)
{
	const struct timeval patience = {.tv_sec = ANSWER_S};
	OWN_FD sock = statesock_connect(state_dir, INDEX_SOCKET, "the index", e);
	OWN_FD given = -1, got = -1;
	unsigned nfds = 0;

	if (text)
		*text = NULL;
	if (sock < 0 || (body && (given = body_file(body, n, e)) < 0))
		return -1;
	q->magic = INDEX_MAGIC;
	/* Whoever hangs there must not hold this worker for ever. */
	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
		return err_set(e, ERR_SETUP, errno, "ask the index");
	if (fdmsg_send(sock, q, sizeof *q, &given, given >= 0, 0) < 0 ||
		fdmsg_receive(sock, a, sizeof *a, &got, 1, &nfds, 0) != 1 ||
		a->magic != INDEX_MAGIC || a->op != q->op)
		return err_set(e, ERR_BUSY, EPIPE, "the index is restarting");
	a->err.msg[sizeof a->err.msg - 1] = '\0';
	if (a->err.kind != ERR_NONE) {
		*e = a->err;
		return -1;
	}
	return text && nfds == 1 ? read_text(got, a->bytes, text, e) : 0;
}

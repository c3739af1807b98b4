#include "isolate/fdmsg.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	char buf[CMSG_SPACE(FDMSG_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int fdmsg_send(int sock, const void *p, size_t n, const int *fds, unsigned nfds, int flags)
{
	union control ctl = {{0}};
	struct iovec iov = {(void *)(uintptr_t)p, n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (nfds > FDMSG_FDS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (nfds > 0) {
		struct cmsghdr *c;

		m.msg_control = ctl.buf;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do
		sent = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)n ? 0 : -1;
}

static void close_all(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

int fdmsg_receive(int sock, void *p, size_t n, int *fds, unsigned max, unsigned *nfds, int flags)
{
	union control ctl;
	struct iovec iov = {p, n};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ctl.buf,
		.msg_controllen = sizeof ctl.buf};
	int got[FDMSG_FDS_MAX];
	struct cmsghdr *c;
	ssize_t len;

	*nfds = 0;
	do
		len = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	/* The other end is gone and has left something of ours unread: told once, and before what that end had sent. */
	if (len < 0 && errno == ECONNRESET)
		len = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	if (len < 0)
		return -1;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(got, CMSG_DATA(c), *nfds * sizeof(int));
	}
	if (len == (ssize_t)n && *nfds <= max && !(m.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
		memcpy(fds, got, *nfds * sizeof(int));
		return 1;
	}
	close_all(got, *nfds);
	if (len == 0 && *nfds == 0)
		return 0;
	*nfds = 0;
	errno = EBADMSG;
	return -1;
}

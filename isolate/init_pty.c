/*
 * A pseudo terminal of the sandbox's own devpts. The master goes to whoever asked, who relays it;
 * the slave is opened from it there (TIOCGPTPEER) and comes back as standard descriptors of a command.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "isolate/init.h"
#include "isolate/own.h"

/* By path: /dev and /dev/pts are mount points of ours, in whose place no link can come. A tenant that
 * took the search permission off its root gets no terminal. */
static int open_master(struct err *e)
{
	OWN_FD fd = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int unlocked = 0;

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open a pseudo terminal");
	if (ioctl(fd, TIOCSPTLCK, &unlocked) < 0)
		return err_set(e, ERR_SETUP, errno, "unlock a pseudo terminal");
	return take_fd(&fd);
}

void init_pty_answer(const struct init_state *s, int peer, uint32_t run)
{
	struct proto_reply rp = {.op = PROTO_PTY_OPEN, .run = run};
	OWN_FD master = open_master(&rp.err);

	if (master < 0) {
		rp.op = PROTO_FAILED;
		init_reply(s, peer, &rp);
		return;
	}
	init_reply_fd(s, peer, &rp, master);
}

void init_pty_resize(int master, uint32_t rows, uint32_t cols)
{
	struct winsize w = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

	ioctl(master, TIOCSWINSZ, &w); /* a size that nobody takes harms nobody */
}

int init_pty_pair(uint32_t rows, uint32_t cols, int *slave, struct err *e)
{
	OWN_FD master = open_master(e);

	if (master < 0)
		return -1;
	init_pty_resize(master, rows, cols);
	*slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return err_set(e, ERR_SETUP, errno, "open a terminal");
	return take_fd(&master);
}

void init_reply_fd(const struct init_state *s, int peer, const struct proto_reply *rp, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl = {{0}};
	struct iovec iov = {(void *)(uintptr_t)rp, sizeof *rp};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ctl.buf,
		.msg_controllen = sizeof ctl.buf};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	/* as in init_reply(): nobody waits for a peer that does not read */
	if (sendmsg(s->peer[peer], &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

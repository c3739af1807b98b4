#include "fcgi/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fcgi/reply.h"
#include "fcgi/request.h"
#include "fcgi/self.h"
#include "isolate/log.h"
#include "isolate/mutate.h"
#include "isolate/own.h"

/* How long a worker listens to a server that still sends a body nobody reads. */
enum { LINGER_MS = 2000 };

union rights {
	struct cmsghdr head;
	char space[CMSG_SPACE(sizeof(int))];
};

int worker_give(int pair, int conn, struct err *e)
{
	char job = 'J';
	struct iovec v = {&job, 1};
	union rights r = {0};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &r, .msg_controllen = sizeof r};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof conn);
	memcpy(CMSG_DATA(h), &conn, sizeof conn);
	if (sendmsg(pair, &m, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		return err_set(e, ERR_SETUP, errno, "give a connection to a worker");
	return 0;
}

/* Waits for a job: its descriptor, or -1 when main closed the pair: it wants one worker less. */
static int worker_take(int pair)
{
	for (;;) {
		char job;
		struct iovec v = {&job, 1};
		union rights r;
		struct msghdr m = {.msg_iov = &v,
			.msg_iovlen = 1,
			.msg_control = &r,
			.msg_controllen = sizeof r};
		ssize_t n = recvmsg(pair, &m, MSG_CMSG_CLOEXEC);
		struct cmsghdr *h = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
		int fd;

		if (n < 0 && errno == EINTR)
			continue;
		if (!h || h->cmsg_type != SCM_RIGHTS || h->cmsg_len != CMSG_LEN(sizeof fd))
			return -1;
		memcpy(&fd, CMSG_DATA(h), sizeof fd);
		return fd;
	}
}

/* Main is gone when this fails, and then the lifeline ends us. */
static void note(int pair, enum worker_note what)
{
	char c = (char)what;

	if (send(pair, &c, 1, MSG_NOSIGNAL) != 1)
		_exit(0);
}

static void note_body(void *arg)
{
	note(*(int *)arg, NOTE_BODY);
}

/*
 * Makes the end of file of the lifeline a SIGKILL from the kernel: a worker may be anywhere,
 * inside a library that waits for a slow peer too.
 */
static int watch_lifeline(int fd, struct err *e)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (MUTATED("lifeline"))
		return 0;
	if (fcntl(fd, F_SETOWN, getpid()) < 0 || fcntl(fd, F_SETSIG, SIGKILL) < 0 ||
		fcntl(fd, F_SETFL, O_ASYNC) < 0)
		return err_set(e, ERR_SETUP, errno, "watch the lifeline");
	/* It may have ended before it was watched. */
	if (poll(&p, 1, 0) != 0)
		return err_set(e, ERR_BUSY, 0, "the main process is gone");
	return 0;
}

static void set_signals(void)
{
	/* Main decides when a worker ends; a ^C on the terminal reaches the whole group. */
	static const int ignored[] = {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
	sigset_t none;

	for (size_t i = 0; i < NELEM(ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_timeouts(int fd, int64_t ms, struct err *e)
{
	struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) < 0)
		return err_set(e, ERR_SETUP, errno, "set timeouts of a connection");
	return 0;
}

static void serve(struct app *app, const struct conf *c, int pair, int fd)
{
	struct http_response rs = {0};
	enum request_fate fate;
	struct err e = {0};
	struct request q;
	int rc = 0;

	fate = request_receive(&q, fd, c, note_body, &pair, &e);
	if (fate == REQUEST_GONE) {
		log_err(LOG_DEBUG, &e, "connection closed");
		request_close(&q, 0);
		return;
	}
	note(pair, NOTE_PARAMS);
	if (fate == REQUEST_REFUSED) {
		log_err(LOG_INFO, &e, "request %s refused with %d", q.id, q.status);
		reply_refuse(&rs, q.status, &e);
	} else {
		rc = app_handle(app, &q.http, &rs);
	}
	if (rc == 0) {
		note(pair, rs.line || rs.more ? NOTE_STREAM : NOTE_REPLY);
		if (reply_send(&q, &rs, &e) < 0)
			log_err(LOG_INFO, &e, "request %s", q.id);
	}
	if (rs.line)
		own_close(&rs.stream);
	if (rs.more)
		rs.more(rs.more_arg, NULL, 0, NULL);
	buf_clear(&rs.body);
	request_close(&q, LINGER_MS);
}

static struct app *prepare(const struct conf *c, int lifeline, struct err *e)
{
	struct app *app;

	if (watch_lifeline(lifeline, e) < 0)
		return NULL;
	/* It installs signal handlers, which ours then replace. */
	if (FCGX_Init() != 0) {
		err_set(e, ERR_SETUP, 0, "initialise libfcgi");
		return NULL;
	}
	set_signals();
	app = app_new(c, e);
	if (!app || self_lock(c, e) < 0)
		return NULL;
	return app;
}

_Noreturn void worker_run(const struct conf *c, int pair, int lifeline)
{
	struct err e = {0};
	struct app *app;
	int fd;

	prctl(PR_SET_NAME, "cgibox-worker", 0, 0, 0);
	app = prepare(c, lifeline, &e);

	if (!app) {
		log_err(LOG_ERROR, &e, "worker does not start");
		_exit(err_exit_code(e.kind));
	}
	note(pair, NOTE_READY);
	while ((fd = worker_take(pair)) >= 0) {
		if (set_timeouts(fd, c->receive_timeout_ms, &e) == 0)
			serve(app, c, pair, fd);
		close(fd);
		note(pair, NOTE_READY);
	}
	app_free(app);
	_exit(0);
}

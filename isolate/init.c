/* pid 1: start-up and the loop. See init.h. */
#include "isolate/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "isolate/clock.h"
#include "isolate/creds.h"
#include "isolate/init_container.h"
#include "isolate/init_guard.h"
#include "isolate/init_net.h"
#include "isolate/init_park.h"
#include "isolate/init_parts.h"
#include "isolate/init_stream.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

static int choose_cpus(const struct plan *p, struct err *e)
{
	bool any = false;

	for (int i = 0; i < PLAN_CPU_WORDS; i++)
		any |= p->cpus[i] != 0;
	if (any && syscall(SYS_sched_setaffinity, 0, sizeof p->cpus, p->cpus) < 0)
		return err_set(e, ERR_SETUP, errno, "run on some processors");
	return 0;
}

static int set_hostname(const struct plan *p, struct err *e)
{
	const char *host = plan_str(p, p->hostname);

	if (host && sethostname(host, strlen(host)) < 0)
		return err_set(e, ERR_SETUP, errno, "set the host name");
	return 0;
}

/* Makes all of the sandbox that needs rights. */
static int build(struct init_state *s, struct init_parts *parts, struct err *e)
{
	bool parked = s->plan->parked;
	struct init_net net;

	if (init_net_begin(&net, s->plan, s->keeper, e) < 0 || creds_bound(e) < 0 ||
		(parked && init_park(s, &net, parts, e) < 0))
		return -1;
	/* Commands cannot run before all of this is in; pasta starts while the root is built, and
	 * makes namespaces of its own before there are quotas. */
	if (set_hostname(s->plan, e) < 0 || choose_cpus(s->plan, e) < 0 ||
		init_root_build(s->plan, parts, &s->null, e) < 0)
		return -1;
	if (parked)
		return 0;
	return init_net_end(&net, s->keeper, e) < 0 ? -1
						    : init_parts_limit(s->plan, parts, s->watch, e);
}

static int settle(struct init_state *s, struct err *e)
{
	struct init_parts parts = INIT_PARTS_NONE;
	int ret;

	umask(022);
	if (!MUTATED("setsid-init") && setsid() < 0 && errno != EPERM)
		return err_set(e, ERR_SETUP, errno, "start a session");
	ret = s->plan->container ? init_container_open(s, e) : build(s, &parts, e);
	init_parts_close(&parts);
	if (ret < 0 || init_drop_rights(s->plan, e) < 0)
		return -1;
	/* After the last change of credentials, which clears it. The socket's end is the proof:
	 * a parent that died before this line is seen there. Not the Engine's process: a thread of it
	 * that ends is such an end too. */
	if (!s->plan->container && !MUTATED("pdeathsig") &&
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "die with the parent");
	return 0;
}

void init_reply(const struct init_state *s, int peer, const struct proto_reply *r)
{
	int fd = peer == -2 ? s->keeper : peer < 0 ? -1 : s->peer[peer];

	if (s->stream) {
		init_stream_reply(s->stream, r);
		return;
	}
	/* A peer that is gone or does not read loses its answer; nobody else may wait for it. */
	if (fd >= 0 && send(fd, r, sizeof *r, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

/* READY goes out with the watchdog's descriptors, of which we keep none. */
static int send_ready(struct init_state *s)
{
	union {
		char buf[CMSG_SPACE(sizeof s->watch)];
		struct cmsghdr align;
	} ctl = {{0}};
	struct proto_reply rp = {.op = PROTO_READY};
	unsigned n = 0; /* none in a container */
	struct iovec iov = {&rp, sizeof rp};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (s->stream) {
		init_stream_reply(s->stream, &rp);
		return 0;
	}
	while (n < NELEM(s->watch) && s->watch[n] >= 0)
		n++;
	if (n == 0)
		return send(s->keeper, &rp, sizeof rp, MSG_NOSIGNAL) == (ssize_t)sizeof rp ? 0 : -1;
	m.msg_control = ctl.buf;
	m.msg_controllen = CMSG_SPACE(n * sizeof(int));
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), s->watch, n * sizeof(int));
	if (sendmsg(s->keeper, &m, MSG_NOSIGNAL) != (ssize_t)sizeof rp)
		return -1;
	for (size_t i = 0; i < NELEM(s->watch); i++)
		own_close(&s->watch[i]);
	return 0;
}

/* What the starter gave: the plan, and a claim's later. In a container there is no starter. */
static int receive_plan(struct init_state *s, const char *mode, struct err *e)
{
	if (mode && !strcmp(mode, PLAN_STREAM_MODE))
		return init_stream_claim(s, e);
	if (mode && init_container_claim(s, e) < 0)
		return -1;
	if (fcntl(PLAN_FD_CLIENT, F_GETFD) >= 0)
		s->peer[0] = PLAN_FD_CLIENT;
	if (!s->plan)
		s->plan = init_map_plan(e);
	return !s->plan || (s->plan->parked && init_park_reserve(e) < 0) ? -1 : 0;
}

/* Who comes too late is told, by the socket that it would have had. */
static void attach_peer(struct init_state *s, int *fd)
{
	struct proto_reply rp = {.op = PROTO_FAILED};

	for (int i = 0; i < PROTO_PEERS_MAX; i++) {
		if (s->peer[i] >= 0)
			continue;
		s->peer[i] = take_fd(fd);
		return;
	}
	err_set(&rp.err, ERR_BUSY, EUSERS, "%d sockets are attached already", PROTO_PEERS_MAX);
	if (send(*fd, &rp, sizeof rp, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void drop_peer(struct init_state *s, int peer)
{
	own_close(&s->peer[peer]);
	s->follow[peer].waits = false;
	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct init_run *r = &s->run[i];

		if (!r->used || r->peer != peer)
			continue;
		r->peer = -1;
		if (r->live && r->flags & PROTO_TREE && !(r->flags & PROTO_KEPT))
			init_tree_end(s, r, VERDICT_KILLED);
	}
}

/* Receives one message with its descriptors. 0: the other end is gone. -1: nothing usable. */
static int receive(int sock, struct proto_request *rq, int fds[PROTO_FDS_MAX], unsigned *nfds)
{
	union {
		char buf[CMSG_SPACE(PROTO_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = {rq, sizeof *rq};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ctl.buf,
		.msg_controllen = sizeof ctl.buf};
	ssize_t n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

	*nfds = 0;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *nfds * sizeof(int));
	}
	if (n == (ssize_t)sizeof *rq && m.msg_flags & MSG_CTRUNC)
		while (*nfds > 0) /* some were lost: answered as malformed, for somebody waits */
			own_close(&fds[--*nfds]);
	if (n == (ssize_t)sizeof *rq)
		return 1;
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ? 0 : -1;
}

static void obey(
	struct init_state *s, int peer, const struct proto_request *rq, int *fds, unsigned nfds)
{
	struct proto_reply quiet = {.op = PROTO_QUIET, .run = rq->run};

	switch (rq->op) {
	case PROTO_ATTACH:
		if (peer == -2 && nfds == 1)
			attach_peer(s, &fds[0]);
		break;
	case PROTO_EXEC:
		if (peer >= 0)
			init_run_start(s, peer, rq, fds, nfds);
		break;
	case PROTO_KILL:
		init_run_kill_all(s,
			peer == -2 && rq->verdict < VERDICT_MAX ? rq->verdict : VERDICT_KILLED,
			NULL);
		break;
	case PROTO_SIGNAL:
		init_run_signal(s, peer, rq->run, rq->signal);
		break;
	case PROTO_PTY:
		if (peer >= 0)
			init_pty_answer(s, peer, rq->run);
		break;
	case PROTO_CONNECT:
		if (peer >= 0)
			init_connect(s, peer, rq);
		break;
	case PROTO_FOLLOW:
	case PROTO_INPUT:
	case PROTO_EOF:
	case PROTO_RESIZE:
	case PROTO_END:
	case PROTO_BEGIN:
		init_live_obey(s, peer, rq, fds, nfds);
		break;
	case PROTO_FINISH:
		init_run_kill_all(s, VERDICT_KILLED, NULL);
		init_reply(s, peer, &quiet);
		break;
	}
}

/* Returns false when the socket's other end is gone. */
static bool serve_socket(struct init_state *s, int sock, int peer)
{
	struct proto_request rq;
	int fds[PROTO_FDS_MAX];
	unsigned nfds;
	int got = receive(sock, &rq, fds, &nfds);

	if (got > 0)
		obey(s, peer, &rq, fds, nfds);
	for (unsigned i = 0; i < nfds; i++)
		own_close(&fds[i]);
	return got != 0;
}

/* One SIGCHLD a round: they do not queue, and a tenant may send them faster than we read. True:
 * children may be left that no signal tells of again. */
static bool drain_signals(struct init_state *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof info) < 0 && errno != EAGAIN)
		return false;
	return init_run_reap(s);
}

enum {
	POLL_KEEPER,
	POLL_SIGNALS,
	POLL_RUNS,
	POLL_PEERS = POLL_RUNS + 2 * PROTO_RUNS_MAX, /* last: mostly there are few */
	POLL_MAX = POLL_PEERS + PROTO_PEERS_MAX
};

/* How many of p there are to look at. */
static nfds_t fill_poll(const struct init_state *s, struct pollfd *p)
{
	int peers = PROTO_PEERS_MAX;

	p[POLL_KEEPER] = (struct pollfd){.fd = s->keeper, .events = POLLIN};
	p[POLL_SIGNALS] = (struct pollfd){.fd = s->signals, .events = POLLIN};
	for (int i = 0; i < 2 * PROTO_RUNS_MAX; i++) {
		const struct init_run *r = &s->run[i / 2];

		p[POLL_RUNS + i] = (struct pollfd){
			.fd = r->used ? r->out[i % 2] : -1, .events = POLLIN};
	}
	while (peers > 0 && s->peer[peers - 1] < 0)
		peers--;
	for (int i = 0; i < peers; i++)
		p[POLL_PEERS + i] = (struct pollfd){.fd = s->peer[i], .events = POLLIN};
	return POLL_PEERS + (nfds_t)peers;
}

bool init_is_wanted(const struct init_state *s)
{
	struct pollfd p[1 + PROTO_PEERS_MAX];
	uint64_t now = (uint64_t)clock_us();

	p[0] = (struct pollfd){
		.fd = s->stream ? init_stream_input(s->stream) : s->keeper, .events = POLLIN};
	for (int i = 0; i < PROTO_PEERS_MAX; i++)
		p[1 + i] = (struct pollfd){.fd = s->peer[i], .events = POLLIN};
	if (poll(p, NELEM(p), 0) > 0)
		return true;
	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		const struct init_run *r = &s->run[i];

		if (r->used && r->live && r->deadline_us && r->deadline_us <= now)
			return true;
	}
	return false;
}

/* Serves until the keeper's end of the socket closes, or a last command ends: then pid 1 ends, and with it everything. */
static void serve(struct init_state *s)
{
	struct pollfd p[POLL_MAX];
	bool more = false;
	nfds_t n;

	for (;;) {
		int wait = init_run_deadlines(s);

		init_live_wake(s);
		n = fill_poll(s, p);
		if (poll(p, n, more ? 0 : wait) < 0 && errno != EINTR)
			return;
		if (p[POLL_KEEPER].revents && !serve_socket(s, s->keeper, -2)) {
			if (MUTATED("ctl-end"))
				s->keeper = -1;
			else
				return;
		}
		for (int i = 0; i < 2 * PROTO_RUNS_MAX; i++)
			if (p[POLL_RUNS + i].revents && s->run[i / 2].used)
				init_run_pump(&s->run[i / 2], i % 2);
		if (more || p[POLL_SIGNALS].revents)
			more = drain_signals(s);
		/* n is of before: who was attached meanwhile is looked at in the next round. */
		for (int i = 0; POLL_PEERS + (nfds_t)i < n; i++)
			if (p[POLL_PEERS + i].revents && s->peer[i] >= 0) {
				s->slow = false;
				if (!serve_socket(s, s->peer[i], i))
					drop_peer(s, i);
				if (s->slow)
					break; /* the keeper may have waited */
			}
	}
}

/*
 * What our parent ignores, a payload must not. By the raw call: a libc keeps the first real-time
 * signals to itself and refuses them.
 */
static void reset_dispositions(void)
{
	const struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		uint64_t mask;
	} dfl = {.handler = SIG_DFL};

	for (int sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, &dfl, NULL, sizeof dfl.mask);
}

static int open_signals(struct init_state *s, struct err *e)
{
	sigset_t all;

	if (!MUTATED("signal-dispositions"))
		reset_dispositions();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	s->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? err_set(e, ERR_SETUP, errno, "make a signalfd") : 0;
}

int main(int argc, char **argv)
{
	static struct init_state s;
	struct proto_reply rp = {.op = PROTO_FAILED};
	bool container = init_container(argc, argv);

	if (argc == 2 && !container)
		return init_guard(argv[1]);
	s.keeper = PLAN_FD_KEEPER;
	s.oom = -1;
	for (int i = 0; i < PROTO_PEERS_MAX; i++)
		s.peer[i] = -1;
	for (size_t i = 0; i < NELEM(s.watch); i++)
		s.watch[i] = -1;
	for (int fd = PLAN_FD_KEEPER; fd <= PLAN_FD_LAST; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC); /* fails for what is absent */
	prctl(PR_SET_NAME, "init", 0, 0, 0);
	if (receive_plan(&s, container ? argv[1] : NULL, &rp.err) < 0 ||
		open_signals(&s, &rp.err) < 0 || settle(&s, &rp.err) < 0) {
		init_reply(&s, -2, &rp);
		return 1;
	}
	if (send_ready(&s) < 0)
		return 1;
	if (s.stream)
		init_stream_serve(&s);
	else
		serve(&s);
	return 0;
}

/* The relay's process: its birth, its sockets, its loop. See relay.h. */
#include "fcgi/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "fcgi/capabilities.h"
#include "fcgi/relay_int.h"
#include "fcgi/self.h"
#include "isolate/clock.h"
#include "isolate/creds.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/plan.h"
#include "isolate/sys.h"

enum { CLAIM_FDS = PLAN_FD_LAST - PLAN_FD_PLAN + 1, READ_BYTES = 65536 };

/* --- to keeper and workers --- */

static int socket_of(const struct relay *r, int peer)
{
	return peer == RELAY_KEEPER ? r->keeper : peer < 0 ? -1 : r->peer[peer].fd;
}

void relay_reply_fd(struct relay *r, int peer, const struct proto_reply *rp, int fd)
{
	int sock = socket_of(r, peer);

	/* A peer that is gone or does not read loses its answer; nobody else may wait for it. */
	if (sock >= 0 &&
		fdmsg_send(sock, rp, sizeof *rp, &fd, fd >= 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

void relay_reply(struct relay *r, int peer, const struct proto_reply *rp)
{
	relay_reply_fd(r, peer, rp, -1);
}

/* --- what they ask --- */

static void attach_peer(struct relay *r, int *fd)
{
	struct proto_reply rp = {.op = PROTO_FAILED};

	for (int i = 0; i < PROTO_PEERS_MAX; i++) {
		if (r->peer[i].fd >= 0)
			continue;
		r->peer[i] = (struct relay_peer){.fd = take_fd(fd)};
		return;
	}
	err_set(&rp.err, ERR_BUSY, EUSERS, "%d sockets are attached already", PROTO_PEERS_MAX);
	if (send(*fd, &rp, sizeof rp, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void answer_input(struct relay *r, int peer, const struct relay_run *x, uint32_t run)
{
	struct proto_reply rp = {.op = PROTO_INPUT_OPEN, .run = run};

	if (x && x->writer >= 0) {
		relay_reply_fd(r, peer, &rp, x->writer);
		return;
	}
	rp.op = PROTO_FAILED;
	err_set(&rp.err, ERR_NOTFOUND, 0, "%s", x ? "the input is closed" : "the run has ended");
	relay_reply(r, peer, &rp);
}

static void refuse(struct relay *r, int peer, uint32_t run, enum capability lacks)
{
	struct proto_reply rp = {.op = PROTO_FAILED, .run = run};

	capability_lacking(lacks, &rp.err);
	relay_reply(r, peer, &rp);
}

/* What any of them may ask about a run with a kept output. */
static void obey_live(struct relay *r, int peer, const struct proto_request *rq)
{
	struct relay_run *x = relay_run_kept(r, rq->run);
	const struct proto_reply done = {.op = PROTO_DONE, .run = rq->run};

	switch (rq->op) {
	case PROTO_FOLLOW:
		if (peer >= 0) {
			r->peer[peer].follows = true;
			r->peer[peer].run = rq->run;
			r->peer[peer].offset = rq->offset;
		}
		break;
	case PROTO_INPUT:
		if (peer >= 0)
			answer_input(r, peer, x, rq->run);
		break;
	case PROTO_EOF:
		if (x)
			relay_run_eof(x);
		break;
	case PROTO_END:
		if (x && peer == RELAY_KEEPER)
			relay_run_end(r, x, VERDICT_KILLED);
		else if (peer == RELAY_KEEPER)
			relay_reply(r, peer, &done);
		break;
	case PROTO_BEGIN:
		if (x && peer == RELAY_KEEPER)
			relay_run_begin(x, rq->timeout_ms);
		break;
	default:
		break;
	}
}

static void obey(struct relay *r, int peer, const struct proto_request *rq, int *fds, unsigned nfds)
{
	uint32_t verdict = peer == RELAY_KEEPER && rq->verdict < VERDICT_MAX ? rq->verdict
									     : VERDICT_KILLED;

	switch (rq->op) {
	case PROTO_ATTACH:
		if (peer == RELAY_KEEPER && nfds == 1)
			attach_peer(r, &fds[0]);
		break;
	case PROTO_EXEC:
		if (peer >= 0)
			relay_run_start(r, peer, rq, fds, nfds);
		break;
	case PROTO_KILL:
		relay_run_kill_all(r, verdict, NULL);
		break;
	case PROTO_FINISH:
		relay_run_kill_all(r, VERDICT_KILLED, NULL);
		r->quiet_for = peer;
		r->quiet_wanted = true;
		break;
	case PROTO_SIGNAL:
		relay_run_signal(r, peer, rq->run, rq->signal);
		break;
	case PROTO_PTY:
		refuse(r, peer, rq->run, CAN_TERMINAL);
		break;
	case PROTO_CONNECT:
		refuse(r, peer, rq->run, CAN_PORTS);
		break;
	default:
		obey_live(r, peer, rq);
	}
}

/* False: the other end is gone. */
static bool serve_socket(struct relay *r, int peer)
{
	struct proto_request rq;
	int fds[PROTO_FDS_MAX] = {-1, -1, -1, -1};
	unsigned nfds = 0;
	int got = fdmsg_receive(
		socket_of(r, peer), &rq, sizeof rq, fds, PROTO_FDS_MAX, &nfds, MSG_DONTWAIT);

	if (got > 0)
		obey(r, peer, &rq, fds, nfds);
	for (unsigned i = 0; got > 0 && i < nfds; i++)
		own_close(&fds[i]);
	return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR || errno == EBADMSG));
}

static void drop_peer(struct relay *r, int peer)
{
	own_close(&r->peer[peer].fd);
	r->peer[peer].follows = false;
	relay_run_peer_gone(r, peer);
}

static void wake(struct relay *r)
{
	for (int i = 0; i < PROTO_PEERS_MAX; i++) {
		struct relay_peer *p = &r->peer[i];
		struct proto_reply rp = {.op = PROTO_MORE, .run = p->run};
		const struct relay_run *x;

		if (!p->follows || p->fd < 0)
			continue;
		x = relay_run_kept(r, p->run);
		if (x && x->kept.head->written <= p->offset)
			continue;
		p->follows = false;
		relay_reply(r, i, &rp);
	}
}

/* --- pid 1 --- */

/* READY and what comes instead; all else is about commands. */
static void heard_itself(struct relay *r, const struct stream_frame *f)
{
	struct proto_reply rp;

	if (f->type != STREAM_REPLY) {
		r->over = true;
		return;
	}
	memcpy(&rp, f->data, sizeof rp);
	rp.err.msg[sizeof rp.err.msg - 1] = '\0';
	r->told |= rp.op == PROTO_READY || rp.op == PROTO_FAILED;
	if (rp.err.kind < ERR_NONE || rp.err.kind >= ERR_KIND_MAX)
		r->over = true;
	else if (rp.op == PROTO_READY)
		relay_reply(r, RELAY_KEEPER, &(struct proto_reply){.op = PROTO_READY});
	else if (rp.op == PROTO_FAILED && rp.err.kind != ERR_NONE)
		relay_reply(r, RELAY_KEEPER, &(struct proto_reply){.op = rp.op, .err = rp.err});
	else if (rp.op == PROTO_QUIET && r->quiet_wanted) {
		r->quiet_wanted = false;
		relay_reply(r, r->quiet_for, &(struct proto_reply){.op = PROTO_QUIET});
	} else if (rp.op != PROTO_QUIET)
		r->over = true;
}

static void hear(struct relay *r)
{
	char in[READ_BYTES];
	struct stream_frame f;
	ssize_t n;
	size_t room;
	char *p = stream_space(&r->from, &room);
	long got;
	int more;

	/* what is left there is less than one frame */
	n = recv(r->stream, in, sizeof in < room ? sizeof in : room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	got = n > 0 ? engine_frames_take(&r->frames, in, (size_t)n, p) : -1;
	if (got < 0) {
		r->over = true;
		return;
	}
	stream_fed(&r->from, (size_t)got);
	while (!r->over && (more = stream_next(&r->from, true, &f)) != 0) {
		if (more < 0)
			r->over = true;
		else if (f.run == 0)
			heard_itself(r, &f);
		else
			relay_run_heard(r, &f);
	}
}

static void flush(struct relay *r)
{
	size_t n;
	const char *p = stream_pending(&r->to, &n);
	ssize_t w = n ? send(r->stream, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (w > 0)
		stream_wrote(&r->to, (size_t)w);
	else if (w < 0 && errno != EAGAIN && errno != EINTR)
		r->over = true;
	if (w > 0 || n == 0)
		r->read_ms = clock_ms();
	else if (clock_ms() - r->read_ms > RELAY_STALL_MS)
		r->over = true;
}

static void send_plan(struct relay *r)
{
	char part[STREAM_DATA_MAX];

	while (r->plan >= 0 && stream_room(&r->to) >= STREAM_RESERVE + STREAM_DATA_MAX) {
		ssize_t n = pread(r->plan, part, sizeof part, (off_t)r->plan_sent);

		if (n > 0) {
			stream_put(&r->to, STREAM_BLOB, 0, part, (size_t)n);
			r->plan_sent += (uint64_t)n;
			continue;
		}
		own_close(&r->plan);
		r->over = n < 0 || !stream_put(&r->to, STREAM_CLAIM, 0, NULL, 0);
	}
}

/* --- the loop --- */

enum {
	P_KEEPER,
	P_STREAM,
	P_PEERS,
	P_INPUTS = P_PEERS + PROTO_PEERS_MAX,
	P_COUNT = P_INPUTS + PROTO_RUNS_MAX
};

static void fill_poll(const struct relay *r, struct pollfd *p)
{
	size_t room = stream_room(&r->to), n;
	bool data = room >= STREAM_RESERVE + STREAM_DATA_MAX;
	/* a request may put a word for each run there */
	bool asks = room >= STREAM_RESERVE / 2;

	stream_pending(&r->to, &n);
	p[P_KEEPER] = (struct pollfd){.fd = r->keeper, .events = asks ? POLLIN : 0};
	p[P_STREAM] = (struct pollfd){
		.fd = r->stream, .events = (short)(POLLIN | (n ? POLLOUT : 0))};
	for (int i = 0; i < PROTO_PEERS_MAX; i++)
		p[P_PEERS + i] = (struct pollfd){.fd = asks ? r->peer[i].fd : -1, .events = POLLIN};
	for (int i = 0; i < PROTO_RUNS_MAX; i++)
		p[P_INPUTS + i] = (struct pollfd){
			.fd = data && relay_run_wants_input(&r->run[i]) ? r->run[i].input : -1,
			.events = POLLIN};
}

/* Until either side is gone. */
static void serve(struct relay *r)
{
	struct pollfd p[P_COUNT];

	r->read_ms = clock_ms();
	while (!r->over) {
		int wait = relay_run_deadlines(r);
		size_t n;

		send_plan(r);
		if (r->plan < 0)
			relay_run_feed(r);
		flush(r);
		wake(r);
		stream_pending(&r->to, &n);
		if (n && (wait < 0 || wait > RELAY_STALL_MS))
			wait = RELAY_STALL_MS;
		fill_poll(r, p);
		if (r->over || (poll(p, P_COUNT, wait) < 0 && errno != EINTR))
			return;
		if (p[P_STREAM].revents & (POLLIN | POLLHUP | POLLERR))
			hear(r);
		if (p[P_KEEPER].revents && !serve_socket(r, RELAY_KEEPER))
			return;
		for (int i = 0; i < PROTO_PEERS_MAX; i++)
			if (p[P_PEERS + i].revents && r->peer[i].fd >= 0 && !serve_socket(r, i))
				drop_peer(r, i);
	}
}

/* An Engine that ends takes the stream along: it may be tried again. */
static void tell_lost(struct relay *r)
{
	struct proto_reply rp = {.op = PROTO_FAILED};

	err_set(&rp.err, ERR_BUSY, EPIPE, "the container's stream ended before it was ready");
	if (!r->told)
		relay_reply(r, RELAY_KEEPER, &rp);
}

/* --- its birth --- */

/* The plan, and a first client; what else a claim brings is of no use there. */
static int await_claim(struct relay *r, struct err *e)
{
	int fds[CLAIM_FDS], at = 0;
	struct proto_request rq;
	unsigned nfds;

	if (fdmsg_receive(r->keeper, &rq, sizeof rq, fds, CLAIM_FDS, &nfds, 0) != 1 ||
		rq.op != PROTO_CLAIM || nfds == 0)
		return err_set(e, ERR_BUSY, EPIPE, "wait for a claim");
	r->plan = fds[at++];
	if (rq.flags >> (PLAN_FD_CLIENT - PLAN_FD_PLAN) & 1 && nfds > 1)
		r->peer[0].fd = fds[at++];
	for (unsigned i = (unsigned)at; i < nfds; i++)
		own_close(&fds[i]);
	return 0;
}

/* Unix addresses hold 107 bytes: by way of the descriptor. */
static int connect_keeper(int dir, const char *name, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	OWN_FD s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dir, name);
	if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof a) < 0)
		return err_set(e, ERR_SETUP, errno, "connect to the keeper");
	return take_fd(&s);
}

/* Descriptors but these two, which become 3 and 4, are the keeper's. */
static int keep_two(int *a, int *b)
{
	int x = fcntl(*a, F_DUPFD_CLOEXEC, 5), y = fcntl(*b, F_DUPFD_CLOEXEC, 5);

	if (x < 0 || y < 0)
		return -1;
	*a = dup3(x, 3, O_CLOEXEC);
	*b = dup3(y, 4, O_CLOEXEC);
	return *a < 0 || *b < 0 ? -1 : sys_close_range(5, ~0U, 0);
}

static int settle(struct relay *r, int stream, int dir, const char *name, struct err *e)
{
	int keeper = connect_keeper(dir, name, e);

	if (keeper < 0)
		return -1;
	if (keep_two(&stream, &keeper) < 0)
		return err_set(e, ERR_SETUP, errno, "keep two descriptors");
	r->stream = stream;
	r->keeper = keeper;
	for (int i = 0; i < PROTO_PEERS_MAX; i++)
		r->peer[i].fd = -1;
	r->plan = -1;
	return creds_keep(0, e) < 0 ? -1 : self_lock_relay(e);
}

static _Noreturn void relay_main(int stream, int dir, const char *name)
{
	struct relay *r = calloc(1, sizeof *r);
	struct err e = {0};

	prctl(PR_SET_NAME, "cgibox-relay", 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	if (!r)
		err_set(&e, ERR_SETUP, ENOMEM, "relay");
	else if (settle(r, stream, dir, name, &e) == 0 && await_claim(r, &e) == 0) {
		serve(r);
		tell_lost(r);
	}
	if (e.kind != ERR_NONE && e.errnum != EPIPE)
		log_err(LOG_ERROR, &e, "relay of a container");
	_exit(0);
}

pid_t relay_start(int stream, int dir, const char *name, struct err *e)
{
	pid_t pid = fork();

	if (pid == 0)
		relay_main(stream, dir, name);
	return pid < 0 ? err_set(e, ERR_SETUP, errno, "fork a relay") : pid;
}

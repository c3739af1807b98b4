#include "isolate/init_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include "isolate/init_park.h"
#include "isolate/own.h"
#include "isolate/stream.h"

enum {
	CHANNELS = 2 * PROTO_RUNS_MAX, /* those whose descendants still hold a pipe, too */
	LAST_PUMPS = 32,               /* of STREAM_DATA_MAX, after a command's end: 1 MiB */
	REPLY_BYTES = sizeof(struct stream_head) + sizeof(struct proto_reply),
};

/* The streams of one command. */
struct channel {
	uint32_t run;   /* 0: free */
	int in, out[2]; /* our ends; -1: closed */
	bool eof;       /* no more input comes */
	unsigned held, start;
	char input[STREAM_WINDOW];
	bool ended; /* `last` is told when its output is, or when that is too much */
	unsigned pumps[2];
	struct proto_reply last;
};

struct init_stream {
	int in, out;
	bool broken;
	int blob; /* -1: none begun */
	size_t blob_bytes;
	bool quiet; /* to be told after all that has ended */
	struct stream_buf from, to;
	struct channel channel[CHANNELS];
};

static struct channel *channel_of(struct init_stream *t, uint32_t run)
{
	for (int i = 0; i < CHANNELS && run; i++)
		if (t->channel[i].run == run)
			return &t->channel[i];
	return NULL;
}

static void channel_close(struct channel *c)
{
	own_close(&c->in);
	own_close(&c->out[0]);
	own_close(&c->out[1]);
	c->run = 0;
}

/* A free one; else one whose command has ended: its writers get SIGPIPE from now on. */
static struct channel *channel_new(struct init_stream *t, uint32_t run)
{
	struct channel *c = NULL;

	for (int i = 0; i < CHANNELS && !c; i++)
		if (!t->channel[i].run)
			c = &t->channel[i];
	for (int i = 0; i < CHANNELS && !c; i++)
		if (t->channel[i].ended && t->channel[i].last.op == 0)
			c = &t->channel[i];
	if (!c)
		return NULL;
	channel_close(c);
	c->run = run;
	c->eof = c->ended = false;
	c->held = c->start = c->pumps[0] = c->pumps[1] = 0;
	return c;
}

/* --- to the relay --- */

static bool room_for_data(const struct init_stream *t)
{
	return stream_room(&t->to) >= STREAM_RESERVE + STREAM_DATA_MAX;
}

static void tell_ended(struct init_stream *t, struct channel *c)
{
	if (stream_room(&t->to) < REPLY_BYTES)
		return;
	stream_put(&t->to, STREAM_REPLY, c->run, &c->last, sizeof c->last);
	c->last.op = 0;
	own_close(&c->in);
	if (c->out[0] < 0 && c->out[1] < 0)
		channel_close(c);
}

static void flush(struct init_stream *t)
{
	size_t n;
	const char *p = stream_pending(&t->to, &n);
	ssize_t w = n ? write(t->out, p, n) : 0;

	if (w > 0)
		stream_wrote(&t->to, (size_t)w);
	else if (w < 0 && errno != EAGAIN && errno != EINTR)
		t->broken = true;
}

void init_stream_reply(struct init_stream *t, const struct proto_reply *r)
{
	struct channel *c = channel_of(t, r->run);

	if (r->op == PROTO_QUIET) {
		t->quiet = true;
	} else if (c && (r->op == PROTO_DONE || r->op == PROTO_FAILED)) {
		c->ended = true;
		c->last = *r;
	} else {
		stream_put(&t->to, STREAM_REPLY, r->run, r, sizeof *r);
		flush(t); /* it may be the last word */
	}
}

/* One read of what a command has written. What comes after its end was told is dropped. */
static void pump(struct init_stream *t, struct channel *c, int which)
{
	static char chunk[STREAM_DATA_MAX];
	bool told = c->ended && c->last.op == 0;
	ssize_t n;

	if (c->out[which] < 0 || (!told && !room_for_data(t)))
		return;
	n = read(c->out[which], chunk, sizeof chunk);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (c->ended)
			c->pumps[which] = LAST_PUMPS; /* all of it is there */
		return;
	}
	if (n <= 0)
		own_close(&c->out[which]);
	else if (!told)
		stream_put(&t->to, which ? STREAM_ERR : STREAM_OUT, c->run, chunk, (size_t)n);
	c->pumps[which] += c->ended;
}

/* What a command has left in its pipes goes before its end, but for an endless writer's. */
static void finish(struct init_stream *t, struct channel *c)
{
	for (int i = 0; i < 2; i++)
		while (c->out[i] >= 0 && c->pumps[i] < LAST_PUMPS) {
			if (!room_for_data(t))
				return;
			pump(t, c, i);
		}
	tell_ended(t, c);
}

/* True: something is left for want of room. */
static bool finish_all(struct init_stream *t)
{
	struct proto_reply quiet = {.op = PROTO_QUIET};
	bool any = false;

	for (int i = 0; i < CHANNELS; i++) {
		struct channel *c = &t->channel[i];

		if (c->run && c->ended && c->last.op != 0)
			finish(t, c);
		any |= c->run && c->ended && c->last.op != 0;
		if (c->run && c->ended && c->last.op == 0 && c->out[0] < 0 && c->out[1] < 0)
			channel_close(c);
	}
	if (t->quiet && !any)
		t->quiet = !stream_put(&t->to, STREAM_REPLY, 0, &quiet, sizeof quiet);
	return any || t->quiet;
}

/* --- a command's input --- */

static void give_input(struct init_stream *t, struct channel *c)
{
	unsigned n = c->held < STREAM_WINDOW - c->start ? c->held : STREAM_WINDOW - c->start;
	uint32_t taken;
	ssize_t w;

	if (n > 0 && stream_room(&t->to) < STREAM_RESERVE)
		return;
	w = c->in < 0 ? (ssize_t)n : n ? write(c->in, c->input + c->start, n) : 0;
	if (w < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (w < 0) {
		own_close(&c->in); /* nobody reads it any more: what comes is dropped */
		w = (ssize_t)n;
	}
	taken = (uint32_t)w;
	c->start = (c->start + taken) % STREAM_WINDOW;
	c->held -= taken;
	if (taken > 0)
		stream_put(&t->to, STREAM_CREDIT, c->run, &taken, sizeof taken);
	if (c->eof && c->held == 0)
		own_close(&c->in);
}

static void take_input(struct init_stream *t, const struct stream_frame *f)
{
	struct channel *c = channel_of(t, f->run);
	unsigned at;

	if (!c)
		return; /* it has ended */
	if (f->bytes > STREAM_WINDOW - c->held) {
		t->broken = true; /* no relay of ours */
		return;
	}
	at = (c->start + c->held) % STREAM_WINDOW;
	for (uint32_t i = 0; i < f->bytes; i++)
		c->input[(at + i) % STREAM_WINDOW] = f->data[i];
	c->held += f->bytes;
	give_input(t, c);
}

/* --- what the relay says --- */

/* Our end of a pipe does not block; the command's is in *theirs. */
static int make_pipe(int *ours, int *theirs, bool to)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	*ours = p[to];
	*theirs = p[!to];
	return fcntl(*ours, F_SETFL, O_NONBLOCK);
}

static int open_streams(struct channel *c, const struct proto_request *rq, int null, int fds[3])
{
	if (rq->flags & PROTO_STDIN ? make_pipe(&c->in, &fds[0], true) < 0
				    : (fds[0] = fcntl(null, F_DUPFD_CLOEXEC, 3)) < 0)
		return -1;
	if (make_pipe(&c->out[0], &fds[1], false) < 0)
		return -1;
	if (!(rq->flags & PROTO_MERGE))
		return make_pipe(&c->out[1], &fds[2], false);
	fds[2] = fcntl(fds[1], F_DUPFD_CLOEXEC, 3);
	return fds[2] < 0 ? -1 : 0;
}

static bool runs(const struct init_state *s, uint32_t run)
{
	for (int i = 0; i < PROTO_RUNS_MAX; i++)
		if (s->run[i].used && s->run[i].live && s->run[i].id == run)
			return true;
	return false;
}

static void start(struct init_state *s, const struct stream_frame *f)
{
	struct init_stream *t = s->stream;
	struct proto_reply rp = {.op = PROTO_FAILED, .run = f->run};
	struct channel *c = channel_new(t, f->run);
	int fds[PROTO_FDS_MAX] = {take_fd(&t->blob), -1, -1, -1};
	struct proto_request rq;

	memcpy(&rq, f->data, sizeof rq);
	rq.run = f->run;
	if (!c) {
		err_set(&rp.err, ERR_LIMIT, 0, "%d commands run already", CHANNELS);
		init_stream_reply(t, &rp);
	} else if (open_streams(c, &rq, s->null, fds + 1) < 0) {
		err_set(&rp.err, ERR_SETUP, errno, "make a pipe");
		init_stream_reply(t, &rp);
	} else {
		rq.flags = (rq.flags & (PROTO_SHELL | PROTO_TREE)) | PROTO_STDIO;
		rq.timeout_ms = 0;
		init_run_start(s, 0, &rq, fds, PROTO_FDS_MAX);
		rp.op = PROTO_STARTED;
		if (runs(s, f->run))
			init_stream_reply(t, &rp);
	}
	for (int i = 0; i < PROTO_FDS_MAX; i++)
		own_close(&fds[i]);
}

static void take_blob(struct init_stream *t, const struct stream_frame *f)
{
	if (t->blob < 0) {
		t->blob = memfd_create("blob", MFD_CLOEXEC);
		t->blob_bytes = 0;
	}
	t->blob_bytes += f->bytes;
	if (t->blob < 0 || t->blob_bytes > PROTO_BLOB_MAX ||
		write(t->blob, f->data, f->bytes) != (ssize_t)f->bytes)
		t->broken = true;
}

static struct init_run *run_of(struct init_state *s, uint32_t run)
{
	for (int i = 0; i < PROTO_RUNS_MAX && run; i++)
		if (s->run[i].used && s->run[i].live && s->run[i].id == run)
			return &s->run[i];
	return NULL;
}

static void obey(struct init_state *s, const struct stream_frame *f)
{
	struct init_run *r = run_of(s, f->run);
	struct channel *c = channel_of(s->stream, f->run);
	uint32_t word = 0;

	if (f->bytes == sizeof word)
		memcpy(&word, f->data, sizeof word);
	switch (f->type) {
	case STREAM_BLOB:
		take_blob(s->stream, f);
		break;
	case STREAM_EXEC:
		start(s, f);
		break;
	case STREAM_INPUT:
		take_input(s->stream, f);
		break;
	case STREAM_EOF:
		if (c) {
			c->eof = true;
			give_input(s->stream, c);
		}
		break;
	case STREAM_SIGNAL:
		init_run_signal(s, 0, f->run, word);
		break;
	case STREAM_END:
		if (r)
			init_tree_end(s, r, word);
		break;
	case STREAM_KILL:
		init_run_kill_all(s, word, r);
		s->stream->quiet = true;
		break;
	default:
		s->stream->broken = true;
	}
}

/* Reads what is there; false: the relay is gone. */
static bool hear(struct init_stream *t)
{
	size_t room;
	char *p = stream_space(&t->from, &room);
	ssize_t n = room ? read(t->in, p, room) : 1;

	if (room && n > 0)
		stream_fed(&t->from, (size_t)n);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* True: something is left for want of room. */
static bool obey_all(struct init_state *s)
{
	struct init_stream *t = s->stream;
	struct stream_frame f;
	int got = 1;

	/* Each is answered with a few words at most; where there is no room for them, it waits. */
	while (!t->broken && stream_room(&t->to) >= STREAM_RESERVE &&
		(got = stream_next(&t->from, false, &f)) > 0)
		obey(s, &f);
	t->broken |= got < 0;
	return got > 0;
}

/* --- the loop --- */

enum { P_IN, P_OUT, P_SIGNALS, P_CHANNELS, P_COUNT = P_CHANNELS + 3 * CHANNELS };

static void fill_poll(const struct init_state *s, struct pollfd *p)
{
	const struct init_stream *t = s->stream;
	bool busy = stream_room(&t->to) < STREAM_RESERVE;
	size_t n;

	stream_pending(&t->to, &n);
	p[P_IN] = (struct pollfd){.fd = busy ? -1 : t->in, .events = POLLIN};
	p[P_OUT] = (struct pollfd){.fd = n ? t->out : -1, .events = POLLOUT};
	p[P_SIGNALS] = (struct pollfd){.fd = s->signals, .events = POLLIN};
	for (int i = 0; i < CHANNELS; i++) {
		const struct channel *c = &t->channel[i];
		bool told = c->ended && c->last.op == 0, reads = told || room_for_data(t);
		struct pollfd *q = p + P_CHANNELS + 3 * i;

		q[0] = q[1] = q[2] = (struct pollfd){.fd = -1};
		if (!c->run)
			continue;
		q[0] = (struct pollfd){.fd = c->held ? c->in : -1, .events = POLLOUT};
		q[1] = (struct pollfd){.fd = reads ? c->out[0] : -1, .events = POLLIN};
		q[2] = (struct pollfd){.fd = reads ? c->out[1] : -1, .events = POLLIN};
	}
}

static void serve_channels(struct init_stream *t, const struct pollfd *p)
{
	for (int i = 0; i < CHANNELS; i++) {
		struct channel *c = &t->channel[i];
		const struct pollfd *q = p + P_CHANNELS + 3 * i;

		if (c->run && q[0].revents)
			give_input(t, c);
		for (int k = 0; k < 2; k++)
			if (c->run && q[1 + k].revents)
				pump(t, c, k);
	}
}

/* One SIGCHLD a round, as in init.c. */
static bool reap(struct init_state *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof info) < 0 && errno != EAGAIN)
		return false;
	return init_run_reap(s);
}

int init_stream_input(const struct init_stream *t)
{
	return t->in;
}

void init_stream_serve(struct init_state *s)
{
	struct init_stream *t = s->stream;
	struct pollfd p[P_COUNT];
	bool more = false, left;

	while (!t->broken) {
		left = obey_all(s);
		left |= finish_all(t);
		flush(t);
		left &= room_for_data(t);
		fill_poll(s, p);
		if (poll(p, P_COUNT, more || left ? 0 : -1) < 0 && errno != EINTR)
			return;
		serve_channels(t, p);
		if (more || p[P_SIGNALS].revents)
			more = reap(s);
		if (p[P_IN].revents && !hear(t))
			return;
	}
}

/* --- the beginning --- */

/* Above the numbers that a plan's descriptors have. */
static int take_away(int fd, int *to, struct err *e)
{
	*to = fcntl(fd, F_DUPFD_CLOEXEC, PLAN_FD_LAST + 1);
	if (*to < 0 || fcntl(*to, F_SETFL, fcntl(*to, F_GETFL) | O_NONBLOCK) < 0)
		return err_set(e, ERR_SETUP, errno, "take the container's standard streams");
	return 0;
}

static int await_plan(struct init_stream *t, struct err *e)
{
	struct stream_frame f = {.type = STREAM_BLOB};

	while (!t->broken && f.type == STREAM_BLOB) {
		struct pollfd p = {.fd = t->in, .events = POLLIN};
		int got = stream_next(&t->from, false, &f);

		if (got > 0 && f.type == STREAM_BLOB)
			take_blob(t, &f);
		if (got < 0 || (got == 0 && ((poll(&p, 1, -1) < 0 && errno != EINTR) || !hear(t))))
			return err_set(e, ERR_SETUP, EPIPE, "wait for a claim");
	}
	if (t->broken || f.type != STREAM_CLAIM || t->blob < 0)
		return err_set(e, ERR_BUG, 0, "a claim without a plan");
	return 0;
}

int init_stream_claim(struct init_state *s, struct err *e)
{
	static struct init_stream t;

	t.in = t.out = t.blob = -1;
	for (int i = 0; i < CHANNELS; i++)
		t.channel[i].in = t.channel[i].out[0] = t.channel[i].out[1] = -1;
	for (int fd = PLAN_FD_KEEPER; fd <= PLAN_FD_LAST; fd++) /* until they are given */
		if (fcntl(fd, F_GETFD) < 0 && dup3(0, fd, O_CLOEXEC) < 0)
			return err_set(e, ERR_SETUP, errno, "reserve descriptors");
	s->keeper = -1;
	s->stream = &t;
	if (take_away(0, &t.in, e) < 0 || take_away(1, &t.out, e) < 0 || await_plan(&t, e) < 0)
		return -1;
	if (dup3(t.blob, PLAN_FD_PLAN, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "place the plan");
	own_close(&t.blob);
	for (int fd = PLAN_FD_KEEPER; fd <= PLAN_FD_LAST; fd++)
		if (fd != PLAN_FD_PLAN)
			close(fd);
	s->plan = init_map_plan(e);
	if (s->plan && !s->plan->container)
		return err_set(e, ERR_BUG, 0, "the plan of no container");
	return s->plan ? 0 : -1;
}

/* Commands, as their relay sees them. See relay_int.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/capabilities.h"
#include "fcgi/relay_int.h"
#include "isolate/clock.h"
#include "isolate/own.h"

enum { WAIT_MAX_MS = 60000 };

struct relay_run *relay_run_kept(struct relay *r, uint32_t run)
{
	for (int i = 0; i < PROTO_RUNS_MAX; i++)
		if (r->run[i].state != RUN_FREE && r->run[i].kept.head && r->run[i].rq.run == run)
			return &r->run[i];
	return NULL;
}

static struct relay_run *numbered(struct relay *r, uint32_t number)
{
	for (int i = 0; i < PROTO_RUNS_MAX && number; i++)
		if (r->run[i].state == RUN_LIVE && r->run[i].number == number)
			return &r->run[i];
	return NULL;
}

/* --- told --- */

static void let_go(struct relay_run *x)
{
	int kept = x->kept.fd;

	spool_close(&x->kept);
	own_close(&kept);
	own_close(&x->blob);
	own_close(&x->input);
	own_close(&x->writer);
	own_close(&x->spool);
	x->state = RUN_FREE;
}

/* As pid 1 would: of a kept run the keeper hears, after it is recorded. */
static void answer(struct relay *r, struct relay_run *x, uint32_t op, const struct err *why,
	const struct result *res)
{
	struct proto_reply rp = {.op = op, .run = x->rq.run};
	bool kept = x->rq.flags & PROTO_KEPT;
	int peer = x->peer;

	if (why)
		rp.err = *why;
	if (res)
		rp.result = *res;
	if (x->kept.head)
		spool_end(&x->kept, res, why);
	let_go(x);
	if (!kept || op == PROTO_FAILED)
		relay_reply(r, peer, &rp);
	if (!kept)
		return;
	rp.op = PROTO_DONE;
	relay_reply(r, RELAY_KEEPER, &rp);
}

static void fill_output(const struct relay_run *x, struct result *res)
{
	res->wall_us = (uint64_t)(clock_us() - x->start_us);
	res->output_bytes = x->output_bytes;
	res->output_kept = x->output_kept;
	res->truncated = x->output_bytes > x->output_kept;
}

/* One that we have ended ourselves. */
static void force(const struct relay_run *x, struct result *res)
{
	bool timeout = x->verdict == VERDICT_TIMEOUT;

	res->verdict = x->verdict;
	res->exit_code = timeout ? 124 : 128 + SIGKILL;
	res->signal = timeout ? 0 : SIGKILL;
}

/* Nothing is made up: what pid 1 says must be something that can become of a command. */
static bool plausible(const struct result *res)
{
	switch (res->verdict) {
	case VERDICT_OK:
		return res->exit_code == 0 && res->signal == 0;
	case VERDICT_EXIT:
		return res->exit_code > 0 && res->exit_code <= 255 && res->signal == 0;
	case VERDICT_MEMORY: /* of a shell's child, say: a status like any other */
	case VERDICT_PIDS:
		if (res->signal == 0)
			return res->exit_code > 0 && res->exit_code <= 255;
		/* fall through */
	case VERDICT_SIGNAL:
	case VERDICT_KILLED:
	case VERDICT_TIMEOUT: /* RLIMIT_CPU */
		return res->signal >= 1 && res->signal <= 64 && res->exit_code == 128 + res->signal;
	default:
		return false;
	}
}

static void done(struct relay *r, struct relay_run *x, struct result *res)
{
	fill_output(x, res);
	if (x->forced)
		force(x, res);
	else if (!plausible(res)) {
		r->over = true;
		return;
	} else if (res->verdict == VERDICT_SIGNAL && x->signalled == (uint32_t)res->signal)
		res->verdict = VERDICT_KILLED;
	answer(r, x, PROTO_DONE, NULL, res);
}

/* A root without the program is its tenant's affair: a verdict, and a shell's own. */
static void not_executed(struct relay *r, struct relay_run *x, const struct err *why)
{
	struct proto_reply started = {.op = PROTO_STARTED, .run = x->rq.run};
	struct result res = {
		.verdict = VERDICT_EXIT, .exit_code = why->errnum == ENOENT ? 127 : 126};
	char text[sizeof why->msg + 32];
	int peer = x->peer,
	    n = snprintf(text, sizeof text, "%s: %s\n", why->msg,
		    why->errnum == ENOENT ? "No such file or directory" : "Cannot be executed");

	spool_write(&x->kept, x->rq.flags & PROTO_MERGE ? SPOOL_OUTPUT : SPOOL_STDERR, text,
		n < (int)sizeof text ? (size_t)n : sizeof text - 1);
	answer(r, x, PROTO_DONE, NULL, &res);
	relay_reply(r, peer, &started);
}

/* One that we have ended before it began. Who asked for a kept one waits for STARTED, and finds the verdict then. */
static void never_began(struct relay *r, struct relay_run *x)
{
	struct proto_reply started = {.op = PROTO_STARTED, .run = x->rq.run};
	bool kept = x->rq.flags & PROTO_KEPT;
	struct result res = {0};
	int peer = x->peer;

	done(r, x, &res);
	if (kept)
		relay_reply(r, peer, &started);
}

static void failed(struct relay *r, struct relay_run *x, const struct err *why)
{
	if (x->forced)
		never_began(r, x);
	else if (x->kept.head && why->kind == ERR_NOTFOUND)
		not_executed(r, x, why);
	else
		answer(r, x, PROTO_FAILED, why, NULL);
}

/* --- begun --- */

static int make_input(struct relay_run *x, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	fcntl(p[0], F_SETPIPE_SZ, STREAM_PIPE); /* refused, it holds more */
	x->input = p[0];
	x->writer = p[1];
	return 0;
}

static int take_streams(struct relay_run *x, int *fds, struct err *e)
{
	struct stat st;

	if (!(x->rq.flags & PROTO_KEPT)) {
		x->spool = take_fd(&fds[1]);
		return 0;
	}
	if (spool_open(&x->kept, fds[1], true, e) < 0)
		return -1;
	take_fd(&fds[1]); /* of x->kept now */
	if (x->rq.flags & PROTO_STDIN)
		return make_input(x, e);
	if (!(x->rq.flags & PROTO_STDIN_FILE))
		return 0;
	if (fstat(fds[2], &st) < 0 || S_ISDIR(st.st_mode))
		return err_set(e, ERR_REQUEST, EISDIR, "the input of a command");
	x->input = take_fd(&fds[2]);
	return 0;
}

static int check(
	const struct relay_run *x, const struct proto_request *rq, unsigned nfds, struct err *e)
{
	unsigned want = (rq->flags & PROTO_KEPT) && (rq->flags & PROTO_STDIN_FILE) ? 3 : 2;

	if (rq->flags & (PROTO_TTY | PROTO_CTTY))
		return capability_lacking(CAN_TERMINAL, e);
	if (!x)
		return err_set(e, ERR_LIMIT, 0, "%d commands run already", PROTO_RUNS_MAX);
	if (rq->flags & PROTO_STDIO || nfds != want || rq->blob_bytes == 0 ||
		rq->blob_bytes > PROTO_BLOB_MAX)
		return err_set(e, ERR_BUG, 0, "command message out of range");
	return 0;
}

void relay_run_start(
	struct relay *r, int peer, const struct proto_request *rq, int *fds, unsigned nfds)
{
	struct relay_run none = {.rq = *rq, .peer = peer, .kept = SPOOL_NONE}, *x = NULL;
	struct err e = {0};

	none.blob = none.input = none.writer = none.spool = -1;
	for (int i = 0; i < PROTO_RUNS_MAX && !x; i++)
		if (r->run[i].state == RUN_FREE)
			x = &r->run[i];
	if (check(x, rq, nfds, &e) < 0) {
		answer(r, &none, PROTO_FAILED, &e, NULL);
		return;
	}
	*x = none;
	x->state = RUN_WAITS;
	x->blob = take_fd(&fds[0]);
	x->turn = ++r->turns;
	x->start_us = clock_us();
	x->deadline_ms = rq->timeout_ms ? clock_ms() + (int64_t)rq->timeout_ms : 0;
	x->window = STREAM_WINDOW;
	if (take_streams(x, fds, &e) < 0)
		answer(r, x, PROTO_FAILED, &e, NULL);
}

static void tell_word(
	struct relay *r, enum stream_type type, const struct relay_run *x, uint32_t word)
{
	/* STREAM_RESERVE is for this; what does not fit there is for a pid 1 that has not read for long */
	if (!stream_put(&r->to, type, x ? x->number : 0, &word, sizeof word))
		r->over = true;
}

static struct relay_run *next_waiting(struct relay *r)
{
	struct relay_run *best = NULL;

	for (int i = 0; i < PROTO_RUNS_MAX; i++)
		if (r->run[i].state == RUN_WAITS && (!best || r->run[i].turn < best->turn))
			best = &r->run[i];
	return best;
}

static bool room_for_data(const struct relay *r)
{
	return stream_room(&r->to) >= STREAM_RESERVE + STREAM_DATA_MAX;
}

/* False: the blob is shorter than its message says. */
static bool send_blob(struct relay *r, struct relay_run *x)
{
	char part[STREAM_DATA_MAX];
	uint64_t left = x->rq.blob_bytes - x->blob_sent;
	size_t want = left < sizeof part ? (size_t)left : sizeof part;
	ssize_t n = pread(x->blob, part, want, (off_t)x->blob_sent);

	if (n <= 0)
		return false;
	stream_put(&r->to, STREAM_BLOB, 0, part, (size_t)n);
	x->blob_sent += (uint64_t)n;
	return true;
}

static void send_exec(struct relay *r, struct relay_run *x)
{
	struct proto_request rq = x->rq;
	bool input = rq.flags & (PROTO_STDIN | PROTO_STDIN_FILE);

	rq.flags &= PROTO_SHELL | PROTO_TREE | PROTO_MERGE;
	if (!(x->rq.flags & PROTO_KEPT))
		rq.flags |= PROTO_MERGE; /* its spool knows no streams */
	if (input)
		rq.flags |= PROTO_STDIN;
	rq.op = PROTO_EXEC;
	rq.timeout_ms = 0;
	x->number = ++r->last_number;
	x->state = RUN_LIVE;
	own_close(&x->blob);
	stream_put(&r->to, STREAM_EXEC, x->number, &rq, sizeof rq);
	if (x->forced) /* while it went */
		tell_word(r, STREAM_END, x, x->verdict);
}

/* One after the other: pid 1 puts one blob together at a time, so one that was begun goes on. */
static void feed_commands(struct relay *r)
{
	struct relay_run *x;
	struct err e = {0};

	while ((x = next_waiting(r)) && room_for_data(r)) {
		if (x->blob_sent == x->rq.blob_bytes) {
			send_exec(r, x);
		} else if (!send_blob(r, x)) {
			r->over = x->blob_sent > 0; /* a part of it is there: no other can follow */
			err_set(&e, ERR_BUG, errno, "command shorter than its message says");
			answer(r, x, PROTO_FAILED, &e, NULL);
		}
	}
}

/* --- input --- */

bool relay_run_wants_input(const struct relay_run *x)
{
	return x->state == RUN_LIVE && x->input >= 0 && x->window > 0;
}

static void send_input(struct relay *r, struct relay_run *x)
{
	char part[STREAM_WINDOW];
	ssize_t n = read(x->input, part, x->window);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		x->window -= (uint32_t)n;
		stream_put(&r->to, STREAM_INPUT, x->number, part, (size_t)n);
		return;
	}
	own_close(&x->input);
	stream_put(&r->to, STREAM_EOF, x->number, NULL, 0);
}

void relay_run_feed(struct relay *r)
{
	feed_commands(r);
	for (int i = 0; i < PROTO_RUNS_MAX; i++)
		if (relay_run_wants_input(&r->run[i]) && room_for_data(r))
			send_input(r, &r->run[i]);
}

void relay_run_eof(struct relay_run *x)
{
	own_close(&x->writer); /* what was written before is still read */
}

/* --- ended --- */

static void mark_forced(struct relay_run *x, uint32_t verdict)
{
	if (!x->forced) {
		x->forced = true;
		x->verdict = verdict;
		x->forced_until_ms = clock_ms() + RELAY_ENDING_MS;
	}
	x->deadline_ms = 0;
}

/* What has not gone to pid 1 ends here. */
static bool ended_before(struct relay *r, struct relay_run *x, uint32_t verdict)
{
	if (x->state != RUN_WAITS || x->blob_sent > 0)
		return false;
	mark_forced(x, verdict);
	never_began(r, x);
	return true;
}

void relay_run_end(struct relay *r, struct relay_run *x, uint32_t verdict)
{
	if (ended_before(r, x, verdict))
		return;
	mark_forced(x, verdict);
	if (x->state == RUN_LIVE)
		tell_word(r, STREAM_END, x, verdict);
}

void relay_run_kill_all(struct relay *r, uint32_t verdict, struct relay_run *cause)
{
	uint32_t number = cause ? cause->number : 0;

	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct relay_run *x = &r->run[i];
		uint32_t v = !cause || x == cause ? verdict : VERDICT_KILLED;

		if (x->state != RUN_FREE && !ended_before(r, x, v))
			mark_forced(x, v);
	}
	if (!stream_put(&r->to, STREAM_KILL, number, &verdict, sizeof verdict))
		r->over = true;
}

void relay_run_signal(struct relay *r, int peer, uint32_t run, uint32_t sig)
{
	for (int i = 0; i < PROTO_RUNS_MAX && sig >= 1 && sig <= 64; i++) {
		struct relay_run *x = &r->run[i];

		if (peer < 0 || x->state != RUN_LIVE || x->rq.run != run ||
			(x->peer != peer && !x->kept.head))
			continue;
		if (x->kept.head)
			x->signalled = sig;
		tell_word(r, STREAM_SIGNAL, x, sig);
	}
}

void relay_run_begin(struct relay_run *x, uint64_t timeout_ms)
{
	spool_restart(&x->kept);
	x->output_bytes = x->output_kept = 0;
	x->start_us = clock_us();
	x->deadline_ms = timeout_ms ? clock_ms() + (int64_t)timeout_ms : 0;
}

void relay_run_peer_gone(struct relay *r, int peer)
{
	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct relay_run *x = &r->run[i];

		if (x->state == RUN_FREE || x->peer != peer)
			continue;
		x->peer = RELAY_NOBODY;
		if (x->rq.flags & PROTO_TREE && !(x->rq.flags & PROTO_KEPT))
			relay_run_end(r, x, VERDICT_KILLED);
	}
}

/* Pid 1 has not ended it: the container will be removed, and this was its fate. */
static void give_up(struct relay *r)
{
	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct relay_run *x = &r->run[i];
		struct result res = {0};

		if (x->state != RUN_FREE && x->forced)
			done(r, x, &res);
	}
	r->over = true;
}

static void overdue(struct relay *r, struct relay_run *x)
{
	if (x->rq.flags & PROTO_TREE)
		relay_run_end(r, x, VERDICT_TIMEOUT);
	else
		relay_run_kill_all(r, VERDICT_TIMEOUT, x);
}

int relay_run_deadlines(struct relay *r)
{
	int64_t now = clock_ms(), next = now + WAIT_MAX_MS;
	bool any = false;

	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct relay_run *x = &r->run[i];

		if (x->state != RUN_FREE && x->deadline_ms && x->deadline_ms <= now)
			overdue(r, x);
	}
	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		const struct relay_run *x = &r->run[i];
		int64_t due = x->forced ? x->forced_until_ms : x->deadline_ms;

		if (x->state == RUN_FREE || !due)
			continue;
		if (x->forced && due <= now) {
			give_up(r);
			return 0;
		}
		any = true;
		next = due < next ? due : next;
	}
	return any ? (int)(next - now) + 1 : -1;
}

/* --- what pid 1 says --- */

static void keep_output(struct relay_run *x, bool err, const char *p, size_t n)
{
	uint64_t room = x->rq.output_max_bytes - x->output_kept;

	x->output_bytes += n;
	if (x->kept.head) {
		spool_write(&x->kept,
			x->rq.flags & PROTO_MERGE ? SPOOL_OUTPUT
			: err                     ? SPOOL_STDERR
						  : SPOOL_STDOUT,
			p, n);
		return;
	}
	if (n > room)
		n = (size_t)room;
	while (x->spool >= 0 && n > 0) {
		ssize_t w = write(x->spool, p, n);

		if (w <= 0)
			return; /* the spool is full or gone: counted, not kept */
		x->output_kept += (uint64_t)w;
		p += w;
		n -= (size_t)w;
	}
}

static void heard_reply(struct relay *r, struct relay_run *x, const struct stream_frame *f)
{
	struct proto_reply rp;

	memcpy(&rp, f->data, sizeof rp);
	rp.run = x->rq.run;
	rp.err.msg[sizeof rp.err.msg - 1] = '\0';
	if (rp.op == PROTO_DONE) {
		done(r, x, &rp.result);
	} else if (rp.op == PROTO_FAILED && rp.err.kind > ERR_NONE && rp.err.kind < ERR_KIND_MAX) {
		failed(r, x, &rp.err);
	} else if (rp.op == PROTO_STARTED) {
		rp = (struct proto_reply){.op = PROTO_STARTED, .run = x->rq.run};
		if (x->rq.flags & PROTO_KEPT) {
			relay_reply(r, x->peer, &rp);
			x->peer = RELAY_NOBODY; /* who asked may go: the verdict is recorded */
		}
	} else {
		r->over = true;
	}
}

static void heard_credit(struct relay *r, struct relay_run *x, const struct stream_frame *f)
{
	uint32_t n;

	memcpy(&n, f->data, sizeof n);
	if (n > STREAM_WINDOW - x->window)
		r->over = true;
	else
		x->window += n;
}

void relay_run_heard(struct relay *r, const struct stream_frame *f)
{
	struct relay_run *x = numbered(r, f->run);

	if (!x)
		return; /* its fate is told: what is left of it says nothing more */
	if (f->type == STREAM_OUT || f->type == STREAM_ERR)
		keep_output(x, f->type == STREAM_ERR, f->data, f->bytes);
	else if (f->type == STREAM_CREDIT)
		heard_credit(r, x, f);
	else if (f->type == STREAM_REPLY)
		heard_reply(r, x, f);
	else
		r->over = true;
}

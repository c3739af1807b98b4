/* Commands: pumping their output, ending them. No heap: one static table of runs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "isolate/init_container.h"
#include "isolate/init_spawn.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"
#include "isolate/clock.h"

enum {
	PUMP_BYTES = 65536,
	REAP_MAX = 256, /* children in one round of the loop */
	ROOM_WAIT_US = 2000000,
	ROOM_LOOK_MS = 20,
};

static struct init_run *free_slot(struct init_state *s)
{
	for (int i = 0; i < PROTO_RUNS_MAX; i++)
		if (!s->run[i].used)
			return &s->run[i];
	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct init_run *r = &s->run[i];

		if (r->live)
			continue;
		own_close(&r->out[0]); /* a leftover's pipe: its writers get SIGPIPE from now on */
		own_close(&r->out[1]);
		r->used = false;
		return r;
	}
	return NULL;
}

static void close_kept(struct init_run *r)
{
	int fd = r->kept.fd;

	spool_close(&r->kept);
	own_close(&fd);
}

static void run_answer(struct init_state *s, struct init_run *r, uint32_t op, const struct err *err,
	const struct result *res)
{
	struct proto_reply rp = {.op = op, .run = r->id};

	if (err)
		rp.err = *err;
	if (res)
		rp.result = *res;
	r->live = false;
	own_close(&r->spool);
	own_close(&r->input);
	if (r->flags &
		PROTO_TTY) /* as when a terminal is switched off: who still has it gets SIGHUP */
		own_close(&r->out[0]);
	if (r->out[0] < 0 && r->out[1] < 0)
		r->used = false;
	if (r->kept.head) {
		/* Recorded before anybody is told. */
		spool_end(&r->kept, res, err);
		close_kept(r);
		if (op == PROTO_FAILED)
			init_reply(s, r->peer, &rp);
		rp.op = PROTO_DONE;
		r->peer = -2;
	} else if (r->flags & PROTO_KEPT) {
		/* Without a spool the keeper counts it all the same. */
		init_reply(s, r->peer, &rp);
		rp.op = PROTO_DONE;
		r->peer = -2;
	}
	init_reply(s, r->peer, &rp);
}

/* A caller's descriptor, but no directory: by /proc/self/fd/N/.. it leads out of the root. */
static int take_stream(struct start *st, int i, int fd)
{
	struct stat sb;

	if (fstat(fd, &sb) < 0)
		return err_set(&st->err, ERR_SETUP, errno, "look at descriptor %d", i);
	if (S_ISDIR(sb.st_mode))
		return err_set(&st->err, ERR_REQUEST, EISDIR, "descriptor %d", i);
	st->fd[i] = fd;
	return 0;
}

static int take_stdio(struct start *st, const int *fds)
{
	for (int i = 0; i < 3; i++)
		if (take_stream(st, i, fds[i]) < 0)
			return -1;
	return 0;
}

/* A pipe to the command, or from it; our end never blocks. */
static int make_pipe(int *ours, int *theirs, bool to, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	*ours = p[to];
	*theirs = p[!to];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return 0;
}

static int open_terminal(
	struct init_run *r, struct start *st, const struct proto_request *rq, int hold[3])
{
	r->out[0] = init_pty_pair(rq->rows, rq->cols, &hold[0], &st->err);
	if (r->out[0] < 0)
		return -1;
	fcntl(r->out[0], F_SETFL, O_NONBLOCK);
	r->input = fcntl(r->out[0], F_DUPFD_CLOEXEC, 3);
	st->fd[0] = st->fd[1] = st->fd[2] = hold[0];
	st->ctty = true;
	return r->input < 0 ? err_set(&st->err, ERR_SETUP, errno, "hold a terminal") : 0;
}

/* The streams of a run with a kept output; hold: our copies of the command's ends. */
static int open_kept(
	struct init_run *r, struct start *st, const struct proto_request *rq, int *fds, int hold[3])
{
	bool file = rq->flags & PROTO_STDIN_FILE;
	int fd = take_fd(&fds[1]);

	if (spool_open(&r->kept, fd, true, &st->err) < 0) {
		own_close(&fd);
		return -1;
	}
	if (rq->flags & PROTO_TTY)
		return open_terminal(r, st, rq, hold);
	if (rq->flags & PROTO_STDIN && make_pipe(&r->input, &hold[0], true, &st->err) < 0)
		return -1;
	if (make_pipe(&r->out[0], &hold[1], false, &st->err) < 0)
		return -1;
	if (!(rq->flags & PROTO_MERGE) && make_pipe(&r->out[1], &hold[2], false, &st->err) < 0)
		return -1;
	if (hold[0] >= 0)
		st->fd[0] = hold[0];
	else if (file && take_stream(st, 0, fds[2]) < 0)
		return -1;
	st->fd[1] = hold[1];
	st->fd[2] = rq->flags & PROTO_MERGE ? hold[1] : hold[2];
	return 0;
}

/* Opens stdin, stdout and stderr: the caller's, or /dev/null and pipes that we pump. */
static int prepare_io(struct init_run *r, struct start *st, const struct proto_request *rq,
	int null, int *fds, int hold[3])
{
	if (rq->flags & PROTO_STDIO)
		return take_stdio(st, fds + 1);
	st->fd[0] = null;
	if (rq->flags & PROTO_KEPT)
		return open_kept(r, st, rq, fds, hold);
	if (make_pipe(&r->out[0], &hold[1], false, &st->err) < 0)
		return -1;
	st->fd[1] = st->fd[2] = hold[1];
	r->spool = take_fd(&fds[1]);
	return 0;
}

static unsigned fds_wanted(uint32_t flags)
{
	if (flags & PROTO_STDIO)
		return 4;
	return flags & PROTO_KEPT && flags & PROTO_STDIN_FILE ? 3 : 2;
}

/* A root without the program is its tenant's affair: a verdict, and a shell's own. */
static void not_executed(struct init_state *s, struct init_run *r, const struct err *why)
{
	struct result res = {
		.verdict = VERDICT_EXIT, .exit_code = why->errnum == ENOENT ? 127 : 126};
	char text[sizeof why->msg + 32];
	int n = snprintf(text, sizeof text, "%s: %s\n", why->msg,
		why->errnum == ENOENT ? "No such file or directory" : "Cannot be executed");

	spool_write(&r->kept, r->out[1] < 0 ? SPOOL_OUTPUT : SPOOL_STDERR, text,
		n < (int)sizeof text ? (size_t)n : sizeof text - 1);
	run_answer(s, r, PROTO_DONE, NULL, &res);
}

static void not_started(struct init_state *s, struct init_run *r, const struct err *why)
{
	struct proto_reply rp = {.op = PROTO_STARTED, .run = r->id};
	int peer = r->peer;

	if (r->kept.head && why->kind == ERR_NOTFOUND) {
		/* First: when the keeper hears of the last run's end, it ends us. */
		init_reply(s, peer, &rp);
		not_executed(s, r, why);
	} else {
		own_close(&r->out[0]);
		own_close(&r->out[1]);
		run_answer(s, r, PROTO_FAILED, why, NULL);
	}
	own_close(&r->out[0]);
	own_close(&r->out[1]);
	r->used = false;
}

/*
 * Where a limit on processes counts pid 1's, too (of a container, pid_max of the namespace), a
 * command may find no room beside what an earlier one left: that dies of the same limit as a rule, and
 * counts until it is reaped.
 */
static int spawn_when_room(
	struct init_state *s, struct start *st, const struct proto_request *rq, int blob)
{
	uint64_t until = (uint64_t)clock_us() + ROOM_WAIT_US;
	int pid;

	while ((pid = init_spawn(st, rq, blob)) < 0 && st->err.errnum == EAGAIN &&
		(uint64_t)clock_us() < until) {
		/* Not by the signalfd: what is read here, the loop would not see. */
		poll(NULL, 0, ROOM_LOOK_MS);
		init_run_reap(s);
		memset(&st->err, 0, sizeof st->err);
	}
	return pid;
}

void init_run_start(
	struct init_state *s, int peer, const struct proto_request *rq, int *fds, unsigned nfds)
{
	struct start st = {.init = s,
		.plan = s->plan,
		.shell = rq->flags & PROTO_SHELL,
		.ctty = (rq->flags & PROTO_STDIO) && (rq->flags & PROTO_CTTY)};
	struct init_run none = {.peer = peer,
		.id = rq->run,
		.flags = rq->flags,
		.out = {-1, -1},
		.input = -1,
		.spool = -1,
		.kept = SPOOL_NONE};
	struct proto_reply started = {.op = PROTO_STARTED, .run = rq->run};
	struct init_run *r = free_slot(s);
	int hold[3] = {-1, -1, -1};

	if (!r || nfds != fds_wanted(rq->flags)) {
		err_set(&st.err, r ? ERR_BUG : ERR_LIMIT, 0,
			r ? "wrong number of descriptors" : "%d commands run already",
			PROTO_RUNS_MAX);
		run_answer(s, &none, PROTO_FAILED, &st.err, NULL);
		return;
	}
	*r = none;
	r->used = r->live = true;
	r->output_max = rq->output_max_bytes;
	r->start_us = (uint64_t)clock_us();
	init_usage_read(&r->before);
	r->deadline_us = rq->timeout_ms ? r->start_us + rq->timeout_ms * 1000 : 0;
	st.deadline_us = r->deadline_us;
	init_container_victim(s, true);
	r->pid = prepare_io(r, &st, rq, s->null, fds, hold) < 0
			 ? -1
			 : spawn_when_room(s, &st, rq, fds[0]);
	init_container_victim(s, false);
	s->slow = st.slow;
	for (int i = 0; i < 3; i++)
		own_close(&hold[i]);
	if (r->pid < 0) {
		not_started(s, r, &st.err);
	} else if (r->flags & PROTO_KEPT) {
		r->peer = -1; /* who asked may go: the verdict is recorded */
		init_reply(s, peer, &started);
	}
	if (r->pid > 0 && st.late)
		init_run_deadlines(s);
}

struct init_run *init_run_kept(struct init_state *s, uint32_t run)
{
	for (int i = 0; i < PROTO_RUNS_MAX; i++)
		if (s->run[i].used && s->run[i].live && s->run[i].kept.head && s->run[i].id == run)
			return &s->run[i];
	return NULL;
}

static void keep_output(struct init_run *r, int which, const char *p, size_t n)
{
	uint64_t room = MUTATE("output-cap", r->output_max, UINT64_MAX) - r->output_kept;

	r->output_bytes += n;
	if (r->kept.head && r->spool < 0) {
		spool_write(&r->kept,
			r->flags & (PROTO_MERGE | PROTO_TTY) ? SPOOL_OUTPUT
			: which                              ? SPOOL_STDERR
							     : SPOOL_STDOUT,
			p, n);
		return;
	}
	if (n > room)
		n = (size_t)room;
	while (r->spool >= 0 && n > 0) {
		ssize_t w = write(r->spool, p, n);

		if (w <= 0)
			return; /* the spool is full or gone: counted, not kept */
		r->output_kept += (uint64_t)w;
		p += w;
		n -= (size_t)w;
	}
}

void init_run_pump(struct init_run *r, int which)
{
	static char chunk[PUMP_BYTES];

	/* A bounded number of rounds, so that an endless writer cannot starve the sockets. */
	for (int i = 0; r->out[which] >= 0 && i < 16; i++) {
		ssize_t n = read(r->out[which], chunk, sizeof chunk);

		if (n < 0 && errno != EIO)
			return; /* EAGAIN: empty for now */
		if (n <= 0) {   /* EIO: nobody has the terminal open any more */
			own_close(&r->out[which]);
			r->used = r->live || r->out[!which] >= 0;
			return;
		}
		keep_output(r, which, chunk, (size_t)n);
	}
}

static void pump_all(struct init_run *r)
{
	init_run_pump(r, 0);
	init_run_pump(r, 1);
}

static uint64_t timeval_us(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec;
}

/*
 * RLIMIT_CPU ends a process by SIGXCPU, and a second later, if that is handled, by SIGKILL. The kernel
 * samples that clock at ticks and the usage is exact, so they differ: by 7 % on a busy machine.
 */
static bool out_of_cpu_time(const struct plan *p, const struct result *r)
{
	uint64_t used = r->user_us + r->system_us, limit = p->cpu_time_max_s * 1000000;

	return limit && ((r->signal == SIGXCPU && used >= limit / 2) ||
				(r->signal == SIGKILL && used >= limit));
}

/* It has been answered: our end runs while who waits for it wakes up. */
static void end_if_last(const struct init_run *r)
{
	if (r->flags & PROTO_LAST && !MUTATED("last-run"))
		_exit(0);
}

static void run_ended(struct init_state *s, struct init_run *r, int status, const struct rusage *u)
{
	struct result res = {
		.wall_us = (uint64_t)clock_us() - r->start_us,
		.user_us = timeval_us(&u->ru_utime),
		.system_us = timeval_us(&u->ru_stime),
		.rss_peak_kib = (uint64_t)u->ru_maxrss,
		.disk_read_bytes = (uint64_t)u->ru_inblock * 512,
		.disk_write_bytes = (uint64_t)u->ru_oublock * 512,
		.processes = init_usage_processes(r->pid),
	};

	/* What it wrote before it ended is in the pipe; descendants may go on holding it. A full
	 * pipe is 64 KiB, one pump is 1 MiB. */
	pump_all(r);
	if (r->forced) {
		res.verdict = r->verdict;
		res.signal = r->verdict == VERDICT_TIMEOUT ? 0 : SIGKILL;
		res.exit_code = r->verdict == VERDICT_TIMEOUT ? 124 : 128 + SIGKILL;
	} else if (WIFEXITED(status)) {
		res.exit_code = WEXITSTATUS(status);
		res.verdict = res.exit_code ? VERDICT_EXIT : VERDICT_OK;
	} else {
		res.signal = WTERMSIG(status);
		res.exit_code = 128 + res.signal;
		res.verdict = out_of_cpu_time(s->plan, &res)         ? VERDICT_TIMEOUT
			      : r->signalled == (uint32_t)res.signal ? VERDICT_KILLED
								     : VERDICT_SIGNAL;
	}
	res.output_bytes = r->output_bytes;
	res.output_kept = r->output_kept;
	res.truncated = r->output_bytes > r->output_kept;
	init_usage_since(r->cpu_before_us, &res);
	init_usage_tell(&r->before, &res);
	run_answer(s, r, PROTO_DONE, NULL, &res);
	end_if_last(r);
}

bool init_run_reap(struct init_state *s)
{
	struct rusage u;
	int status, pid;

	for (int n = 0; n < REAP_MAX; n++) {
		pid = wait4(-1, &status, WNOHANG, &u);
		if (pid <= 0)
			return false;
		for (int i = 0; i < PROTO_RUNS_MAX; i++)
			if (s->run[i].used && s->run[i].live && s->run[i].pid == pid)
				run_ended(s, &s->run[i], status, &u);
	}
	return true;
}

/* Answers for a run that we ended ourselves. */
static void run_killed(struct init_state *s, struct init_run *r, uint32_t verdict)
{
	struct result res = {
		.verdict = verdict,
		.exit_code = verdict == VERDICT_TIMEOUT ? 124 : 128 + SIGKILL,
		.signal = verdict == VERDICT_TIMEOUT ? 0 : SIGKILL,
		.wall_us = (uint64_t)clock_us() - r->start_us,
		.user_us = timeval_us(&r->usage.ru_utime),
		.system_us = timeval_us(&r->usage.ru_stime),
		.rss_peak_kib = (uint64_t)r->usage.ru_maxrss,
		.disk_read_bytes = (uint64_t)r->usage.ru_inblock * 512,
		.disk_write_bytes = (uint64_t)r->usage.ru_oublock * 512,
		.processes = init_usage_processes(r->pid),
	};

	pump_all(r);
	res.output_bytes = r->output_bytes;
	res.output_kept = r->output_kept;
	res.truncated = r->output_bytes > r->output_kept;
	init_usage_since(r->cpu_before_us, &res);
	init_usage_tell(&r->before, &res);
	run_answer(s, r, PROTO_DONE, NULL, &res);
	end_if_last(r);
}

void init_run_kill_all(struct init_state *s, uint32_t verdict, const struct init_run *cause)
{
	/* kill(-1) reaches every process of this namespace but us, and misses those born while
	 * it walks: again until no child is left. All orphans are our children. */
	for (;;) {
		struct rusage u;
		int pid;

		kill(-1, SIGKILL);
		pid = wait4(-1, NULL, 0, &u);
		if (pid < 0 && errno == ECHILD)
			break;
		for (int i = 0; i < PROTO_RUNS_MAX; i++)
			if (s->run[i].used && s->run[i].live && s->run[i].pid == pid)
				s->run[i].usage = u;
	}
	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct init_run *r = &s->run[i];

		if (r->used && r->live)
			run_killed(s, r, !cause || r == cause ? verdict : VERDICT_KILLED);
		if (r->used) {
			own_close(&r->out[0]);
			own_close(&r->out[1]);
		}
		r->used = false;
	}
}

void init_run_signal(struct init_state *s, int peer, uint32_t run, uint32_t sig)
{
	for (int i = 0; i < PROTO_RUNS_MAX && sig >= 1 && sig <= 64; i++) {
		struct init_run *r = &s->run[i];

		/* Not reaped, and the leader of its session: its group is there and is its own. */
		if (peer < 0 || !r->used || !r->live || r->id != run ||
			(r->peer != peer && !r->kept.head))
			continue;
		if (r->kept.head)
			r->signalled = sig;
		kill(-r->pid, (int)sig);
	}
}

int init_run_deadlines(struct init_state *s)
{
	uint64_t now = (uint64_t)clock_us(), next = 0;

	for (int i = 0; i < PROTO_RUNS_MAX; i++) {
		struct init_run *r = &s->run[i];

		if (!r->used || !r->live || !r->deadline_us || MUTATED("kill-timeout"))
			continue;
		if (r->deadline_us <= now && r->flags & PROTO_TREE) {
			init_tree_end(s, r, VERDICT_TIMEOUT);
			continue;
		}
		if (r->deadline_us <= now) {
			init_run_kill_all(s, VERDICT_TIMEOUT, r);
			return -1; /* nothing runs any more */
		}
		if (!next || r->deadline_us < next)
			next = r->deadline_us;
	}
	if (!next)
		return -1;
	next = (next - now) / 1000 + 1;
	return next > 60000 ? 60000 : (int)next;
}

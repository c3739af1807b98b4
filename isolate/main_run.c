/* cgibox run: one program in one fresh sandbox, on the caller's terminal or pipes. */
#include "isolate/main_run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "isolate/client.h"
#include "isolate/files.h"
#include "isolate/launch_mounts.h"
#include "isolate/main.h"
#include "isolate/main_disk.h"
#include "isolate/main_group.h"
#include "isolate/main_net.h"
#include "isolate/main_watch.h"
#include "isolate/own.h"
#include "isolate/clock.h"

enum {
	EXIT_USAGE = 64,
	EXIT_NO_EXEC = 126,
	EXIT_NOT_FOUND = 127,
	READY_MS = 30000,
	TERM_GRACE_MS = 5000, /* from a forwarded SIGTERM or SIGHUP to the end of all */
	RUN_ID = 1,           /* our name for the one command, proto.h */
};

struct run {
	const struct run_opts *o;
	struct run_outcome *out;
	struct sandbox s;
	struct stdio_plan io;
	int sock, signals;
	int mounts;                      /* of launch_mounts.h; -1: the end waits for them */
	bool ready;                      /* pid 1 has said so */
	bool asked;                      /* we wait for that, too */
	uint64_t ask_at_ms, ready_by_ms; /* monotonic; when asked is set, and when it is too late */
	unsigned interrupts;
	uint64_t kill_at_ms; /* monotonic, 0 = never */
	bool over_output;
	struct run_watch watch;
	struct run_disk disk;
	const char *const *argv; /* NULL-ended */
};

static int complain(const struct err *e)
{
	char why[400];

	fprintf(stderr, "cgibox: %s\n", err_text(e, why, sizeof why));
	return err_exit_code(e->kind);
}

/* The signals that are ours to handle; SIGPIPE is an error of write(2) and no more. */
static int open_signals(struct err *e)
{
	static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
	sigset_t set, blocked;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < NELEM(handled); i++) {
		struct sigaction old;

		/* A blocked signal arrives though it is ignored: what nohup(1) set must stay. */
		if (sigaction(handled[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, handled[i]);
	}
	blocked = set;
	sigaddset(&blocked, SIGPIPE);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd >= 0 ? fd : err_set(e, ERR_SETUP, errno, "make a signalfd");
}

/* An error says that the sandbox ended, which the next receive says too, with the reason. */
static void forward(const struct run *r, int sig)
{
	client_signal(r->sock, RUN_ID, sig, NULL);
}

static void kill_all(struct run *r)
{
	client_send(r->sock, PROTO_KILL, NULL);
	r->kill_at_ms = 0;
}

static void resume(struct run *r)
{
	struct err e;

	forward(r, SIGCONT);
	stdio_enter(&r->io, &e); /* a terminal that has gone hangs up */
}

/*
 * The command is in a session of its own, so the terminal's stop does not reach it, and its group is
 * an orphan, where SIGTSTP does nothing. We stop by the default action, which spares orphans too.
 */
static void suspend(struct run *r)
{
	sigset_t stop;

	forward(r, SIGSTOP);
	stdio_leave(&r->io);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	raise(SIGTSTP);
	sigprocmask(SIG_UNBLOCK, &stop, NULL);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	resume(r);
}

static void on_signal(struct run *r, int sig)
{
	switch (sig) {
	case SIGINT:
		if (r->interrupts++)
			kill_all(r);
		else
			forward(r, sig);
		break;
	case SIGTERM:
	case SIGHUP:
		if (!r->kill_at_ms)
			r->kill_at_ms = (uint64_t)clock_ms() + TERM_GRACE_MS;
		forward(r, sig);
		break;
	case SIGTSTP:
		suspend(r);
		break;
	case SIGCONT:
		resume(r);
		break;
	case SIGWINCH:
		stdio_resize(&r->io);
		break;
	default:
		forward(r, sig);
	}
}

/* One signal, or 0. */
static int next_signal(const struct run *r)
{
	struct signalfd_siginfo info;

	return read(r->signals, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo
									    : 0;
}

/* Milliseconds to the next thing that has to be done unasked, -1 = nothing. */
static int next_wake_ms(const struct run *r)
{
	uint64_t now = (uint64_t)clock_ms();
	int wait = run_watch_wait_ms(&r->watch, now);
	const uint64_t at[] = {r->kill_at_ms, r->ready   ? 0
					      : r->asked ? r->ready_by_ms
							 : r->ask_at_ms};

	for (size_t i = 0; i < NELEM(at); i++) {
		int ms = at[i] <= now ? 0 : (int)(at[i] - now);

		if (at[i] && (wait < 0 || ms < wait))
			wait = ms;
	}
	return wait;
}

static bool is_late(const struct run *r)
{
	return r->ready_by_ms <= (uint64_t)clock_ms();
}

/* What next_wake_ms() waited for. */
static void on_wake(struct run *r)
{
	uint64_t now = (uint64_t)clock_ms();

	if (r->kill_at_ms && r->kill_at_ms <= now)
		kill_all(r);
	r->asked = r->asked || r->ask_at_ms <= now;
	if (run_watch_look(&r->watch, now) && r->s.ctl >= 0)
		client_kill(r->s.ctl, watch_verdict(&r->watch.over), NULL);
}

static void on_disk(struct run *r)
{
	run_disk_read(&r->disk);
	if (r->s.ctl >= 0)
		client_kill(r->s.ctl, VERDICT_DISK, NULL);
}

static void on_output_limit(struct run *r)
{
	if (!r->over_output && r->s.ctl >= 0)
		client_kill(r->s.ctl, VERDICT_OUTPUT, NULL);
	r->over_output = true;
}

/* pid 1 says READY, or why it is not. */
static int become_ready(struct run *r, struct err *e)
{
	uint64_t now = (uint64_t)clock_ms();

	if (sandbox_wait_ready(&r->s, r->ready_by_ms > now ? (int)(r->ready_by_ms - now) : 0, e) <
		0)
		return -1;
	r->ready = true;
	return 0;
}

/*
 * What came of the command. An answer says by itself that pid 1 was ready; when the socket ended
 * without one, pid 1 may have said why before.
 */
static int receive_end(struct run *r, struct proto_reply *rp, struct err *e)
{
	struct err why;
	int ret = client_receive(r->sock, rp, e);

	if (!r->ready && rp->op == 0 && become_ready(r, &why) < 0)
		*e = why;
	r->ready = r->ready || rp->op != 0;
	return ret;
}

enum {
	POLL_CTL,
	POLL_SOCK,
	POLL_SIGNALS,
	POLL_DISK,
	POLL_RELAY,
	POLL_MAX = POLL_RELAY + 2 * CHANNELS_MAX
};

/* Signals, streams and time until the verdict arrives. */
static int follow(struct run *r, struct proto_reply *rp, struct err *e)
{
	struct pollfd p[POLL_MAX];
	int sig;

	for (;;) {
		size_t n = relay_poll(&r->io, p + POLL_RELAY);

		p[POLL_CTL] = (struct pollfd){
			.fd = r->asked && !r->ready ? r->s.ctl : -1, .events = POLLIN};
		p[POLL_SOCK] = (struct pollfd){.fd = r->sock, .events = POLLIN};
		p[POLL_SIGNALS] = (struct pollfd){.fd = r->signals, .events = POLLIN};
		p[POLL_DISK] = (struct pollfd){.fd = r->disk.fd, .events = POLLIN};
		if (poll(p, POLL_RELAY + n, next_wake_ms(r)) < 0) {
			if (errno != EINTR)
				return err_set(e, ERR_SETUP, errno, "wait for the sandbox");
			continue;
		}
		if (p[POLL_SIGNALS].revents && (sig = next_signal(r)))
			on_signal(r, sig);
		if (!r->ready && (p[POLL_CTL].revents || is_late(r))) {
			if (become_ready(r, e) < 0)
				return -1;
			run_watch_begin_late(&r->watch, &r->s);
		}
		if (relay_move(&r->io, p + POLL_RELAY))
			on_output_limit(r);
		if (p[POLL_DISK].revents)
			on_disk(r);
		if (p[POLL_SOCK].revents)
			return receive_end(r, rp, e);
		on_wake(r);
	}
}

/* Every writer is dead: hands on what they left, unless a signal says that it is not wanted. */
static void drain(struct run *r)
{
	struct pollfd p[POLL_MAX];

	relay_finish(&r->io);
	while (relay_busy(&r->io)) {
		size_t n = relay_poll(&r->io, p + POLL_RELAY);
		int sig = 0;

		p[POLL_CTL] = p[POLL_SOCK] = p[POLL_DISK] = (struct pollfd){.fd = -1};
		p[POLL_SIGNALS] = (struct pollfd){.fd = r->signals, .events = POLLIN};
		if (poll(p, POLL_RELAY + n, -1) < 0)
			continue;
		if (p[POLL_SIGNALS].revents)
			sig = next_signal(r);
		if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP)
			return;
		if (relay_move(&r->io, p + POLL_RELAY))
			on_output_limit(r);
	}
}

static int fail(struct run *r, const struct err *e)
{
	r->out->err = *e;
	r->out->exit_code = err_exit_code(e->kind);
	return -1;
}

/* The program could not be executed: a shell's two codes for it. */
static int fail_exec(struct run *r, const struct err *e)
{
	fail(r, e);
	if (e->kind == ERR_NOTFOUND)
		r->out->exit_code = e->errnum == ENOENT || e->errnum == ENOTDIR ? EXIT_NOT_FOUND
										: EXIT_NO_EXEC;
	return -1;
}

static void settle(struct run *r, const struct proto_reply *rp)
{
	struct run_outcome *out = r->out;
	char why[160];

	out->ran = true;
	out->result = rp->result;
	out->output_counted = r->o->output_max > 0; /* then no output goes past us */
	out->result.output_bytes = r->io.output_bytes;
	/* It may have ended by itself before we had read what it had written. */
	if (r->over_output) {
		out->result.verdict = VERDICT_OUTPUT;
		out->result.exit_code = 128 + SIGKILL;
		out->result.truncated = 1;
		fprintf(stderr, "cgibox: ended by --limit output=%llu\n",
			(unsigned long long)r->o->output_max);
	}
	if (r->watch.over.what && out->result.verdict == VERDICT_MEMORY) {
		run_watch_text(&r->watch.over, why, sizeof why);
		fprintf(stderr, "cgibox: ended over %s\n", why);
	}
	if (out->result.verdict == VERDICT_DISK) {
		run_disk_text(&r->disk, why, sizeof why);
		fprintf(stderr, "cgibox: ended over %s\n", why);
	}
	out->exit_code = out->result.exit_code;
}

static int start_command(struct run *r, const struct buf *env, const char *dir, struct err *e)
{
	struct client_exec x = {.run = RUN_ID,
		.flags = PROTO_STDIO | PROTO_LAST,
		.dir = dir,
		.argv = r->argv,
		.env = env->p,
		.env_bytes = env->len,
		.timeout_ms = r->o->timeout_ms};
	int master = -1;

	if (stdio_needs_pty(r->o) && (master = client_open_pty(r->sock, e)) < 0)
		return -1;
	if (stdio_open(&r->io, r->o, master, e) < 0 || stdio_enter(&r->io, e) < 0)
		return -1;
	memcpy(x.fds, r->io.fds, sizeof x.fds);
	if (r->io.interactive)
		x.flags |= PROTO_CTTY;
	if (client_send_exec(r->sock, &x, e) < 0)
		return -1;
	stdio_sent(&r->io);
	return 0;
}

/*
 * The command may be sent while pid 1 builds, which then begins it at once. Not one with a terminal,
 * which pid 1 makes, nor with file systems of the caller's: the watchdog finds those by their paths.
 */
static bool goes_ahead(const struct run *r)
{
	return !stdio_needs_pty(r->o) && r->o->nmounts == 0;
}

static int send_command(struct run *r, const struct buf *env, const char *dir, struct err *e)
{
	struct err why;

	if (!goes_ahead(r) && (become_ready(r, e) < 0 || run_watch_begin(&r->watch, &r->s, e) < 0))
		return -1;
	if (start_command(r, env, dir, e) == 0)
		return 0;
	/* It could not be sent, because pid 1 has failed and told why. */
	if (!r->ready && e->kind == ERR_BUSY && become_ready(r, &why) < 0)
		*e = why;
	return -1;
}

/* Runs the program in the sandbox that stands, or will. */
static int run_in(struct run *r, const struct buf *env, const char *dir)
{
	struct proto_reply rp = {0};
	struct err e = {0};
	int ret;

	ret = send_command(r, env, dir, &e);
	if (ret < 0) {
		stdio_close(&r->io);
		return fail(r, &e);
	}
	ret = follow(r, &rp, &e);
	sandbox_stop(&r->s);
	drain(r);
	stdio_close(&r->io);
	if (ret < 0)
		return r->ready ? fail_exec(r, &e) : fail(r, &e);
	settle(r, &rp);
	return 0;
}

/* Starts the sandbox, with a socket of the run; it is not ready yet. */
static int start_box(struct run *r, const struct launcher *l, struct launch *w, struct err *e)
{
	OWN_FD there = -1;
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket");
	r->sock = pair[0];
	there = w->client_fd = pair[1];
	ret = sandbox_start(l, w, &r->s, e);
	w->client_fd = -1;
	return ret;
}

/* What there is time for while pid 1 builds. */
static int meanwhile(struct run *r, const struct launcher *l, const struct launch *w,
	struct run_net *net, struct err *e)
{
	bool group = w->cgroup != NULL; /* there is none without a limit on memory */

	if (run_net_attach(net, l, &r->s, READY_MS, e) < 0)
		return -1;
	r->ready_by_ms = (uint64_t)clock_ms() + READY_MS;
	r->ask_at_ms = (uint64_t)clock_ms() + (uint64_t)r->o->conf.watch_interval_ms;
	return run_watch_open(&r->watch, &r->o->conf, group, w->root.flags & PLAN_TMPFS_UPPER, e);
}

static int with_launcher(struct run *r, const struct image *im, struct launch *w, struct upper *d,
	const struct buf *env)
{
	struct launch_mount *mounts = NULL;
	const char *dir = r->o->dir ? r->o->dir : im->workdir ? im->workdir : "/";
	struct launcher l = {.init_fd = -1};
	struct run_net net = {.pasta = PASTA_NONE};
	struct run_group rg = {.delegated.dir = -1, .box.dir = -1};
	struct err e = {0};
	int ret = -1;

	if (root_mounts(r->o, im, &mounts, &w->nmounts, &e) == 0 &&
		run_net_prepare(r->o, &net, w, &e) == 0 &&
		run_group_open(&r->o->conf, &rg, &e) == 0 &&
		limits_enforceable(r->o, rg.box.dir < 0 ? 0 : rg.delegated.have, &e) == 0 &&
		launcher_open(&l, &e) == 0) {
		w->mounts = mounts;
		w->cgroup = rg.box.dir < 0 ? NULL : &rg.box;
		if (!w->cgroup || !(rg.delegated.have & CGROUP_CPU))
			w->cpus = (double)r->o->conf.cpu_max_percent / 100;
		ret = start_box(r, &l, w, &e);
		if (ret == 0) {
			upper_sweep(d);
			/* what lies on a disk is used again, or removed, by us */
			r->mounts = d->on_disk ? -1 : mounts_hold(r->s.pid);
			ret = meanwhile(r, &l, w, &net, &e);
		}
	}
	ret = ret < 0 ? fail(r, &e) : run_in(r, env, dir);
	run_watch_close(&r->watch);
	sandbox_stop(&r->s);
	mounts_leave(&r->mounts);
	run_net_close(&net);
	run_group_close(&rg);
	w->cgroup = NULL; /* these were borrowed from here */
	w->pasta = NULL;
	w->mounts = NULL;
	launcher_close(&l);
	free(mounts);
	return ret;
}

static int run_image(struct run *r, const struct image *im)
{
	OWN_BUF env = BUF_INIT(RUN_ENV_MAX);
	struct tree_use layer;
	struct run_user user;
	struct upper d;
	struct launch w;
	struct err e = {0};
	int ret;

	if (user_resolve(r->o, im, &user, &e) < 0 || env_make(r->o, im, &user, &env, &e) < 0)
		return fail(r, &e);
	/* from here on signals end us by way of the loop, so that no layer is left */
	r->signals = open_signals(&e);
	if (r->signals < 0 || upper_open(&d, r->o->conf.state_dir, r->o->upper, &e) < 0)
		return fail(r, &e);
	root_launch(r->o, im, &user, &d, &w);
	limit_layer(r->o, &d, &layer);
	ret = run_disk_begin(&r->disk, d.upper, &layer, !d.kept, &e) < 0
		      ? fail(r, &e)
		      : with_launcher(r, im, &w, &d, &env);
	run_disk_close(&r->disk);
	if (upper_close(&d, &e) < 0)
		complain(&e);
	return ret;
}

static int resolve_and_run(struct run *r)
{
	const char **own = NULL;
	struct image im = {0};
	struct store *store = NULL;
	struct err e = {0};
	int ret;

	files_raise();
	if (r->o->rootfs)
		ret = root_from_dir(r->o->rootfs, &im, &e);
	else if ((store = store_open(r->o->conf.state_dir, &e)))
		ret = store_resolve(store, r->o->image, &im, &e);
	else
		ret = -1;
	if (ret == 0)
		ret = root_program(r->o, &im, &r->argv, &own, &e);
	ret = ret < 0 ? fail(r, &e) : run_image(r, &im);
	free(own);
	image_clear(&im);
	store_close(store);
	return ret;
}

/* Ends us with SIGKILL when our parent ends, also when it did before this call. */
static int die_with_parent(pid_t parent, struct err *e)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "--die-with-parent");
	return getppid() == parent ? 0 : err_set(e, ERR_SETUP, 0, "the parent has ended");
}

static int usage_error(const struct err *e)
{
	complain(e);
	fputs("usage: cgibox run [options] [--] [PROGRAM [ARGUMENT...]]\n"
	      "       cgibox run --help lists the options\n",
		stderr);
	return EXIT_USAGE;
}

int main_run(const struct conf *c, int argc, char **argv)
{
	pid_t parent = getppid();
	struct run_outcome out = {0};
	struct run_opts o;
	struct run r = {.o = &o,
		.out = &out,
		.s = SANDBOX_NONE,
		.io = {.own = {-1, -1, -1}, .master = -1, .hold = -1},
		.sock = -1,
		.signals = -1,
		.mounts = -1,
		.disk = RUN_DISK_NONE};
	struct err e = {0};

	if (opts_parse(&o, c, argc, argv, &e) < 0) {
		out.exit_code = usage_error(&e);
	} else if (o.help) {
		out.exit_code = fputs(opts_usage, stdout) < 0 || fflush(stdout) < 0 ? 74 : 0;
	} else {
		if (o.die_with_parent && die_with_parent(parent, &e) < 0)
			fail(&r, &e);
		else
			resolve_and_run(&r);
		if (out.err.kind != ERR_NONE)
			complain(&out.err);
		if (o.json_fd >= 0 && json_write(o.json_fd, &out, &e) < 0)
			out.exit_code = complain(&e);
	}
	own_close(&r.sock);
	own_close(&r.signals);
	opts_clear(&o);
	return out.exit_code;
}

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
	int watch = run_watch_wait_ms(&r->watch, now), kill;

	if (!r->kill_at_ms)
		return watch;
	kill = r->kill_at_ms <= now ? 0 : (int)(r->kill_at_ms - now);
	return watch >= 0 && watch < kill ? watch : kill;
}

/* What next_wake_ms() waited for. */
static void on_wake(struct run *r)
{
	uint64_t now = (uint64_t)clock_ms();

	if (r->kill_at_ms && r->kill_at_ms <= now)
		kill_all(r);
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

enum { POLL_SOCK, POLL_SIGNALS, POLL_DISK, POLL_RELAY, POLL_MAX = POLL_RELAY + 2 * CHANNELS_MAX };

/* Signals, streams and time until the verdict arrives. */
static int follow(struct run *r, struct proto_reply *rp, struct err *e)
{
	struct pollfd p[POLL_MAX];
	int sig;

	for (;;) {
		size_t n = relay_poll(&r->io, p + POLL_RELAY);

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
		if (relay_move(&r->io, p + POLL_RELAY))
			on_output_limit(r);
		if (p[POLL_DISK].revents)
			on_disk(r);
		on_wake(r);
		if (p[POLL_SOCK].revents)
			return client_receive(r->sock, rp, e);
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

		p[POLL_SOCK] = p[POLL_DISK] = (struct pollfd){.fd = -1};
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

/* A socket of pid 1 for this run. */
static int attach(struct run *r, struct err *e)
{
	OWN_FD here = -1, there = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket");
	here = pair[0];
	there = pair[1];
	if (client_attach(r->s.ctl, there, e) < 0)
		return -1;
	r->sock = take_fd(&here);
	return 0;
}

static int start_command(struct run *r, const struct buf *env, const char *dir, struct err *e)
{
	struct client_exec x = {.run = RUN_ID,
		.flags = PROTO_STDIO,
		.dir = dir,
		.argv = r->argv,
		.env = env->p,
		.env_bytes = env->len,
		.timeout_ms = r->o->timeout_ms};
	int master = -1;

	if (attach(r, e) < 0)
		return -1;
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

/* Runs the program in the sandbox that stands. */
static int run_in(struct run *r, const struct buf *env, const char *dir)
{
	struct proto_reply rp = {0};
	struct err e = {0};
	int ret;

	ret = start_command(r, env, dir, &e);
	if (ret < 0) {
		stdio_close(&r->io);
		return fail(r, &e);
	}
	ret = follow(r, &rp, &e);
	sandbox_stop(&r->s);
	drain(r);
	stdio_close(&r->io);
	if (ret < 0)
		return fail_exec(r, &e);
	settle(r, &rp);
	return 0;
}

/* The image's variables, then the caller's; PATH, HOME and TERM when nobody says. */
static int make_env(const struct run *r, const struct image *im, const struct run_user *u,
	struct buf *out, struct err *e)
{
	static const char path[] =
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	const struct buf *own = &r->o->env;
	char home[sizeof u->home + 8];

	for (size_t i = 0; i < im->nenv; i++)
		if (strchr(im->env[i], '=') > im->env[i] && env_put(out, im->env[i], e) < 0)
			return err_in(e, "environment of the image");
	for (size_t at = 0; at < own->len; at += strlen(own->p + at) + 1)
		if (env_put(out, own->p + at, e) < 0)
			return -1;
	snprintf(home, sizeof home, "HOME=%s", u->home[0] ? u->home : "/");
	if ((!env_get(out, "PATH") && env_put(out, path, e) < 0) ||
		(!env_get(out, "HOME") && env_put(out, home, e) < 0))
		return -1;
	if (!env_get(out, "TERM") && stdio_needs_pty(r->o))
		return env_put(out, "TERM=xterm", e);
	return 0;
}

/* The sandbox, ready for its command. */
static int start_box(struct run *r, const struct launcher *l, const struct launch *w,
	struct run_net *net, struct err *e)
{
	bool group = w->cgroup != NULL; /* there is none without a limit on memory */

	if (sandbox_start(l, w, &r->s, e) < 0 || run_net_attach(net, l, &r->s, READY_MS, e) < 0 ||
		run_watch_open(&r->watch, &r->o->conf, group, w->root.flags & PLAN_TMPFS_UPPER, e) <
			0 ||
		sandbox_wait_ready(&r->s, READY_MS, e) < 0)
		return -1;
	return run_watch_begin(&r->watch, &r->s, e);
}

static int with_launcher(
	struct run *r, const struct image *im, struct launch *w, const struct buf *env)
{
	struct launch_mount *mounts = calloc(ROOT_MOUNTS_MAX, sizeof *mounts);
	const char *dir = r->o->dir ? r->o->dir : im->workdir ? im->workdir : "/";
	struct launcher l = {.init_fd = -1};
	struct run_net net = {.pasta = PASTA_NONE};
	struct run_group rg = {.delegated.dir = -1, .box.dir = -1};
	struct err e = {0};
	int ret = -1;

	w->mounts = mounts;
	if (!mounts) {
		err_set(&e, ERR_SETUP, ENOMEM, "mounts");
	} else if (root_mounts(r->o, im, mounts, &w->nmounts, &e) == 0 &&
		   run_net_prepare(r->o, &net, w, &e) == 0 &&
		   run_group_open(&r->o->conf, &rg, &e) == 0 &&
		   limits_enforceable(r->o, rg.box.dir < 0 ? 0 : rg.delegated.have, &e) == 0 &&
		   launcher_open(&l, &e) == 0) {
		w->cgroup = rg.box.dir < 0 ? NULL : &rg.box;
		if (!w->cgroup || !(rg.delegated.have & CGROUP_CPU))
			w->cpus = (double)r->o->conf.cpu_max_percent / 100;
		ret = start_box(r, &l, w, &net, &e);
	}
	ret = ret < 0 ? fail(r, &e) : run_in(r, env, dir);
	run_watch_close(&r->watch);
	sandbox_stop(&r->s);
	run_net_close(&net);
	run_group_close(&rg);
	w->cgroup = NULL; /* these were borrowed from here */
	w->pasta = NULL;
	w->mounts = NULL;
	launcher_close(&l);
	free(mounts);
	return ret;
}

/* A layer of one run that lies on a disk may be as large as the tmpfs that it stands for. */
static int watch_disk(struct run *r, const struct upper *d, struct err *e)
{
	const struct conf *c = &r->o->conf;
	struct tree_use limit = {0};

	if (d->kept && limit_given(r->o, "disk"))
		limit.bytes = (uint64_t)c->session_disk_max_bytes;
	if (d->kept && limit_given(r->o, "disk-files"))
		limit.inodes = (uint64_t)c->session_disk_max_inodes;
	if (d->on_disk && !d->kept)
		limit = (struct tree_use){.bytes = (uint64_t)c->tmpfs_max_bytes,
			.inodes = (uint64_t)c->tmpfs_max_inodes};
	return run_disk_begin(&r->disk, d->upper, &limit, !d->kept, e);
}

static int run_image(struct run *r, const struct image *im)
{
	OWN_BUF env = BUF_INIT(RUN_ENV_MAX);
	struct run_user user;
	struct upper d;
	struct launch w;
	struct err e = {0};
	int ret;

	if (user_resolve(r->o, im, &user, &e) < 0 || make_env(r, im, &user, &env, &e) < 0)
		return fail(r, &e);
	/* from here on signals end us by way of the loop, so that no layer is left */
	r->signals = open_signals(&e);
	if (r->signals < 0 || upper_open(&d, r->o->conf.state_dir, r->o->upper, &e) < 0)
		return fail(r, &e);
	root_launch(r->o, im, &user, &d, &w);
	ret = watch_disk(r, &d, &e) < 0 ? fail(r, &e) : with_launcher(r, im, &w, &env);
	run_disk_close(&r->disk);
	if (upper_close(&d, &e) < 0)
		complain(&e);
	return ret;
}

/* The caller's program, or the image's (its Entrypoint, then its Cmd). *own: to free. */
static int choose_program(struct run *r, const struct image *im, const char ***own, struct err *e)
{
	size_t n = im->nentrypoint + im->ncmd, at = 0;

	r->argv = (const char *const *)r->o->argv;
	if (r->argv[0])
		return 0;
	if (n == 0 || n > PROTO_ARGS_MAX)
		return err_set(e, ERR_REQUEST, 0, "no program is named, and the image names none");
	*own = calloc(n + 1, sizeof **own);
	if (!*own)
		return err_set(e, ERR_SETUP, ENOMEM, "arguments");
	for (size_t i = 0; i < im->nentrypoint; i++)
		(*own)[at++] = im->entrypoint[i];
	for (size_t i = 0; i < im->ncmd; i++)
		(*own)[at++] = im->cmd[i];
	r->argv = *own;
	return 0;
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
		ret = choose_program(r, &im, &own, &e);
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

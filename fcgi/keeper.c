#include "fcgi/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "fcgi/keeper_ahead.h"
#include "fcgi/keeper_engine.h"
#include "fcgi/keeper_int.h"
#include "fcgi/keeper_warm.h"
#include "fcgi/statesock.h"
#include "isolate/clock.h"
#include "isolate/files.h"
#include "isolate/idmap.h"
#include "isolate/log.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { LOCK_WAIT_S = 5, BACKLOG = 4096, EVENTS = 64, ACCEPT_PAUSE_MS = 100 };

uint64_t keeper_now_ms(void)
{
	return (uint64_t)clock_ms();
}

int keeper_watch(struct keeper *k, struct source *s, int fd, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};

	s->fd = fd;
	if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &ev) == 0)
		return 0;
	err_set(e, ERR_SETUP, errno, "watch a descriptor");
	own_close(&s->fd);
	return -1;
}

void keeper_unwatch(struct keeper *k, struct source *s)
{
	if (s->fd >= 0)
		epoll_ctl(k->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	own_close(&s->fd);
}

int keeper_connect(const char *state_dir, struct err *e)
{
	return statesock_connect(state_dir, KEEPER_SOCKET, "the keeper", e);
}

/*
 * A user and a mount namespace of our own: sandboxes nest below it, which costs less than one
 * made from the host's, and what is mounted here for them is no business of the host's. more: further
 * CLONE_NEW* flags.
 */
static int enter_namespaces(int more, struct err *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | more) < 0)
		return err_set(e, ERR_SETUP, errno,
			"create a user namespace (`cgibox doctor`, as this user, says what to "
			"type)");
	if (idmap_write(0, 0, uid, gid, e) < 0)
		return -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_set(e, ERR_SETUP, errno, "part from the host's mounts");
	return 0;
}

/* One keeper a state directory. A predecessor that is being killed needs a moment to be gone. */
static int take_lock(int state, bool wait, struct err *e)
{
	OWN_FD fd = openat(state, "keeper.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open keeper.lock");
	if (wait)
		alarm(LOCK_WAIT_S); /* the default action ends us: main starts another */
	if (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0)
		return err_set(e, ERR_BUSY, errno, "another keeper holds this state directory");
	alarm(0);
	return take_fd(&fd);
}

static void set_listening(struct keeper *k, bool on)
{
	struct epoll_event ev = {.events = on ? EPOLLIN : 0, .data.ptr = &k->listen};

	if (epoll_ctl(k->epoll, EPOLL_CTL_MOD, k->listen.fd, &ev) < 0)
		log_line(LOG_ERROR, "listening socket: %s", strerror(errno));
}

static void pause_listening(struct keeper *k)
{
	log_line(LOG_WARN, "accept: %s; waiting", strerror(errno));
	set_listening(k, false);
	k->listen_at_ms = keeper_now_ms() + ACCEPT_PAUSE_MS;
}

static void accept_one(struct keeper *k, struct source *s)
{
	int fd = statesock_accept(s->fd);

	if (fd >= 0) {
		call_accept(k, fd);
		return;
	}
	/* The connection stays in the backlog and epoll would tell of it at once again. */
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
		pause_listening(k);
}

static void lifeline_cut(struct keeper *k, struct source *s)
{
	(void)s;
	k->stop = true;
}

/* Frees calls that ended in the round of events just served. */
static void reap_calls(struct keeper *k)
{
	struct call *c = LIST_FIRST(&k->calls), *next;

	for (; c; c = next) {
		next = LIST_NEXT(c, link);
		if (!c->over)
			continue;
		LIST_REMOVE(c, link);
		k->ncalls--;
		free(c);
	}
}

/* The skeleton of the image "host" is made and synced to the disk now, not while others wait. */
static void prepare_host(struct keeper *k)
{
	struct image im = {0};
	struct err e;

	if (store_resolve(k->store, "host", &im, &e) < 0)
		log_err(LOG_WARN, &e, "image host");
	image_clear(&im);
}

static int keeper_open(struct keeper *k, const struct conf *c, bool on_demand, struct err *e)
{
	memset(k, 0, sizeof *k);
	k->conf = c;
	k->on_demand = on_demand;
	k->start_ms = keeper_now_ms();
	k->listen.fd = k->lifeline.fd = k->watcher.fd = k->epoll = k->lock = -1;
	k->launcher.init_fd = k->delegated.dir = k->group.dir = -1;
	for (int i = 0; i < TRASH_JOBS; i++)
		k->trash[i].job.fd = -1;
	LIST_INIT(&k->calls);
	LIST_INIT(&k->boxes);
	LIST_INIT(&k->laters);
	LIST_INIT(&k->sessions);
	if (session_dirs_open(&k->dirs, c->state_dir, e) < 0)
		return -1;
	k->lock = take_lock(k->dirs.state, !on_demand, e);
	if (k->lock < 0 || facts_open(k, e) < 0 || broker_open(k, e) < 0 || group_enter(k, e) < 0 ||
		enter_namespaces(k->group.dir < 0 ? 0 : CLONE_NEWCGROUP, e) < 0 ||
		group_settle(k, e) < 0)
		return -1;
	/* These two first: they must not hold what we open from here on. */
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (k->epoll < 0)
		return err_set(e, ERR_SETUP, errno, "make an epoll");
	if (root_check(k, e) < 0 || watch_start(k, e) < 0)
		return -1;
	k->tree = tree_server_start(e);
	k->store = k->tree ? store_open(c->state_dir, e) : NULL;
	if (!k->store || launcher_open(&k->launcher, e) < 0 ||
		session_dirs_sweep(&k->dirs, e) < 0 || layers_start(k, e) < 0 ||
		facts_watch(k, e) < 0 || broker_watch(k, e) < 0)
		return -1;
	volumes_sweep(k);
	if (!k->engine) {
		prepare_host(k);
		k->pool = pool_open(k, e);
		if (e->kind == ERR_NONE)
			k->warm = warm_open(k, e);
	} else {
		k->ahead = ahead_open(k, e);
	}
	return e->kind == ERR_NONE ? keeper_stats_open(k, e) : -1;
}

static int keeper_listen(struct keeper *k, int lifeline, struct err *e)
{
	int fd = statesock_listen(k->dirs.state, KEEPER_SOCKET, BACKLOG, e);

	k->listen.ready = accept_one;
	k->lifeline.ready = lifeline_cut;
	if (fd < 0 || keeper_watch(k, &k->listen, fd, e) < 0 || index_listen(k, e) < 0)
		return -1;
	return lifeline < 0 || MUTATED("lifeline") ? 0 : keeper_watch(k, &k->lifeline, lifeline, e);
}

/* The shorter of two times of sandbox.conf, of which 0 is none. */
static int64_t sooner(int64_t a, int64_t b)
{
	return b > 0 && b < a ? b : a;
}

/* Minutely, or oftener when sessions live shorter. */
static void tick(struct keeper *k)
{
	const struct conf *c = k->conf;
	uint64_t now = keeper_now_ms();
	uint64_t period = (uint64_t)sooner(sooner(c->session_idle_s, c->manager_idle_s),
				  c->manager_age_max_s) *
			  1000 / 4;

	if (now < k->next_tick_ms)
		return;
	period = period < 500 ? 500 : period > 60000 ? 60000 : period;
	k->next_tick_ms = now + period;
	trash_expire(k);
}

static bool idle_out(struct keeper *k)
{
	uint64_t now = keeper_now_ms();

	if (!k->on_demand || k->ncalls > 0 || k->nboxes > 0) {
		k->idle_since_ms = now;
		return false;
	}
	return now - k->idle_since_ms >= (uint64_t)k->conf->keeper_idle_s * 1000 &&
	       ahead_end(k, NULL, NULL);
}

static int next_wait(struct keeper *k)
{
	uint64_t now = keeper_now_ms();
	uint64_t tick_in = k->next_tick_ms > now ? k->next_tick_ms - now : 0;
	int call_in = call_deadline(k);
	int wait = tick_in < (uint64_t)call_in ? (int)tick_in : call_in;
	int group_in = group_retry(k);
	int box_in = box_deadline(k);
	int disk_in = watch_disk_work(k);
	int index_in = index_retry(k);
	int engine_in = broker_retry(k);
	int pool_in = pool_tick(k, k->pool);
	int warm_in = warm_tick(k, k->warm);
	int ahead_in = ahead_tick(k);

	if (ahead_in >= 0 && ahead_in < wait)
		wait = ahead_in;
	if (warm_in >= 0 && warm_in < wait)
		wait = warm_in;
	if (pool_in >= 0 && pool_in < wait)
		wait = pool_in;

	if (disk_in >= 0 && disk_in < wait)
		wait = disk_in;

	wait = group_in < wait ? group_in : wait;
	wait = index_in < wait ? index_in : wait;
	wait = engine_in < wait ? engine_in : wait;
	wait = box_in < wait ? box_in : wait;
	if (k->listen_at_ms && now >= k->listen_at_ms) {
		k->listen_at_ms = 0;
		set_listening(k, true);
	}
	if (k->listen_at_ms && wait > ACCEPT_PAUSE_MS)
		wait = ACCEPT_PAUSE_MS;
	return k->on_demand && wait > 1000 ? 1000 : wait;
}

static void loop(struct keeper *k)
{
	struct epoll_event ev[EVENTS];

	k->idle_since_ms = keeper_now_ms();
	while (!k->stop && !idle_out(k)) {
		int n, wait;

		tick(k);
		wait = next_wait(k);
		n = epoll_wait(k->epoll, ev, EVENTS, wait);
		if (n == 0 && wait > 0) {
			pool_idle(k, k->pool);
			warm_idle(k, k->warm);
			ahead_idle(k);
		}
		for (int i = 0; i < n; i++) {
			struct source *s = ev[i].data.ptr;

			if (s->fd >= 0) /* else closed earlier in this round */
				s->ready(k, s);
		}
		box_reap(k);
		reap_calls(k);
	}
}

/* The whole life of a keeper. ready: told (closed) once the socket listens; -1 = nobody asks. */
static _Noreturn void keeper_main(const struct conf *c, int lifeline, int ready)
{
	struct keeper k;
	struct err e = {0};

	log_open("cgibox-keeper", (enum log_level)c->log_level);
	prctl(PR_SET_NAME, "cgibox-keeper", 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	files_raise(); /* admission counts what we have */
	if (keeper_open(&k, c, lifeline < 0, &e) < 0 || keeper_listen(&k, lifeline, &e) < 0) {
		if (e.kind != ERR_BUSY)
			log_err(LOG_ERROR, &e, "start");
		_exit(err_exit_code(e.kind));
	}
	own_close(&ready);
	log_line(LOG_INFO, "serves %s", c->state_dir);
	loop(&k);
	/* Our end is the end of every sandbox: the sockets to their pid 1 close. */
	_exit(0);
}

static void reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

pid_t keeper_spawn(const struct conf *c, int lifeline, struct err *e)
{
	pid_t parent = getpid(), pid = fork();
	int fd;

	if (pid < 0)
		return err_set(e, ERR_SETUP, errno, "fork the keeper");
	if (pid > 0)
		return pid;
	reset_signals();
	fd = dup2(lifeline, 3);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	sys_close_range(4, ~0U, 0);
	if (!MUTATED("pdeathsig-service"))
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (fd < 0 || getppid() != parent)
		_exit(71);
	keeper_main(c, 3, -1);
}

/* Double fork: the keeper belongs to nobody and outlives the copy that started it. */
static int start_detached(const struct conf *c, struct err *e)
{
	int p[2];
	char byte;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "start a keeper");
	pid = fork();
	if (pid == 0) {
		setsid();
		reset_signals();
		if (fork() > 0)
			_exit(0);
		dup2(p[1], 3);
		fcntl(3, F_SETFD, FD_CLOEXEC);
		sys_close_range(4, ~0U, 0);
		if (open("/dev/null", O_RDWR) == 4 && dup2(4, 0) == 0 && dup2(4, 1) == 1)
			close(4);
		keeper_main(c, -1, 3);
	}
	close(p[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	/* the end of the pipe: it listens, or it ended because another one does or will */
	while (pid > 0 && read(p[0], &byte, 1) < 0 && errno == EINTR)
		;
	close(p[0]);
	return pid < 0 ? err_set(e, ERR_SETUP, errno, "start a keeper") : 0;
}

int keeper_ensure(const struct conf *c, struct err *e)
{
	struct timespec pause = {0, 20 * 1000 * 1000};

	/* Another copy's keeper may hold the lock and not listen yet: nothing tells us when. */
	for (int i = 0; i < 250; i++) {
		int fd = keeper_connect(c->state_dir, e);

		if (fd >= 0)
			return fd;
		if (start_detached(c, e) < 0)
			return -1;
		fd = keeper_connect(c->state_dir, e);
		if (fd >= 0)
			return fd;
		nanosleep(&pause, NULL);
	}
	return err_set(
		e, ERR_SETUP, 0, "no keeper could be started; see the web server's error log");
}

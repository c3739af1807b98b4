#include "fcgi/watcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum {
	SOCK_FD = 3,
	STATE_FD = 4,
	DISK_ROUND_US = 5000000,
	WATCHER_NICE = -10,
};

_Static_assert((int)WATCH_FDS == (int)SANDBOX_WATCH_FDS, "one order of descriptors");

enum op { OP_ADD = 1, OP_REMOVE, OP_STEP };

/* What comes with ADD: /proc/PID, the three tables of System V, and perhaps the socket. */
enum { FD_PROC, FD_SHM, FD_SEM, FD_MSG, FD_DIAG, ORDER_FDS_MAX };

struct order {
	uint32_t op, diag; /* diag: with FD_DIAG */
	uint64_t id;       /* of STEP: bytes */
	struct watch_limits lim;
};

enum { ORDERS_AT_ONCE = 64 };

struct watcher {
	struct watcher_conf conf;
	struct watch_set *set;
	uint64_t bytes, inodes; /* most that was free since the last message */
	uint64_t disk_at_us;
	uint64_t disk_looked_us;
};

int watcher_event(int sock, struct watch_event *ev)
{
	ssize_t n = recv(sock, ev, sizeof *ev, MSG_DONTWAIT);

	if (n == 0)
		return 0;
	if (n > 0 && n != (ssize_t)sizeof *ev) {
		errno = EBADMSG;
		return -1;
	}
	return n < 0 ? -1 : 1;
}

static int order_send(int sock, const struct order *o, const int *fds, unsigned n, struct err *e)
{
	if (fdmsg_send(sock, o, sizeof *o, fds, n, MSG_DONTWAIT) == 0)
		return 0;
	return err_set(e, errno == EAGAIN ? ERR_BUSY : ERR_SETUP, errno == EAGAIN ? EBUSY : errno,
		"tell the watchdog");
}

int watcher_add(
	int sock, uint64_t id, const struct watch_limits *lim, struct sandbox *box, struct err *e)
{
	const int *w = box->watch_fd;
	struct order o = {.op = OP_ADD, .diag = w[WATCH_FD_DIAG] >= 0, .id = id, .lim = *lim};
	OWN_FD dir = watch_proc_dir(box->pid, e);
	const int fds[] = {[FD_PROC] = dir,
		[FD_SHM] = w[WATCH_FD_SHM],
		[FD_SEM] = w[WATCH_FD_SEM],
		[FD_MSG] = w[WATCH_FD_MSG],
		[FD_DIAG] = w[WATCH_FD_DIAG]};
	int ret;

	if (dir < 0)
		return -1;
	ret = order_send(sock, &o, fds, o.diag ? ORDER_FDS_MAX : FD_DIAG, e);
	for (int i = 0; i < WATCH_FDS; i++)
		own_close(&box->watch_fd[i]);
	return ret;
}

int watcher_remove(int sock, uint64_t id, struct err *e)
{
	struct order o = {.op = OP_REMOVE, .id = id};

	return order_send(sock, &o, NULL, 0, e);
}

int watcher_step(int sock, uint64_t bytes, struct err *e)
{
	struct order o = {.op = OP_STEP, .id = bytes};

	return order_send(sock, &o, NULL, 0, e);
}

static void report(void *arg, const struct watch_event *ev)
{
	(void)arg;
	/* The keeper reads as fast as it can; without it there is nobody to watch for. */
	if (send(SOCK_FD, ev, sizeof *ev, MSG_NOSIGNAL) < 0 && errno != EINTR)
		_exit(1);
}

static void add(struct watcher *w, const struct order *o, int *fds)
{
	int all[WATCH_FDS] = {[WATCH_FD_DIAG] = fds[FD_DIAG],
		[WATCH_FD_SHM] = fds[FD_SHM],
		[WATCH_FD_SEM] = fds[FD_SEM],
		[WATCH_FD_MSG] = fds[FD_MSG]};
	struct watch_event ev = {.what = WATCH_BLIND, .id = o->id};
	struct err e = {0};

	/* A sandbox that ended meanwhile cannot be opened, and is not there to be ended either. */
	if (watch_set_add(w->set, o->id, &o->lim, fds[FD_PROC], all, &e) < 0) {
		log_err(LOG_INFO, &e, "watch sandbox %llu", (unsigned long long)o->id);
		report(NULL, &ev);
	}
}

static void obey(struct watcher *w, const struct order *o, int *fds, unsigned n)
{
	switch (o->op) {
	case OP_ADD:
		if (n != (o->diag ? ORDER_FDS_MAX : FD_DIAG))
			break;
		add(w, o, fds);
		for (int i = 0; i < ORDER_FDS_MAX; i++)
			fds[i] = -1;
		break;
	case OP_REMOVE:
		watch_set_remove(w->set, o->id);
		break;
	case OP_STEP:
		w->conf.disk_step_bytes = o->id;
		break;
	}
}

/* False: there was none. */
static bool receive(struct watcher *w)
{
	int fds[ORDER_FDS_MAX] = {-1, -1, -1, -1, -1};
	struct order o;
	unsigned n;
	int got = fdmsg_receive(SOCK_FD, &o, sizeof o, fds, ORDER_FDS_MAX, &n, MSG_DONTWAIT);

	if (got == 0)
		_exit(0);
	if (got < 0)
		return false;
	obey(w, &o, fds, n);
	for (unsigned i = 0; i < n; i++)
		own_close(&fds[i]);
	return true;
}

/* Whoever writes takes from what is free; who it was is for the keeper to find out. */
static void look_at_disk(struct watcher *w)
{
	struct watch_event ev = {.what = WATCHER_DISK};
	uint64_t now = watch_now_us(), bytes;
	struct statvfs s;

	if (now - w->disk_looked_us < w->conf.interval_ms * 1000 || fstatvfs(STATE_FD, &s) < 0)
		return;
	w->disk_looked_us = now;
	bytes = (uint64_t)s.f_bfree * s.f_frsize;
	if (bytes > w->bytes)
		w->bytes = bytes;
	if (s.f_ffree > w->inodes)
		w->inodes = s.f_ffree;
	ev.bytes = w->bytes - bytes;
	if (ev.bytes < w->conf.disk_step_bytes &&
		w->inodes - s.f_ffree < w->conf.disk_step_inodes &&
		now - w->disk_at_us < DISK_ROUND_US)
		return;
	w->bytes = bytes;
	w->inodes = s.f_ffree;
	w->disk_at_us = now;
	watch_set_look(w->set);
	report(NULL, &ev);
}

static _Noreturn void watch(struct watcher *w)
{
	for (;;) {
		struct pollfd p = {.fd = SOCK_FD, .events = POLLIN};
		int wait = watch_set_tick(w->set, report, w);

		if (wait >= 0)
			look_at_disk(w);
		if (poll(&p, 1, wait) <= 0)
			continue;
		/* Several, or a busy machine's looks would let orders pile up until the keeper cannot give any. */
		for (int i = 0; i < ORDERS_AT_ONCE && receive(w); i++)
			;
	}
}

/* In the new process: keeps standard error, the socket and the state directory, nothing else. */
static _Noreturn void watcher_main(const struct watcher_conf *c, int sock, int state, pid_t keeper)
{
	struct watcher w = {.conf = *c};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int a = fcntl(sock, F_DUPFD_CLOEXEC, STATE_FD + 1);
	int b = fcntl(state, F_DUPFD_CLOEXEC, STATE_FD + 1);
	struct rlimit files;
	struct err e = {0};

	if (null < 0 || a < 0 || b < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
		dup3(a, SOCK_FD, O_CLOEXEC) < 0 || dup3(b, STATE_FD, O_CLOEXEC) < 0 ||
		sys_close_range(STATE_FD + 1, ~0U, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
		getppid() != keeper)
		_exit(1);
	prctl(PR_SET_NAME, "cgibox-watch");
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* Against a sandbox that keeps all processors busy. A wish: without RLIMIT_NICE it is refused. */
	if (setpriority(PRIO_PROCESS, 0, WATCHER_NICE) < 0 && errno != EACCES && errno != EPERM)
		log_line(LOG_WARN, "watchdog: priority: %s", strerror(errno));
	w.set = watch_set_new(c->interval_ms, c->reserve_bytes, &e);
	if (!w.set) {
		log_err(LOG_ERROR, &e, "watchdog");
		_exit(1);
	}
	watch(&w);
}

int watcher_start(const struct watcher_conf *c, int state, struct err *e)
{
	pid_t self = getpid(), pid;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "start the watchdog");
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		watcher_main(c, pair[1], state, self);
	}
	close(pair[1]);
	if (pid > 0)
		return pair[0];
	close(pair[0]);
	return err_set(e, ERR_SETUP, errno, "start the watchdog");
}

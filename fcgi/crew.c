#include "fcgi/crew.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fcgi/worker.h"
#include "isolate/log.h"
#include "isolate/mutate.h"
#include "isolate/own.h"

/*
 * Starting workers share the cores with running requests, so few start at a time; and a worker
 * that cannot start (a full disk, no memory) must not make main spin.
 */
enum { STARTING_MAX = 4, RETRY_MS = 100, RETRY_MAX_MS = 1000 };

int crew_init(struct crew *w, const struct conf *c, int epoll, int kind, unsigned min, unsigned max,
	struct err *e)
{
	*w = (struct crew){.conf = c, .epoll = epoll, .kind = kind, .min = min, .max = max};
	w->members = calloc(max, sizeof *w->members);
	if (!w->members)
		return err_set(e, ERR_SETUP, ENOMEM, "%u workers", max);
	for (unsigned i = 0; i < max; i++)
		w->members[i] = (struct member){.kind = kind, .pair = -1, .lifeline = -1};
	return 0;
}

void crew_clear(struct crew *w)
{
	for (unsigned i = 0; i < w->max && w->members; i++)
		if (w->members[i].state != MEMBER_NONE)
			crew_lose(w, &w->members[i], 0);
	free(w->members);
	w->members = NULL;
}

static void leave_state(struct crew *w, const struct member *m)
{
	if (m->state == MEMBER_IDLE)
		w->idle--;
	if (m->state == MEMBER_STARTING)
		w->starting--;
	if (m->state != MEMBER_NONE)
		w->count--;
}

static void set_state(struct crew *w, struct member *m, enum member_state s, int64_t now)
{
	leave_state(w, m);
	m->state = s;
	m->since = now;
	if (s == MEMBER_IDLE)
		w->idle++;
	if (s == MEMBER_STARTING)
		w->starting++;
	if (s != MEMBER_NONE)
		w->count++;
}

/* In the child: nothing of main's may stay open, the write ends of other lifelines least. */
static _Noreturn void be_worker(const struct conf *c, int pair, int lifeline, pid_t parent)
{
	int low = pair < lifeline ? pair : lifeline, high = pair < lifeline ? lifeline : pair;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* The second string: it is lost when the parent died before it was set. */
	if (!MUTATED("pdeathsig-service"))
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		_exit(1);
	if (low > 3)
		syscall(SYS_close_range, 3, low - 1, 0);
	if (high > low + 1)
		syscall(SYS_close_range, low + 1, high - 1, 0);
	syscall(SYS_close_range, high + 1, ~0U, 0);
	worker_run(c, pair, lifeline);
}

static int start_one(struct crew *w, struct member *m, int64_t now, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = m};
	int pair[2], life[2];
	pid_t self = getpid();

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "pair for a worker");
	if (pipe2(life, O_CLOEXEC) < 0) {
		err_set(e, ERR_SETUP, errno, "lifeline of a worker");
		close(pair[0]);
		close(pair[1]);
		return -1;
	}
	m->pid = fork();
	if (m->pid == 0)
		be_worker(w->conf, pair[1], life[0], self);
	close(pair[1]);
	close(life[0]);
	if (m->pid < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, pair[0], &ev) < 0) {
		err_set(e, ERR_SETUP, errno, "start a worker");
		close(pair[0]);
		close(life[1]);
		return -1;
	}
	m->was = m->pid;
	m->pair = pair[0];
	m->lifeline = life[1];
	m->log = 0;
	set_state(w, m, MEMBER_STARTING, now);
	return 0;
}

static struct member *free_slot(struct crew *w)
{
	for (unsigned i = 0; i < w->max; i++)
		if (w->members[i].state == MEMBER_NONE)
			return &w->members[i];
	return NULL;
}

/* Waits longer after each failure in a row. */
static void back_off(struct crew *w, int64_t now)
{
	int64_t ms = (int64_t)RETRY_MS * ++w->failures;

	w->not_before = now + (ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS);
}

static void start_missing(struct crew *w, unsigned waiting, int64_t now)
{
	struct err e;

	while (w->count < w->max && w->starting < STARTING_MAX && now >= w->not_before &&
		(w->count < w->min || waiting > w->idle + w->starting)) {
		if (start_one(w, free_slot(w), now, &e) < 0) {
			log_err(LOG_ERROR, &e, "workers");
			back_off(w, now);
		}
	}
}

/* Closing the pair ends an idle worker; it is reaped with the others. */
static void dismiss(struct crew *w, struct member *m, int64_t now)
{
	close(m->pair);
	m->pair = -1;
	close(m->lifeline);
	m->lifeline = -1;
	set_state(w, m, MEMBER_NONE, now);
}

int64_t crew_adjust(struct crew *w, unsigned waiting, int64_t now)
{
	int64_t idle_ms = w->conf->worker_idle_s * 1000, next = INT64_MAX;

	start_missing(w, waiting, now);
	if (w->not_before > now && (w->count < w->min || waiting > w->idle + w->starting))
		next = w->not_before;
	for (unsigned i = 0; i < w->max && w->count > w->min; i++) {
		struct member *m = &w->members[i];

		if (m->state != MEMBER_IDLE)
			continue;
		if (m->since + idle_ms <= now)
			dismiss(w, m, now);
		else if (m->since + idle_ms < next)
			next = m->since + idle_ms;
	}
	return next;
}

struct member *crew_idle(struct crew *w)
{
	struct member *best = NULL;

	for (unsigned i = 0; i < w->max && w->idle; i++)
		if (w->members[i].state == MEMBER_IDLE &&
			(!best || w->members[i].since > best->since))
			best = &w->members[i];
	return best;
}

/* A worker gets the access log with its first request, and after that when it is another file. */
static int give_log(const struct crew *w, struct member *m, struct err *e)
{
	if (!w->access || w->access->fd < 0 || m->log == w->access->generation)
		return 0;
	m->log = w->access->generation;
	return worker_give(m->pair, JOB_LOG, w->access->fd, e);
}

int crew_give(struct crew *w, struct member *m, int conn, void *job, int64_t now)
{
	struct err e;

	if (give_log(w, m, &e) < 0 || worker_give(m->pair, JOB_REQUEST, conn, &e) < 0) {
		log_err(LOG_WARN, &e, "worker %d", (int)m->pid);
		crew_lose(w, m, now);
		return -1;
	}
	m->job = job;
	set_state(w, m, MEMBER_BUSY, now);
	return 0;
}

int crew_hear(struct member *m)
{
	char c;
	ssize_t n = recv(m->pair, &c, 1, MSG_DONTWAIT);

	if (n == 1)
		return c;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

void crew_ready(struct crew *w, struct member *m, int64_t now)
{
	w->failures = 0;
	m->job = NULL;
	set_state(w, m, MEMBER_IDLE, now);
}

void crew_reaped(struct crew *w, pid_t pid)
{
	for (unsigned i = 0; i < w->max; i++)
		if (w->members[i].pid == pid)
			w->members[i].pid = 0;
}

void crew_lose(struct crew *w, struct member *m, int64_t now)
{
	if (m->state == MEMBER_STARTING)
		back_off(w, now);
	/* As long as it is not reaped, the number is this worker's. */
	if (m->pid > 0)
		kill(m->pid, SIGKILL);
	m->job = NULL;
	dismiss(w, m, now);
}

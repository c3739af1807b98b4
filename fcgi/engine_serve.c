/* The broker's loop: the keeper's questions, and who answers them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fcgi/engine_int.h"
#include "fcgi/engine_reason.h"
#include "isolate/clock.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"

static void exchange_done(struct exchange *x);

struct job *job_new(struct engine *g, const struct engine_question *q, int fd)
{
	struct job *j = calloc(1, sizeof *j);

	if (!j)
		return NULL;
	j->engine = g;
	j->q = *q;
	j->fd = fd;
	j->out = j->attach = j->x.upload = -1;
	j->x.owner = j;
	j->x.done = exchange_done;
	j->a.op = q->op;
	j->a.number = q->number;
	memcpy(j->a.box, q->box, sizeof j->a.box);
	TAILQ_INSERT_TAIL(&g->waiting, j, link);
	g->njobs++;
	return j;
}

void job_drop(struct job *j)
{
	struct engine *g = j->engine;

	TAILQ_REMOVE(&g->running, j, link);
	g->njobs--;
	engine_http_abandon(&j->x);
	own_close(&j->fd);
	own_close(&j->out);
	pull_clear(j);
	attach_clear(j);
	sweep_clear(j);
	free(j);
}

void engine_tell(struct engine *g, const struct engine_answer *a, int fd)
{
	struct engine_answer out = *a;

	if (g->checking)
		return;
	out.magic = ENGINE_MAGIC;
	/* The keeper reads whatever it does, and never waits for us: so may we for it. */
	if (fdmsg_send(g->sock, &out, sizeof out, &fd, fd >= 0, MSG_NOSIGNAL) < 0)
		g->over = true;
}

void job_answer(struct job *j)
{
	engine_tell(j->engine, &j->a, j->out);
	job_drop(j);
}

void job_fail(struct job *j, const struct err *e)
{
	j->a.err = *e;
	own_close(&j->out);
	if (e->kind == ERR_SETUP || e->kind == ERR_BUG || e->kind == ERR_CONF)
		log_err(LOG_ERROR, e, "engine");
	if (j->q.number)
		job_answer(j);
	else
		job_drop(j);
}

void job_refused(struct job *j)
{
	struct err e = j->x.e;

	if (!e.kind)
		engine_reason(j->x.status, j->x.answer.p, j->x.answer.len, j->what, &e);
	job_fail(j, &e);
}

static void exchange_done(struct exchange *x)
{
	struct job *j = x->owner;

	if (!x->e.kind && x->status >= 200 && x->status < 300)
		j->next(j);
	else if (j->failed)
		j->failed(j);
	else
		job_refused(j);
}

void job_ask(struct job *j, const char *what, const char *method, const char *path,
	const char *body, void (*next)(struct job *j))
{
	OWN_BUF url = BUF_INIT(ENGINE_URL_MAX);

	j->what = what;
	j->next = next;
	if (!j->x.timeout_ms)
		j->x.timeout_ms = (long)j->engine->conf->engine_timeout_s * 1000;
	engine_path(j->engine, &url);
	buf_adds(&url, path);
	engine_http_begin(j->engine->http, &j->x, method, buf_ok(&url) ? url.p : "", body);
}

int job_give(struct job *j, const char *p, size_t n)
{
	OWN_FD fd = memfd_create("answer", MFD_CLOEXEC);

	for (size_t done = 0; fd >= 0 && done < n;) {
		ssize_t w = write(fd, p + done, n - done);

		if (w <= 0)
			return -1;
		done += (size_t)w;
	}
	if (fd < 0)
		return -1;
	own_close(&j->out);
	j->out = take_fd(&fd);
	j->a.bytes = n;
	return 0;
}

static void answer_info(struct job *j)
{
	j->a.info = j->engine->info;
	job_answer(j);
}

static void job_run(struct job *j)
{
	static void (*const verbs[])(struct job * j) = {
		[ENGINE_INFO] = answer_info,
		[ENGINE_MAKE] = container_make,
		[ENGINE_START] = container_start,
		[ENGINE_KILL] = container_kill,
		[ENGINE_REMOVE] = container_remove,
		[ENGINE_STATS] = container_stats,
		[ENGINE_SWEEP] = sweep_begin,
		[ENGINE_IMAGE_LIST] = image_list,
		[ENGINE_IMAGE_INSPECT] = image_inspect,
		[ENGINE_IMAGE_REMOVE] = image_drop,
		[ENGINE_IMAGE_RESOLVE] = image_resolve,
		[ENGINE_IMAGE_PULL] = pull_begin,
		[ENGINE_IMAGE_IMPORT] = image_import,
		[ENGINE_ENDED] = container_ended,
		[ENGINE_STATE] = sweep_tell_ended,
	};

	TAILQ_REMOVE(&j->engine->waiting, j, link);
	TAILQ_INSERT_TAIL(&j->engine->running, j, link);
	verbs[j->q.op](j);
}

static void refuse(struct engine *g, const struct engine_question *q, const struct err *e)
{
	struct engine_answer a = {.op = q->op, .number = q->number, .err = *e};

	engine_tell(g, &a, -1);
}

/* One question of the keeper's; false: nothing there now. */
static bool receive(struct engine *g)
{
	struct engine_question q;
	struct err e = {0};
	OWN_FD fd = -1;
	unsigned nfds = 0;
	struct job *j = NULL;
	int r = fdmsg_receive(g->sock, &q, sizeof q, &fd, 1, &nfds, MSG_DONTWAIT);

	if (r != 1) {
		g->over = r == 0 || (errno != EAGAIN && errno != EINTR);
		return false;
	}
	if (engine_question_check(&q, &e) < 0) {
		refuse(g, &q, &e);
		return true;
	}
	if (g->njobs >= ENGINE_ASKED_MAX)
		err_set(&e, ERR_BUSY, EUSERS, "%u questions to the Engine are in progress",
			g->njobs);
	else if (!(j = job_new(g, &q, nfds ? fd : -1)))
		err_set(&e, ERR_SETUP, ENOMEM, "ask the Engine");
	if (e.kind) {
		refuse(g, &q, &e);
		return true;
	}
	take_fd(&fd);
	engine_open(g);
	return true;
}

/* What is waited for besides the network: the keeper, bodies that come by a pipe, readers of events. */
static unsigned gather(struct engine *g, struct curl_waitfd *fds)
{
	unsigned n = 1;
	struct job *j;

	fds[0] = (struct curl_waitfd){.fd = g->sock, .events = CURL_WAIT_POLLIN};
	TAILQ_FOREACH(j, &g->running, link)
	{
		int out = pull_waits_for(j), in = attach_waits_for(j);

		if (n < ENGINE_ASKED_MAX && in >= 0)
			fds[n++] = (struct curl_waitfd){.fd = in, .events = CURL_WAIT_POLLIN};
		else if (n < ENGINE_ASKED_MAX && (j->x.paused || out >= 0))
			fds[n++] = (struct curl_waitfd){.fd = out >= 0 ? out : j->x.upload,
				.events = out >= 0 ? CURL_WAIT_POLLOUT : CURL_WAIT_POLLIN};
	}
	return n;
}

static bool ready(const struct curl_waitfd *fds, unsigned n, int fd)
{
	for (unsigned i = 1; i < n; i++)
		if (fds[i].fd == fd && fds[i].revents)
			return true;
	return false;
}

static void resume(struct engine *g, const struct curl_waitfd *fds, unsigned n)
{
	struct job *j, *next;

	for (j = TAILQ_FIRST(&g->running); j; j = next) {
		int out = pull_waits_for(j);

		next = TAILQ_NEXT(j, link);
		if (attach_waits_for(j) >= 0 && ready(fds, n, attach_waits_for(j)))
			attach_readable(j);
		else if (attach_late(j, clock_ms()))
			attach_give_up(j);
		else if (j->x.paused && ready(fds, n, j->x.upload))
			engine_http_resume(&j->x);
		else if (pull_late(j, clock_ms()))
			job_drop(j);
		else if (out >= 0 && ready(fds, n, out))
			pull_writable(j);
	}
}

int engine_serve(struct engine *g, struct err *e)
{
	struct curl_waitfd fds[ENGINE_ASKED_MAX];
	struct job *j;
	unsigned n;

	engine_open(g);
	while (!g->over) {
		n = gather(g, fds);
		if (engine_http_turn(g->http, fds, n, engine_wait_ms(g, clock_ms()), e) < 0)
			return -1;
		resume(g, fds, n);
		while (!g->over && receive(g))
			;
		engine_tick(g, clock_ms());
		/* Not where they come up: libcurl takes no new exchange within its callbacks. */
		while (g->phase == PHASE_OPEN && (j = TAILQ_FIRST(&g->waiting)))
			job_run(j);
	}
	return 0;
}

void engine_serve_trouble(struct engine *g, const struct err *why)
{
	struct engine_answer a = {.op = ENGINE_STATE, .err = *why};
	struct engine_question q;
	unsigned nfds;

	log_err(LOG_ERROR, why, "engine");
	engine_tell(g, &a, -1);
	while (!g->over) {
		OWN_FD fd = -1;

		if (fdmsg_receive(g->sock, &q, sizeof q, &fd, 1, &nfds, 0) == 1)
			refuse(g, &q, why);
		else
			g->over = errno != EINTR && errno != EBADMSG;
	}
}

/* Runs and live sessions on our own isolator, a worker's side. */
#include "fcgi/backend_live.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fcgi/backend_int.h"
#include "fcgi/env_merge.h"
#include "fcgi/keeper.h"
#include "fcgi/keeper_proto.h"
#include "fcgi/run_dir.h"
#include "isolate/client.h"
#include "isolate/clock.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"

enum { START_MS = 30000, ANSWER_MS = 10000 };

int live_ask(int sock, struct keeper_request *rq, const int *fds, unsigned nfds,
	struct keeper_reply *rp, int out[3], unsigned min, unsigned max, struct err *e)
{
	unsigned n = 0;

	rq->magic = KEEPER_MAGIC;
	out[0] = out[1] = out[2] = -1;
	if (fdmsg_send(sock, rq, sizeof *rq, fds, nfds, 0) < 0 ||
		fdmsg_receive(sock, rp, sizeof *rp, out, 3, &n, 0) != 1)
		return err_set(e, ERR_BUSY, EPIPE, "the keeper is restarting");
	rp->err.msg[sizeof rp->err.msg - 1] = '\0';
	rp->run[RUN_ID_LEN] = rp->id[SESSION_ID_LEN] = rp->row.id[SESSION_ID_LEN] =
		rp->row.image[IMAGE_REF_MAX] = '\0';
	if (rp->err.kind == ERR_NONE && n >= min && n <= max)
		return 0;
	for (int i = 0; i < 3; i++)
		own_close(&out[i]);
	if (rp->err.kind == ERR_NONE)
		return err_set(e, ERR_BUG, 0, "the keeper's answer is out of shape");
	*e = rp->err;
	return -1;
}

static int ask_new(struct backend *b, struct keeper_request *rq, struct keeper_reply *rp, int *fd,
	struct err *e)
{
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	int out[3];

	if (sock < 0 || live_ask(sock, rq, NULL, 0, rp, out, fd != NULL, fd != NULL, e) < 0)
		return -1;
	if (fd)
		*fd = out[0];
	return 0;
}

void live_view_close(struct run_view *v)
{
	spool_close(&v->spool);
	own_close(&v->spool_fd);
	own_close(&v->about_fd);
	own_close(&v->peer);
	own_close(&v->keeper);
}

void live_view_init(struct run_view *v, const char *session)
{
	*v = (struct run_view){
		.spool = SPOOL_NONE, .spool_fd = -1, .about_fd = -1, .keeper = -1, .peer = -1};
	snprintf(v->session, sizeof v->session, "%s", session);
}

/* The session's variables, then the run's. */
static int read_env(int fd, const struct run_spec *s, struct buf *out, struct err *e)
{
	struct stat st;
	OWN_MEM char *env = NULL;

	if (fstat(fd, &st) < 0 || st.st_size < 0 || st.st_size > PROTO_BLOB_MAX)
		return err_set(e, ERR_SETUP, errno, "look at the session's environment");
	env = malloc((size_t)st.st_size + 1);
	if (!env || pread(fd, env, (size_t)st.st_size, 0) != st.st_size)
		return err_set(e, ERR_SETUP, errno, "read the session's environment");
	if (env_put_block(out, env, (size_t)st.st_size, e) < 0)
		return -1;
	return s->env_bytes ? env_put_block(out, s->env, s->env_bytes, e) : 0;
}

static uint32_t proto_flags(const struct run_spec *s)
{
	return (s->shell ? PROTO_SHELL : 0) | (s->flags & RUN_MERGE ? PROTO_MERGE : 0) |
	       (s->flags & RUN_TTY ? PROTO_TTY : 0) | (s->flags & RUN_INPUT ? PROTO_STDIN : 0) |
	       (s->stdin_fd >= 0 ? PROTO_STDIN_FILE : 0);
}

static int put_text(const char *name, const char *text, size_t n, struct err *e)
{
	OWN_FD fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || write(fd, text, n) != (ssize_t)n)
		return err_set(e, ERR_SETUP, errno, "write a command");
	return take_fd(&fd);
}

static int send_run(struct run_view *v, const struct run_spec *s, const struct buf *env, int out[3],
	struct keeper_reply *rp, struct err *e)
{
	const char *shell[] = {s->shell, NULL};
	struct client_exec x = {.dir = s->workdir ? s->workdir : "/repo",
		.argv = s->shell ? shell : s->argv,
		.env = env->p,
		.env_bytes = env->len};
	struct proto_request counts = {.op = 0};
	OWN_FD blob = client_make_blob(&x, &counts, e);
	OWN_FD about = blob < 0 ? -1 : put_text("about", s->about, s->about_bytes, e);
	struct keeper_request rq = {.op = KEEPER_RUN,
		.flags = proto_flags(s),
		.nargs = counts.nargs,
		.nenv = counts.nenv,
		.blob_bytes = counts.blob_bytes,
		.about_bytes = (uint32_t)s->about_bytes,
		.follow = s->follow,
		.retries = s->retries,
		.rows = s->rows,
		.cols = s->cols,
		.timeout_ms = (uint64_t)s->timeout_ms};
	int fds[3] = {blob, about, s->stdin_fd};

	memcpy(rq.id, v->session, sizeof rq.id);
	if (about < 0)
		return -1;
	return live_ask(v->keeper, &rq, fds, s->stdin_fd < 0 ? 2 : 3, rp, out, 2, 2, e);
}

/* The next message of pid 1, within a time. 0: none came. */
int live_hear(struct run_view *v, int timeout_ms, int conn, struct proto_reply *rp, int *fd,
	struct err *e)
{
	struct pollfd p[2] = {{.fd = v->peer, .events = POLLIN}, {.fd = conn}};
	int64_t until = clock_ms() + timeout_ms;
	int left = timeout_ms, ready;
	unsigned n;

	while ((ready = poll(p, 2, left)) < 0 && errno == EINTR)
		left = until > clock_ms() ? (int)(until - clock_ms()) : 0;
	if (p[1].revents & (POLLHUP | POLLERR))
		return err_set(e, ERR_REQUEST, EPIPE, "the client is gone");
	if (ready == 0)
		return 0;
	if (fdmsg_receive(v->peer, rp, sizeof *rp, fd, 1, &n, 0) != 1)
		return err_set(e, ERR_BUSY, EPIPE, "the sandbox ended");
	return client_check(rp, e) < 0 ? -1 : 1;
}

static int forget(struct backend *b, const char *session, const char *run, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_RUN_FORGET};
	struct keeper_reply rp;

	snprintf(rq.id, sizeof rq.id, "%s", session);
	snprintf(rq.run, sizeof rq.run, "%s", run);
	return ask_new(b, &rq, &rp, NULL, e);
}

/* A command that was not executed leaves nothing behind: its error is the whole answer. */
static int await_start(struct backend *b, struct run_view *v, struct err *e)
{
	struct proto_reply rp;
	struct err ignored;
	int none = -1, got = live_hear(v, START_MS, -1, &rp, &none, e);

	own_close(&none);
	if (got > 0)
		return 0;
	if (got == 0)
		err_set(e, ERR_SETUP, ETIMEDOUT, "the sandbox does not answer");
	if (e->kind != ERR_BUSY || e->errnum != EPIPE)
		forget(b, v->session, v->id, &ignored);
	return -1;
}

int live_view_take(
	struct run_view *v, const struct keeper_reply *rp, const int out[2], struct err *e)
{
	v->peer = out[0];
	v->spool_fd = out[1];
	v->number = rp->number;
	memcpy(v->id, rp->run, sizeof v->id);
	return spool_open(&v->spool, v->spool_fd, false, e);
}

int live_begin(struct backend *b, const struct run_spec *s, struct run_view *v, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_ENV};
	OWN_BUF env = BUF_INIT(PROTO_BLOB_MAX);
	struct keeper_reply rp;
	int out[3] = {-1, -1, -1}, ret;

	memcpy(rq.id, v->session, sizeof rq.id);
	if (live_ask(v->keeper, &rq, NULL, 0, &rp, out, 1, 1, e) < 0)
		return -1;
	ret = read_env(out[0], s, &env, e);
	own_close(&out[0]);
	if (ret < 0 || send_run(v, s, &env, out, &rp, e) < 0)
		return -1;
	return live_view_take(v, &rp, out, e) < 0 ? -1 : await_start(b, v, e);
}

static int live_start(struct backend *b, const char *session, const struct run_spec *s,
	struct run_view *v, struct err *e)
{
	live_view_init(v, session);
	v->keeper = keeper_connect(b->conf->state_dir, e);
	if (v->keeper >= 0 && live_begin(b, s, v, e) == 0)
		return 0;
	live_view_close(v);
	return -1;
}

static int ask_open(struct run_view *v, enum run_follow how, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_RUN_OPEN, .follow = how};
	struct keeper_reply rp;
	int out[3];

	memcpy(rq.id, v->session, sizeof rq.id);
	memcpy(rq.run, v->id, sizeof rq.run);
	if (live_ask(v->keeper, &rq, NULL, 0, &rp, out, 2, 3, e) < 0)
		return -1;
	spool_close(&v->spool);
	own_close(&v->spool_fd);
	own_close(&v->about_fd);
	own_close(&v->peer);
	v->spool_fd = out[0];
	v->about_fd = out[1];
	v->peer = out[2];
	v->number = rp.number;
	v->asking = false;
	return spool_open(&v->spool, v->spool_fd, false, e);
}

static int live_open(struct backend *b, const char *session, const char *run, enum run_follow how,
	struct run_view *v, struct err *e)
{
	live_view_init(v, session);
	if (!run_id_valid(run))
		return err_set(e, ERR_NOTFOUND, 0, "no such run");
	memcpy(v->id, run, sizeof v->id);
	v->keeper = keeper_connect(b->conf->state_dir, e);
	if (v->keeper >= 0 && ask_open(v, how, e) == 0)
		return 0;
	live_view_close(v);
	return -1;
}

static int ask_follow(struct run_view *v, uint64_t offset, struct err *e)
{
	struct proto_request rq = {.op = PROTO_FOLLOW, .run = v->number, .offset = offset};

	if (v->asking && v->asked == offset)
		return 0;
	v->asking = true;
	v->asked = offset;
	if (fdmsg_send(v->peer, &rq, sizeof rq, NULL, 0, 0) < 0)
		return err_set(e, ERR_BUSY, EPIPE, "the sandbox ended");
	return 0;
}

static int live_wait(struct backend *b, struct run_view *v, uint64_t offset, int timeout_ms,
	int conn, struct err *e)
{
	int64_t until = clock_ms() + timeout_ms;

	(void)b;
	for (;;) {
		int64_t left = until - clock_ms();
		struct spool_state st;
		struct proto_reply rp;
		int none = -1, got = -1;

		spool_look(&v->spool, &st);
		if (st.ended || st.written > offset)
			return 1;
		if (left < 0)
			return 0;
		if (v->peer >= 0 && ask_follow(v, offset, e) == 0)
			got = live_hear(v, (int)left, conn, &rp, &none, e);
		own_close(&none);
		if (got == 0)
			return 0;
		if (got > 0) {
			v->asking = false;
			continue;
		}
		if (v->peer >= 0 && (e->errnum != EPIPE || e->kind == ERR_REQUEST))
			return -1; /* refused: who asks again at once is refused again */
		spool_look(&v->spool, &st);
		if (st.ended)
			return 1; /* it was told before pid 1 went; the session may be gone, too */
		if (ask_open(v, FOLLOW_NOT, e) < 0) /* pid 1 is gone: the keeper knows more */
			return -1;
	}
}

int live_input(struct run_view *v, struct err *e)
{
	struct proto_request rq = {.op = PROTO_INPUT, .run = v->number};
	struct proto_reply rp;
	int fd = -1, got;

	if (v->peer < 0)
		return err_set(e, ERR_NOTFOUND, 0, "the run has ended");
	if (fdmsg_send(v->peer, &rq, sizeof rq, NULL, 0, 0) < 0)
		return err_set(e, ERR_NOTFOUND, 0, "the run has ended");
	got = live_hear(v, ANSWER_MS, -1, &rp, &fd, e);
	if (got == 0)
		err_set(e, ERR_SETUP, ETIMEDOUT, "the sandbox does not answer");
	if (got > 0 && fd < 0)
		err_set(e, ERR_BUG, 0, "the sandbox gave no input");
	return got > 0 ? fd : -1;
}

static int tell(struct run_view *v, struct proto_request *rq, struct err *e)
{
	rq->run = v->number;
	if (v->peer < 0 || fdmsg_send(v->peer, rq, sizeof *rq, NULL, 0, 0) < 0)
		return err_set(e, ERR_NOTFOUND, 0, "the run has ended");
	return 0;
}

static int live_input_end(struct run_view *v, struct err *e)
{
	return tell(v, &(struct proto_request){.op = PROTO_EOF}, e);
}

static int live_signal(struct run_view *v, int sig, struct err *e)
{
	return tell(v, &(struct proto_request){.op = PROTO_SIGNAL, .signal = (uint32_t)sig}, e);
}

static int live_resize(struct run_view *v, uint32_t rows, uint32_t cols, struct err *e)
{
	return tell(v, &(struct proto_request){.op = PROTO_RESIZE, .rows = rows, .cols = cols}, e);
}

/* The whole of a memfd of the keeper's. */
static char *read_answer(int fd, size_t *n, struct err *e)
{
	struct stat st;
	char *p;

	if (fstat(fd, &st) < 0 || st.st_size < 0) {
		err_set(e, ERR_SETUP, errno, "read the keeper's answer");
		return NULL;
	}
	*n = (size_t)st.st_size;
	p = malloc(*n + 1);
	if (p && pread(fd, p, *n, 0) == (ssize_t)*n)
		return p;
	free(p);
	err_set(e, ERR_SETUP, errno, "read the keeper's answer");
	return NULL;
}

static int live_runs(struct backend *b, const char *session,
	void (*fn)(void *arg, const struct run_listed *r), void *arg, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_RUNS};
	struct keeper_reply rp;
	OWN_FD fd = -1;
	OWN_MEM char *p = NULL;
	size_t n, at = 0;

	snprintf(rq.id, sizeof rq.id, "%s", session);
	if (ask_new(b, &rq, &rp, &fd, e) < 0 || !(p = read_answer(fd, &n, e)))
		return -1;
	while (n - at >= sizeof(struct run_row)) {
		const struct run_row *row = (const void *)(p + at);
		size_t padded = ((size_t)row->about_bytes + 7) & ~(size_t)7;
		struct run_listed r = {.head = &row->head, .ended = row->ended};

		at += sizeof *row;
		if (padded > n - at)
			break;
		memcpy(r.id, row->id, RUN_ID_LEN);
		r.about = p + at;
		r.about_bytes = row->about_bytes;
		at += padded;
		fn(arg, &r);
	}
	return 0;
}

static void fill_status(const struct session_row *row, struct session_status *out)
{
	static const char *const names[] = {"stopped", "starting", "running", "stopping"};

	*out = (struct session_status){.state = names[row->state < 4 ? row->state : 0],
		.live = row->live,
		.runs = row->runs,
		.used = row->used};
	memcpy(out->id, row->id, SESSION_ID_LEN);
	memcpy(out->image, row->image, IMAGE_REF_MAX);
}

static int live_sessions(struct backend *b, const char *after, unsigned limit,
	void (*fn)(void *arg, const struct session_status *s), void *arg, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_LIST, .limit = limit};
	struct keeper_reply rp;
	OWN_FD fd = -1;
	OWN_MEM char *p = NULL;
	size_t n;

	snprintf(rq.id, sizeof rq.id, "%s", after);
	if (ask_new(b, &rq, &rp, &fd, e) < 0 || !(p = read_answer(fd, &n, e)))
		return -1;
	for (size_t at = 0; n - at >= sizeof(struct session_row);
		at += sizeof(struct session_row)) {
		struct session_status s;

		fill_status((const void *)(p + at), &s);
		fn(arg, &s);
	}
	return 0;
}

static int live_status(
	struct backend *b, const char *session, struct session_status *out, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_STATUS};
	struct keeper_reply rp;

	snprintf(rq.id, sizeof rq.id, "%s", session);
	if (ask_new(b, &rq, &rp, NULL, e) < 0)
		return -1;
	fill_status(&rp.row, out);
	out->memory_bytes = rp.memory_bytes;
	out->memory_limit = rp.memory_limit;
	out->processes = rp.processes;
	out->cpu_percent = rp.cpu_percent;
	out->disk_limit = rp.disk_limit;
	return 0;
}

static int live_stop(struct backend *b, const char *session, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_STOP};
	struct keeper_reply rp;

	snprintf(rq.id, sizeof rq.id, "%s", session);
	return ask_new(b, &rq, &rp, NULL, e);
}

static int live_turn(struct backend *b, const char *session, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_TURN};
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	struct keeper_reply rp;
	int none[3];

	snprintf(rq.id, sizeof rq.id, "%s", session);
	if (sock < 0 || live_ask(sock, &rq, NULL, 0, &rp, none, 0, 0, e) < 0)
		return -1;
	return take_fd(&sock);
}

const struct live_ops backend_isolate_live = {
	.start = live_start,
	.open = live_open,
	.close = live_view_close,
	.wait = live_wait,
	.input = live_input,
	.input_end = live_input_end,
	.signal = live_signal,
	.resize = live_resize,
	.forget = forget,
	.runs = live_runs,
	.sessions = live_sessions,
	.status = live_status,
	.stop = live_stop,
	.code = backend_code,
	.waiting = backend_waiting,
	.connect = backend_connect,
	.turn = live_turn,
};

/* Code in a sandbox of its own, a worker's side: an interpreter that waits, or one that is started. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fcgi/backend_int.h"
#include "fcgi/keeper.h"
#include "fcgi/keeper_proto.h"
#include "fcgi/warm.h"
#include "isolate/clock.h"
#include "isolate/own.h"
#include "isolate/proto.h"

enum { GIVE_MS = 10000, ARGS_MAX = 1024 }; /* GIVE_MS: to take a document, on a busy machine */

static int put_bytes(const char *name, const char *p, size_t n, struct err *e)
{
	OWN_FD fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || (n && write(fd, p, n) != (ssize_t)n) || lseek(fd, 0, SEEK_SET) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) <
			0)
		return err_set(e, ERR_SETUP, errno, "memory for the %s", name);
	return take_fd(&fd);
}

/* A session, and perhaps the waiting interpreter in it: then *v has the run. */
static int ask_session(const struct code_spec *s, bool warm, struct run_view *v, struct err *e)
{
	bool fits = warm_env_fits(s->env, s->env_bytes);
	struct keeper_request rq = {.op = KEEPER_CODE,
		.language = warm ? s->language : CODE_NONE,
		.cold = fits ? COLD_NOT : COLD_ENVIRONMENT,
		.env_bytes = (uint32_t)s->env_bytes,
		.timeout_ms = (uint64_t)s->timeout_ms};
	OWN_FD env = s->env_bytes ? put_bytes("environment", s->env, s->env_bytes, e) : -1;
	struct keeper_reply rp;
	int out[3];

	if ((s->env_bytes && env < 0) || strlen(s->image) >= sizeof rq.image)
		return env < 0 && s->env_bytes
			       ? -1
			       : err_set(e, ERR_REQUEST, 0, "malformed image reference");
	strcpy(rq.image, s->image);
	if (live_ask(v->keeper, &rq, &env, env >= 0, &rp, out, 0, 2, e) < 0)
		return -1;
	memcpy(v->session, rp.id, sizeof v->session);
	v->warm = out[1] >= 0;
	return v->warm ? live_view_take(v, &rp, out, e) : 0;
}

/* Until all is written, or it does not read any more. */
static int give(int fd, const char *p, size_t n, struct err *e)
{
	struct pollfd f = {.fd = fd, .events = POLLOUT};
	int64_t until = clock_ms() + GIVE_MS;

	while (n > 0) {
		ssize_t w = write(fd, p, n);
		int64_t left = until - clock_ms();

		if (w > 0) {
			p += w;
			n -= (size_t)w;
		} else if (errno != EINTR && errno != EAGAIN) {
			return err_set(e, ERR_NOTFOUND, errno, "the interpreter has ended");
		} else if (left <= 0 || (errno == EAGAIN && poll(&f, 1, (int)left) == 0)) {
			return err_set(e, ERR_NOTFOUND, ETIMEDOUT, "the interpreter does not read");
		}
	}
	return 0;
}

static int send_document(const struct code_spec *s, struct run_view *v, struct err *e)
{
	OWN_BUF doc = BUF_INIT(s->code_bytes + s->env_bytes + PROTO_BLOB_MAX);
	OWN_FD fd = -1;

	warm_document(s, &doc);
	if (!buf_ok(&doc))
		return err_set(e, ERR_SETUP, ENOMEM, "memory for the code");
	fd = live_input(v, e);
	if (fd < 0 || give(fd, doc.p, doc.len, e) < 0)
		return -1;
	return s->input ? give(fd, s->input, s->input_bytes, e) : 0;
}

static int start_own(
	struct backend *b, const struct code_spec *s, struct run_view *v, struct err *e)
{
	const char *argv[ARGS_MAX + 4] = {
		code_program(s->language), code_option(s->language), s->code};
	OWN_FD in = s->input ? put_bytes("stdin", s->input, s->input_bytes, e) : -1;
	struct run_spec run = {.argv = argv,
		.timeout_ms = s->timeout_ms,
		.stdin_fd = in,
		.about = "{}",
		.about_bytes = 2};

	if (s->input && in < 0)
		return -1;
	for (unsigned i = 0; s->args && s->args[i]; i++) {
		if (i == ARGS_MAX)
			return err_set(e, ERR_REQUEST, 0, "over %d arguments", ARGS_MAX);
		argv[i + 3] = s->args[i];
	}
	return live_begin(b, &run, v, e);
}

static int open_view(struct backend *b, struct run_view *v, struct err *e)
{
	live_view_init(v, "");
	v->keeper = keeper_connect(b->conf->state_dir, e);
	return v->keeper < 0 ? -1 : 0;
}

int backend_code(struct backend *b, const struct code_spec *s, struct run_view *v, struct err *e)
{
	if (open_view(b, v, e) == 0 && ask_session(s, true, v, e) == 0) {
		if (!v->warm && start_own(b, s, v, e) == 0)
			return 0;
		if (v->warm && send_document(s, v, e) == 0)
			return 0;
		/* One that died while it waited, before it had anything of this request. */
		if (v->warm && e->kind == ERR_NOTFOUND) {
			live_view_close(v);
			*e = (struct err){0};
			if (open_view(b, v, e) == 0 && ask_session(s, false, v, e) == 0 &&
				start_own(b, s, v, e) == 0)
				return 0;
		}
	}
	live_view_close(v);
	return -1;
}

static int copy_text(char *to, size_t size, const char *from, struct err *e)
{
	int n = snprintf(to, size, "%s", from);

	return (size_t)n < size ? 0 : err_set(e, ERR_REQUEST, 0, "malformed image reference");
}

/* The session of one that waits: 1, and the run in it is v's. */
static int ask_waiting(
	struct backend *b, const struct code_wanted *w, struct run_view *v, struct err *e)
{
	const struct session_spec *s = w->session;
	struct keeper_request rq = {.op = KEEPER_CODE,
		.language = w->language,
		.form = w->form,
		.cold = w->cold,
		.waiting = true,
		.has_output = w->output_fd >= 0,
		.output_max_bytes = (uint64_t)w->output_max_bytes,
		.timeout_ms = (uint64_t)w->timeout_ms,
		.network = s->network,
		.at_workspace = s->at_workspace,
		.memory_bytes = s->memory_bytes,
		.disk_bytes = s->disk_bytes,
		.cpus = s->cpus,
		.env_bytes = (uint32_t)s->env_bytes};
	OWN_FD env = s->env_bytes ? put_bytes("environment", s->env, s->env_bytes, e) : -1;
	int fds[2] = {env, w->output_fd}, out[3];
	struct keeper_reply rp;

	if ((s->env_bytes && env < 0) || copy_text(rq.image, sizeof rq.image, s->image, e) < 0 ||
		open_view(b, v, e) < 0)
		return -1;
	if (live_ask(v->keeper, &rq, fds + (env < 0), (env >= 0) + rq.has_output, &rp, out, 0, 2,
		    e) < 0)
		return -1;
	if (out[1] < 0)
		return 0;
	v->warm = true;
	memcpy(v->session, rp.id, sizeof v->session);
	return live_view_take(v, &rp, out, e) < 0 ? -1 : 1;
}

/* The input in place, which may be long: a mapping of the file, *n bytes. NULL with e. */
static const char *map_input(int fd, size_t *n, struct err *e)
{
	struct stat st;
	void *p = MAP_FAILED;

	if (fstat(fd, &st) == 0 && st.st_size > 0) {
		*n = (size_t)st.st_size;
		p = mmap(NULL, *n, PROT_READ, MAP_PRIVATE, fd, 0);
	}
	if (p != MAP_FAILED)
		return p;
	err_set(e, ERR_SETUP, errno, "read the input of code");
	return NULL;
}

static int send_wanted(const struct code_wanted *w, struct run_view *v, struct err *e)
{
	struct code_spec s = {.code = w->code, .code_bytes = w->code_bytes};
	int ret;

	if (w->input_fd >= 0 && !(s.input = map_input(w->input_fd, &s.input_bytes, e)))
		return -1;
	ret = send_document(&s, v, e);
	if (s.input)
		munmap((void *)(uintptr_t)s.input, s.input_bytes);
	return ret;
}

int backend_waiting(
	struct backend *b, const struct code_wanted *w, struct run_view *v, struct err *e)
{
	const struct conf *c = b->conf;
	int got;

	if ((w->language == CODE_NODE ? c->warm_node_max : c->warm_python_max) == 0)
		return 0;
	live_view_init(v, "");
	got = ask_waiting(b, w, v, e);
	if (got > 0 && send_wanted(w, v, e) == 0)
		return 1;
	live_view_close(v);
	/* One that died while it waited had nothing of this request. */
	if (got > 0 && e->kind == ERR_NOTFOUND) {
		*e = (struct err){0};
		return 0;
	}
	return got > 0 ? -1 : got;
}

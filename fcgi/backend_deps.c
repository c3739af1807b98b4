/* Dependencies, a worker's side: two questions to the keeper. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fcgi/backend_int.h"
#include "fcgi/keeper.h"
#include "fcgi/keeper_proto.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"

/* fd: to go with it, -1 = none. *got: what came with the answer, the caller's, or -1. */
static int ask(struct backend *b, struct keeper_request *rq, int fd, struct keeper_reply *rp,
	int *got, struct err *e)
{
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	unsigned n = 0;

	*got = -1;
	rq->magic = KEEPER_MAGIC;
	if (sock < 0)
		return -1;
	if (fdmsg_send(sock, rq, sizeof *rq, &fd, fd >= 0, 0) < 0 ||
		fdmsg_receive(sock, rp, sizeof *rp, got, 1, &n, 0) != 1)
		return err_set(e, ERR_BUSY, EPIPE, "the keeper is restarting");
	rp->err.msg[sizeof rp->err.msg - 1] = '\0';
	rp->deps[DEPS_KEY_LEN] = '\0';
	if (rp->err.kind == ERR_NONE)
		return 0;
	own_close(got);
	*e = rp->err;
	return -1;
}

static int put_texts(const struct deps_order *o, uint32_t *bytes, struct err *e)
{
	OWN_BUF b = BUF_INIT(65536);
	OWN_FD fd = memfd_create("requirements", MFD_CLOEXEC);

	buf_add(&b, o->index_url, strlen(o->index_url) + 1);
	for (size_t i = 0; i < o->set->n; i++)
		buf_add(&b, o->set->req[i], strlen(o->set->req[i]) + 1);
	if (!buf_ok(&b))
		return err_set(e, ERR_LIMIT, 0, "the requirements are too long");
	if (fd < 0 || write(fd, b.p, b.len) != (ssize_t)b.len)
		return err_set(e, ERR_SETUP, errno, "write a set of requirements");
	*bytes = (uint32_t)b.len;
	return take_fd(&fd);
}

/* What becomes of a question about a set: the answer's members. */
static void take(const struct keeper_reply *rp, int got, struct deps_answer *out)
{
	memcpy(out->key, rp->deps, sizeof out->key);
	out->reused = rp->deps_flags & DEPS_REUSED;
	out->failed = rp->deps_flags & DEPS_FAILED;
	out->timed_out = rp->deps_flags & DEPS_TIMED_OUT;
	out->pending = rp->deps_flags & DEPS_PENDING;
	out->exit_code = rp->code;
	out->output_fd = got;
}

static int ask_set(struct backend *b, const struct deps_order *o, struct keeper_request *rq,
	struct deps_answer *out, struct err *e)
{
	struct keeper_reply rp;
	OWN_FD texts = -1;
	int got;

	*out = (struct deps_answer){.output_fd = -1};
	if (strlen(o->image) >= sizeof rq->image || strlen(o->language) >= sizeof rq->name)
		return err_set(e, ERR_REQUEST, 0, "malformed image reference or language");
	strcpy(rq->image, o->image);
	strcpy(rq->name, o->language);
	rq->timeout_ms = o->timeout_ms > 0 ? (uint64_t)o->timeout_ms : 0;
	texts = put_texts(o, &rq->deps_bytes, e);
	if (texts < 0 || ask(b, rq, texts, &rp, &got, e) < 0)
		return -1;
	take(&rp, got, out);
	return 0;
}

static int deps_install(
	struct backend *b, const struct deps_order *o, struct deps_answer *out, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_DEPS};

	return ask_set(b, o, &rq, out, e);
}

static int deps_later(struct backend *b, const struct deps_order *o, bool fresh, unsigned wait_ms,
	struct deps_answer *out, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_DEPS_LATER, .fresh = fresh, .limit = wait_ms};

	return ask_set(b, o, &rq, out, e);
}

static int deps_attach_to(struct backend *b, const char *session, const char *key, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_DEPS_ATTACH};
	struct keeper_reply rp;
	int got;

	if (strlen(session) >= sizeof rq.id || !deps_key_valid(key))
		return err_set(e, ERR_REQUEST, 0, "malformed id");
	strcpy(rq.id, session);
	strcpy(rq.deps, key);
	return ask(b, &rq, -1, &rp, &got, e);
}

const struct deps_ops backend_isolate_deps = {
	.install = deps_install, .later = deps_later, .attach = deps_attach_to};

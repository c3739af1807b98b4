#include "images/remote.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/http.h"
#include "isolate/own.h"

enum { PIECE_BYTES = 65536 };

struct remote {
	struct registry *g;
	pid_t owner; /* who asks a clerk: not the children that fetch layers */
	pid_t clerk; /* 0: none */
	int fd;
};

/* One question: a manifest by its name, or a document by its descriptor. */
struct question {
	bool named;
	char name[256];
	struct descriptor part;
};

/* What comes back: pieces of so many bytes; 0 bytes: the end, and how it went. */
struct piece {
	size_t bytes;
	int result;
	struct err err;
};

static int write_all(int fd, const void *p, size_t n)
{
	const char *from = p;
	ssize_t w;

	for (; n; from += w, n -= (size_t)w) {
		w = send(fd, from, n, MSG_NOSIGNAL);
		if (w < 0 && errno == EINTR)
			w = 0;
		else if (w < 0)
			return -1;
	}
	return 0;
}

static int read_all(int fd, void *p, size_t n)
{
	char *to = p;
	ssize_t r;

	for (; n; to += r, n -= (size_t)r) {
		r = read(fd, to, n);
		if (r < 0 && errno == EINTR)
			r = 0;
		else if (r <= 0)
			return -1;
	}
	return 0;
}

/* --- the clerk's side */

static int send_bytes(void *arg, const void *p, size_t n, struct err *e)
{
	const int *fd = arg;
	const char *from = p;

	for (size_t left = n; left;) {
		struct piece head = {.bytes = left < PIECE_BYTES ? left : PIECE_BYTES};

		if (write_all(*fd, &head, sizeof head) < 0 || write_all(*fd, from, head.bytes) < 0)
			return err_set(e, ERR_SETUP, errno, "hand a document over");
		from += head.bytes;
		left -= head.bytes;
	}
	return 0;
}

static int answer(struct registry *g, const struct question *q, int fd, struct err *e)
{
	OWN_BUF doc = BUF_INIT(MANIFEST_MAX);

	if (!q->named)
		return registry_fetch(g, &q->part, send_bytes, &fd, e);
	if (registry_manifest(g, q->name, &doc, e) < 0)
		return -1;
	return send_bytes(&fd, doc.p, doc.len, e);
}

static _Noreturn void clerk_main(struct registry *g, int fd, pid_t parent)
{
	struct question q;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	while (read_all(fd, &q, sizeof q) == 0) {
		struct piece end = {.bytes = 0};

		end.result = answer(g, &q, fd, &end.err);
		if (write_all(fd, &end, sizeof end) < 0)
			break;
	}
	_exit(0);
}

/* --- the other side */

static void dismiss(struct remote *r)
{
	own_close(&r->fd);
	if (r->clerk > 0) {
		kill(r->clerk, SIGKILL); /* what it found out is in pages that we share */
		while (waitpid(r->clerk, NULL, 0) < 0 && errno == EINTR)
			;
	}
	r->clerk = 0;
}

static int employ(struct remote *r, struct err *e)
{
	pid_t parent = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket pair");
	if (registry_pass(r->g, true, e) < 0) {
		own_close(&pair[0]);
		own_close(&pair[1]);
		return -1;
	}
	r->clerk = fork();
	if (r->clerk == 0) {
		own_close(&pair[0]);
		clerk_main(r->g, pair[1], parent);
	}
	own_close(&pair[1]);
	r->fd = pair[0];
	if (r->clerk < 0) {
		r->clerk = 0;
		err_set(e, ERR_SETUP, errno, "start a process that asks the registry");
	} else if (registry_pass(r->g, false, e) == 0) {
		return 0;
	}
	dismiss(r);
	return -1;
}

static int hear(struct remote *r, ingest_sink_fn *sink, void *sink_arg, struct err *e)
{
	static const size_t size = PIECE_BYTES;
	OWN_MEM char *block = malloc(size);
	struct piece head;

	if (!block)
		return err_set(e, ERR_SETUP, ENOMEM, "read a document");
	for (;;) {
		if (read_all(r->fd, &head, sizeof head) < 0 || head.bytes > size ||
			read_all(r->fd, block, head.bytes) < 0)
			return err_set(e, ERR_SETUP, 0, "the process that asks the registry died");
		if (head.bytes == 0)
			break;
		if (sink(sink_arg, block, head.bytes, e) < 0)
			return -1;
	}
	head.err.msg[sizeof head.err.msg - 1] = '\0';
	if (head.result < 0)
		*e = head.err;
	return head.result;
}

static int ask(struct remote *r, const struct question *q, ingest_sink_fn *sink, void *sink_arg,
	struct err *e)
{
	struct err own = {0};
	int ret = r->clerk ? 0 : employ(r, &own);

	if (ret == 0 && write_all(r->fd, q, sizeof *q) < 0)
		ret = err_set(&own, ERR_SETUP, errno, "ask the registry");
	if (ret == 0)
		ret = hear(r, sink, sink_arg, &own);
	if (ret < 0) {
		dismiss(r); /* it may be in the middle of an answer */
		if (e)
			*e = own;
	}
	return ret;
}

static int take_manifest(void *arg, const void *p, size_t n, struct err *e)
{
	return buf_add(arg, p, n) < 0 ? err_set(e, ERR_LIMIT, 0, "the manifest is too large") : 0;
}

int remote_manifest(struct remote *r, const char *tag_or_digest, struct buf *out, struct err *e)
{
	struct question q = {.named = true};

	snprintf(q.name, sizeof q.name, "%s", tag_or_digest);
	if (ask(r, &q, take_manifest, out, e) < 0)
		return -1;
	return buf_add(out, "", 0); /* an empty answer is an empty string, too */
}

static int source_fetch(void *arg, const struct descriptor *part, ingest_sink_fn *sink,
	void *sink_arg, struct err *e)
{
	struct remote *r = arg;
	struct question q = {.part = *part};

	if (getpid() == r->owner)
		return ask(r, &q, sink, sink_arg, e);
	return registry_own(r->g, e) < 0 ? -1 : registry_fetch(r->g, part, sink, sink_arg, e);
}

static void source_apart(void *arg)
{
	dismiss(arg);
}

static int source_pass(void *arg, bool pass, struct err *e)
{
	const struct remote *r = arg;

	return registry_pass(r->g, pass, e);
}

static bool source_another(void *arg)
{
	struct remote *r = arg;

	return getpid() != r->owner && registry_own(r->g, NULL) == 0 && registry_another(r->g);
}

struct source remote_source(struct remote *r)
{
	return (struct source){.fetch = source_fetch,
		.arg = r,
		.apart = source_apart,
		.pass = source_pass,
		.another = source_another};
}

struct remote *remote_open(
	const struct ref *ref, const struct conf *c, bool for_client, struct err *e)
{
	struct remote *r = calloc(1, sizeof *r);

	if (!r) {
		err_set(e, ERR_SETUP, ENOMEM, "open a registry");
		return NULL;
	}
	r->fd = -1;
	r->owner = getpid();
	if (http_start(e) == 0 && (r->g = registry_open(ref, c, for_client, e)))
		return r;
	free(r);
	return NULL;
}

void remote_close(struct remote *r)
{
	if (!r)
		return;
	dismiss(r);
	registry_close(r->g);
	free(r);
}

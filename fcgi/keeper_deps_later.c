/*
 * Dependencies that nobody waits for. The keeper asks itself, by its own protocol over a socket pair, as a
 * worker would: so an installation goes on whatever becomes of who wanted it. What became of it is
 * remembered for whoever asks for the same again; the set itself is where all sets are. A keeper that
 * was started anew remembers nothing, and installs again when it is asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/keeper_deps.h"
#include "images/digest.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"

enum {
	LATERS_MAX = 256,      /* installations that are remembered */
	KEPT_MS = 3600 * 1000, /* how one ended is told for so long */
	SAID_MAX = 4096,       /* bytes of the end of what an installer said */
};

struct later {
	LIST_ENTRY(later) link;
	char name[DEPS_KEY_LEN + 1]; /* a digest of what was asked for */
	struct source conn;          /* our side; fd -1: it has ended */
	uint64_t ended_ms;
	struct keeper_reply reply;
	char said[SAID_MAX];
	size_t nsaid;
};

static struct later *find(struct keeper *k, const char *name)
{
	struct later *l;

	LIST_FOREACH(l, &k->laters, link)
	if (!strcmp(l->name, name))
		return l;
	return NULL;
}

static void drop(struct keeper *k, struct later *l)
{
	keeper_unwatch(k, &l->conn);
	LIST_REMOVE(l, link);
	k->nlaters--;
	free(l);
}

/* Forgets what ended long ago, and where there are many the one that ended first. */
static void forget(struct keeper *k)
{
	uint64_t now = keeper_now_ms();
	struct later *l = LIST_FIRST(&k->laters), *oldest = NULL;

	while (l) {
		struct later *next = LIST_NEXT(l, link);

		if (l->conn.fd < 0 && now - l->ended_ms > KEPT_MS)
			drop(k, l);
		else if (l->conn.fd < 0 && (!oldest || l->ended_ms < oldest->ended_ms))
			oldest = l;
		l = next;
	}
	if (k->nlaters >= LATERS_MAX && oldest)
		drop(k, oldest);
}

/* What the installer said goes as a file of its own: the other has been read. */
static int said_file(const struct later *l)
{
	OWN_FD fd = l->nsaid ? memfd_create("installer", MFD_CLOEXEC) : -1;

	return fd >= 0 && write(fd, l->said, l->nsaid) == (ssize_t)l->nsaid ? take_fd(&fd) : -1;
}

static void answer(struct call *c, const struct later *l)
{
	struct keeper_reply rp = {.deps_flags = DEPS_PENDING};
	OWN_FD fd = -1;

	c->later = NULL;
	if (l && l->conn.fd < 0) {
		rp = l->reply;
		fd = said_file(l);
	}
	call_answer(c, &rp, &fd, fd >= 0);
}

void deps_later_deadline(struct call *c)
{
	answer(c, c->later);
}

static void keep_said(struct later *l, int fd)
{
	struct stat st;
	ssize_t n = -1;

	if (fd >= 0 && fstat(fd, &st) == 0)
		n = pread(fd, l->said, sizeof l->said,
			st.st_size > SAID_MAX ? st.st_size - SAID_MAX : 0);
	l->nsaid = n > 0 ? (size_t)n : 0;
}

/* It has ended: whoever waits is told. What could not be tried is not remembered. */
static void ended(struct keeper *k, struct source *s)
{
	struct later *l = s->data;
	struct call *c;
	OWN_FD fd = -1;
	unsigned n = 0;
	int got = fdmsg_receive(s->fd, &l->reply, sizeof l->reply, &fd, 1, &n, MSG_DONTWAIT);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got != 1) {
		l->reply = (struct keeper_reply){.deps_flags = 0};
		err_set(&l->reply.err, ERR_BUSY, ECONNRESET, "the installation was given up");
	}
	keep_said(l, fd);
	l->ended_ms = keeper_now_ms();
	keeper_unwatch(k, &l->conn);
	LIST_FOREACH(c, &k->calls, link)
	if (c->later == l)
		answer(c, l);
	if (l->reply.err.kind == ERR_BUSY)
		drop(k, l);
}

static int start(struct keeper *k, struct later *l, const struct keeper_request *rq,
	const void *text, struct err *e)
{
	struct keeper_request ask = {.magic = KEEPER_MAGIC,
		.op = KEEPER_DEPS,
		.deps_bytes = rq->deps_bytes,
		.timeout_ms = rq->timeout_ms};
	OWN_FD fd = memfd_create("requirements", MFD_CLOEXEC);
	int pair[2];

	memcpy(ask.image, rq->image, sizeof ask.image);
	memcpy(ask.name, rq->name, sizeof ask.name);
	if (fd < 0 || write(fd, text, rq->deps_bytes) != (ssize_t)rq->deps_bytes ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "begin to install dependencies");
	call_accept(k, pair[0]);
	if (keeper_watch(k, &l->conn, pair[1], e) < 0)
		return -1;
	if (fdmsg_send(l->conn.fd, &ask, sizeof ask, &fd, 1, MSG_DONTWAIT) < 0)
		return err_set(e, ERR_BUSY, EPIPE, "begin to install dependencies");
	return 0;
}

static struct later *begin(struct keeper *k, const char *name, const struct keeper_request *rq,
	const void *text, struct err *e)
{
	struct later *l;

	forget(k);
	l = k->nlaters < LATERS_MAX ? calloc(1, sizeof *l) : NULL;
	if (!l) {
		err_set(e, ERR_BUSY, EUSERS, "too many sets of dependencies are being installed");
		return NULL;
	}
	l->conn = (struct source){.fd = -1, .ready = ended, .data = l};
	memcpy(l->name, name, sizeof l->name);
	LIST_INSERT_HEAD(&k->laters, l, link);
	k->nlaters++;
	if (start(k, l, rq, text, e) == 0)
		return l;
	drop(k, l);
	return NULL;
}

/* All that an installation depends on, as it was asked for. */
static int name_it(const struct keeper_request *rq, const void *text, char *name, struct err *e)
{
	OWN_BUF b = BUF_INIT(DEPS_TEXT_MAX + 1024);

	buf_addf(&b, "%s\n%s\n%llu\n", rq->image, rq->name, (unsigned long long)rq->timeout_ms);
	buf_add(&b, text, rq->deps_bytes);
	return buf_ok(&b) ? digest_of(b.p, b.len, name, e)
			  : err_set(e, ERR_LIMIT, 0, "too many requirements");
}

/* Read once: what was named is what will be installed, whatever its sender does to it. */
static struct later *look(struct keeper *k, struct call *c, struct err *e)
{
	OWN_MEM char *text = malloc(c->rq.deps_bytes);
	char name[DEPS_KEY_LEN + 1];
	struct later *l;

	if (!text || pread(c->fd[0], text, c->rq.deps_bytes, 0) != (ssize_t)c->rq.deps_bytes) {
		err_set(e, ERR_SETUP, errno, "read a set of requirements");
		return NULL;
	}
	if (name_it(&c->rq, text, name, e) < 0)
		return NULL;
	l = find(k, name);
	if (l && l->conn.fd < 0 && c->rq.fresh) {
		drop(k, l);
		l = NULL;
	}
	return l ? l : begin(k, name, &c->rq, text, e);
}

void deps_later(struct keeper *k, struct call *c)
{
	struct err e = {0};
	struct later *l = look(k, c, &e);

	if (!l) {
		call_fail(k, c, &e);
	} else if (l->conn.fd < 0 || c->rq.limit == 0) {
		answer(c, l);
	} else {
		c->later = l;
		c->state = CALL_LATER;
		c->deadline_ms = keeper_now_ms() + c->rq.limit;
	}
}

/*
 * libexec/cgibox/index: owns the index (index.h). The keeper starts it with the listening socket as
 * descriptor 3 when somebody connects; it ends after a minute without a question, and with the
 * keeper. Should it outlive that one after all, nobody reaches it: the next keeper's socket is new,
 * and SQLite's locks let two of them work on one file.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/index_db.h"
#include "fcgi/self.h"
#include "fcgi/statesock.h"
#include "isolate/clock.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { LISTEN_FD = 3, PEERS_MAX = 256, IDLE_MS = 60000, ACCEPT_PAUSE_MS = 50 };

struct server {
	struct index_db *db;
	struct pollfd p[1 + PEERS_MAX]; /* the listening socket, then connections; -1 = free */
};

/* The document that came with the question: all of it, and not more than is allowed. */
static char *take_body(int fd, size_t *n, struct err *e)
{
	struct stat st;
	OWN_MEM char *p = NULL;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > INDEX_BODY_MAX) {
		err_set(e, ERR_LIMIT, EFBIG, "a document is not a file of at most %d bytes",
			INDEX_BODY_MAX);
		return NULL;
	}
	*n = (size_t)st.st_size;
	p = malloc(*n + 1);
	if (!p || pread(fd, p, *n, 0) != (ssize_t)*n) {
		err_set(e, ERR_SETUP, errno, "read a document");
		return NULL;
	}
	p[*n] = '\0';
	return take_ptr(&p);
}

static int text_file(const struct buf *b)
{
	OWN_FD fd = memfd_create("answer", MFD_CLOEXEC);

	for (size_t done = 0; fd >= 0 && done < b->len;) {
		ssize_t w = write(fd, b->p + done, b->len - done);

		if (w <= 0)
			return -1;
		done += (size_t)w;
	}
	return take_fd(&fd);
}

static void answer(struct server *s, int sock, const struct index_question *q, int given)
{
	struct index_answer a = {.magic = INDEX_MAGIC, .op = q->op};
	OWN_BUF out = BUF_INIT(INDEX_ANSWER_MAX);
	OWN_MEM char *body = NULL;
	OWN_FD fd = -1;
	size_t n = 0;
	int ret = 0;

	if (given >= 0 && !(body = take_body(given, &n, &a.err)))
		ret = -1;
	if (ret == 0)
		ret = index_db_ask(s->db, q, body, n, &a, &out, &a.err);
	if (ret == 0 && (q->op == INDEX_GET || q->op == INDEX_LIST) && (fd = text_file(&out)) < 0)
		err_set(&a.err, ERR_SETUP, errno, "write the index's answer");
	if (a.err.kind == ERR_SETUP || a.err.kind == ERR_BUG)
		log_err(LOG_ERROR, &a.err, "index");
	if (fdmsg_send(sock, &a, sizeof a, &fd, fd >= 0, MSG_DONTWAIT) < 0)
		log_line(LOG_WARN, "answer of the index: %s", strerror(errno));
}

/* One message of a connection; false: its end. */
static bool serve_one(struct server *s, int sock)
{
	struct index_question q;
	OWN_FD given = -1;
	unsigned n = 0;

	if (fdmsg_receive(sock, &q, sizeof q, &given, 1, &n, MSG_DONTWAIT) != 1)
		return false;
	answer(s, sock, &q, n ? given : -1);
	return true;
}

static void accept_one(struct server *s)
{
	for (int i = 1; i <= PEERS_MAX; i++) {
		if (s->p[i].fd >= 0)
			continue;
		s->p[i].fd = statesock_accept(LISTEN_FD);
		return;
	}
}

static bool room(const struct server *s)
{
	for (int i = 1; i <= PEERS_MAX; i++)
		if (s->p[i].fd < 0)
			return true;
	return false;
}

static bool any(const struct server *s)
{
	for (int i = 1; i <= PEERS_MAX; i++)
		if (s->p[i].fd >= 0)
			return true;
	return false;
}

/* Until nobody has asked for a while. */
static void serve(struct server *s)
{
	for (;;) {
		int n;

		s->p[0].fd = room(s) ? LISTEN_FD : -1;
		n = poll(s->p, 1 + PEERS_MAX, IDLE_MS);
		if (n == 0 && !any(s))
			return;
		for (int i = 1; n > 0 && i <= PEERS_MAX; i++)
			if (s->p[i].fd >= 0 && s->p[i].revents && !serve_one(s, s->p[i].fd))
				own_close(&s->p[i].fd);
		if (n > 0 && s->p[0].fd >= 0 && s->p[0].revents)
			accept_one(s);
	}
}

/* usage: index STATE_DIR, by the keeper alone. */
int main(int argc, char **argv)
{
	static struct server s;
	struct err e = {0};
	char path[4096];

	log_open("cgibox-index", LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (argc != 2 || fcntl(LISTEN_FD, F_GETFD) < 0 ||
		snprintf(path, sizeof path, "%s/index", argv[1]) >= (int)sizeof path) {
		fprintf(stderr, "index: started by the service only\n");
		return 64;
	}
	umask(0077);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		err_set(&e, ERR_SETUP, errno, "make %s", path);
	else if (self_lock_directory(path, &e) == 0)
		s.db = index_db_open(strcat(path, "/documents"), &e);
	if (!s.db) {
		log_err(LOG_ERROR, &e, "start");
		return err_exit_code(e.kind);
	}
	for (int i = 0; i <= PEERS_MAX; i++)
		s.p[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	serve(&s);
	index_db_close(s.db);
	return 0;
}

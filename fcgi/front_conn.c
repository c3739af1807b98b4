#include "fcgi/front_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fcgi/gate.h"
#include "fcgi/record.h"
#include "isolate/log.h"

enum {
	ACCEPTS = 64,         /* connections accepted at a time */
	ERRAND_PEEK = 16384,  /* bytes in which method and address of a request must be */
	LAST_WORD_MS = 5000,  /* from the end of a time limit to cutting the connection */
	ACCEPT_PAUSE_MS = 50, /* when descriptors or memory ran out */
	COMPLAIN_MS = 1000,   /* of silence before the same complaint again */
};

void conn_leave_queue(struct front *f, struct conn *c)
{
	TAILQ_REMOVE(&f->queue[c->errand].list, c, link);
	f->queue[c->errand].n--;
	f->queued--;
	f->waiting--;
}

static void enter_queue(struct front *f, struct conn *c)
{
	TAILQ_INSERT_TAIL(&f->queue[c->errand].list, c, link);
	f->queue[c->errand].n++;
	f->queued++;
	f->waiting++;
}

void conn_proceed(struct front *f, struct conn *c, enum phase phase)
{
	f->streaming -= c->phase == PHASE_STREAM;
	f->streaming += phase == PHASE_STREAM;
	c->phase = phase;
}

void conn_end(struct front *f, struct conn *c)
{
	switch (c->phase) {
	case PHASE_DEAD:
		return;
	case PHASE_SILENT:
		TAILQ_REMOVE(&f->silent, c, link);
		f->waiting--;
		break;
	case PHASE_QUEUED:
		conn_leave_queue(f, c);
		break;
	default:
		conn_proceed(f, c, PHASE_CUT);
		TAILQ_REMOVE(&f->given, c, link);
		f->held--;
		break;
	}
	c->phase = PHASE_DEAD;
	close(c->fd);
	TAILQ_INSERT_TAIL(&f->dead, c, link);
}

void conn_bury(struct front *f)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&f->dead))) {
		TAILQ_REMOVE(&f->dead, c, link);
		free(c);
	}
}

void conn_orphan(struct front *f, struct conn *c)
{
	static const char text[] = "Status: 503 Service Unavailable\r\n"
				   "Content-Type: application/json\r\n"
				   "Retry-After: 1\r\n"
				   "X-Content-Type-Options: nosniff\r\n\r\n"
				   "{\"detail\":\"The request was interrupted\"}";
	uint8_t out[512];
	size_t n = record_reply(out, sizeof out, c->id, text);

	if (c->id && c->phase != PHASE_REPLY && c->phase != PHASE_STREAM && c->phase != PHASE_CUT)
		send(c->fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(c->fd, SHUT_RDWR);
	conn_end(f, c);
}

/*
 * What it is about has to be known only where not everybody who waits will have a worker at once. Its bytes
 * stay where they are, for the worker.
 */
static enum errand look(struct conn *c)
{
	enum errand errand = ERRAND_ANY;
	uint8_t peek[ERRAND_PEEK];
	ssize_t n;

	if (c->looked)
		return errand;
	n = recv(c->fd, peek, sizeof peek, MSG_PEEK | MSG_DONTWAIT);
	/* More than that is never looked at. */
	c->looked = n > 0 && (errand_of(peek, (size_t)n, &errand) || n == sizeof peek);
	return errand;
}

/* More of it has come while it waits. Where that changes nothing it keeps its place. */
static void look_again(struct front *f, struct conn *c)
{
	enum errand errand = look(c);

	if (errand == c->errand)
		return;
	conn_leave_queue(f, c);
	c->errand = errand;
	enter_queue(f, c);
}

/* Looks at what a silent connection has sent. */
static void conn_listen(struct front *f, struct conn *c, uint32_t events)
{
	uint8_t peek[GATE_PEEK];
	ssize_t n = recv(c->fd, peek, sizeof peek, MSG_PEEK | MSG_DONTWAIT);
	int verdict = n > 0 ? gate_peek(peek, (size_t)n, &c->id) : n == 0 ? -1 : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		verdict = -1;
	/* Nothing more will come. */
	if (verdict == 0 && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		verdict = -1;
	if (verdict < 0) {
		conn_end(f, c);
	} else if (verdict > 0) {
		TAILQ_REMOVE(&f->silent, c, link);
		f->waiting--;
		c->phase = PHASE_QUEUED;
		c->looked = f->held - f->streaming + f->queued < f->queue[ERRAND_ANY].limit;
		c->errand = look(c);
		enter_queue(f, c);
		c->queued_us = stats_now_us();
	}
}

void conn_event(struct front *f, struct conn *c, uint32_t events)
{
	if (c->phase == PHASE_SILENT)
		conn_listen(f, c, events);
	else if (c->phase == PHASE_QUEUED && (events & (EPOLLHUP | EPOLLERR)))
		conn_end(f, c); /* closed on both sides: nobody waits for an answer */
	else if (c->phase == PHASE_QUEUED && !c->looked)
		look_again(f, c);
}

static void conn_add(struct front *f, int fd, int64_t now)
{
	struct conn *c = calloc(1, sizeof *c);
	/* Edge-triggered: half a header must not make us spin. */
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c};

	if (!c || epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		log_line(LOG_WARN, "no memory for a connection");
		free(c);
		close(fd);
		return;
	}
	*c = (struct conn){
		.kind = KIND_CONN, .fd = fd, .deadline = now + f->conf->params_timeout_ms};
	TAILQ_INSERT_TAIL(&f->silent, c, link);
	f->waiting++;
}

void conn_accept(struct front *f, int64_t now)
{
	for (int i = 0; i < ACCEPTS && f->waiting < f->pending_max; i++) {
		int fd = accept4(f->args->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0) {
			conn_add(f, fd, now);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* Once a shortage, not once a try. */
			if (now >= f->complain_after)
				log_line(LOG_WARN, "accept: %s; waiting", strerrordesc_np(errno));
			f->complain_after = now + COMPLAIN_MS;
			f->accept_after = now + ACCEPT_PAUSE_MS;
			return;
		}
	}
}

void conn_adjust_listener(struct front *f, int64_t now)
{
	bool want = !f->stopping && f->waiting < f->pending_max && now >= f->accept_after;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &f->kind_listener};

	if (want != f->listening && epoll_ctl(f->epoll, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
					    f->args->listener, &ev) == 0)
		f->listening = want;
}

void conn_expire(struct front *f, struct conn *c, int64_t now)
{
	if (c->phase == PHASE_SILENT) {
		conn_end(f, c);
	} else if (c->phase == PHASE_PARAMS || c->phase == PHASE_BODY) {
		shutdown(c->fd, SHUT_RD);
		conn_proceed(f, c, PHASE_CUT);
		c->deadline = now + LAST_WORD_MS;
	} else {
		shutdown(c->fd, SHUT_RDWR);
		c->deadline = INT64_MAX;
	}
}

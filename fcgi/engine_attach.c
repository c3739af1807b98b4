/*
 * The standard streams of a container, as one connection: asked for before the container is started, and given
 * to the keeper. libcurl keeps a connection that changes its protocol to itself, so this is a socket of our
 * own and the head of one answer. From that answer on the Engine reads nothing of it as HTTP.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fcgi/engine_int.h"
#include "fcgi/engine_reason.h"
#include "isolate/clock.h"
#include "isolate/own.h"

static int no_stream(const struct engine *g, struct err *e)
{
	int errnum = errno;

	return err_set(e, ERR_BUSY, errnum, "attach a container at \"%.100s\"", g->conf->engine);
}

static int send_question(struct job *j, int fd, struct err *e)
{
	char text[400];
	int n = snprintf(text, sizeof text,
		"POST /v1.%u/containers/" ENGINE_NAME
		"%s/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: engine\r\n"
		"Content-Type: application/json\r\nContent-Length: 0\r\nConnection: Upgrade\r\n"
		"Upgrade: tcp\r\n\r\n",
		j->engine->api, j->q.box);

	/* an empty socket's buffer takes it whole */
	return send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n
		       ? 0
		       : no_stream(j->engine, e);
}

void attach_begin(struct job *j)
{
	const struct engine *g = j->engine;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	OWN_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct err e = {0};

	j->what = "attach a container";
	snprintf(a.sun_path, sizeof a.sun_path, "%s", g->conf->engine + strlen("unix://"));
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		no_stream(g, &e);
	else
		send_question(j, fd, &e);
	if (e.kind) {
		j->attached(j, &e);
		return;
	}
	j->attach_head = BUF_INIT(ENGINE_ATTACH_HEAD_MAX);
	j->attach_until_ms = clock_ms() + g->conf->engine_timeout_s * 1000;
	j->attach = take_fd(&fd);
}

int attach_waits_for(const struct job *j)
{
	return j->attach;
}

bool attach_late(const struct job *j, int64_t now_ms)
{
	return j->attach >= 0 && now_ms >= j->attach_until_ms;
}

void attach_clear(struct job *j)
{
	own_close(&j->attach);
	buf_clear(&j->attach_head);
}

static void ended(struct job *j, const struct err *e)
{
	if (e->kind)
		attach_clear(j);
	else
		j->out = take_fd(&j->attach);
	buf_clear(&j->attach_head);
	j->attached(j, e);
}

void attach_give_up(struct job *j)
{
	struct err e = {0};

	err_set(&e, ERR_BUSY, ETIMEDOUT, "the Engine is too slow (engine_timeout_s): attach");
	ended(j, &e);
}

/* Whether the body of a refusal is there. */
static bool body_whole(const char *head, const char *body, size_t n)
{
	const char *at = strcasestr(head, "\r\nContent-Length:");
	unsigned long want = at && at < body ? strtoul(at + strlen("\r\nContent-Length:"), NULL, 10)
					     : 0;

	return n >= want;
}

/* Whole: 1, and what it means in *e; 0: more is to come. */
static int read_head(const char *p, size_t n, bool all, struct err *e)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4), *body = end ? end + 4 : NULL;
	unsigned status = 0;

	if (!end)
		return 0;
	if (sscanf(p, "HTTP/1.%*1[01] %3u", &status) != 1)
		err_set(e, ERR_SETUP, 0, "the Engine's answer is no HTTP");
	else if (status == 101 && body != p + n)
		err_set(e, ERR_SETUP, 0, "a container speaks before it is started");
	else if (status != 101 && !all && !body_whole(p, body, (size_t)(p + n - body)))
		return 0;
	else if (status != 101)
		engine_reason(status, body, (size_t)(p + n - body), "attach a container", e);
	return 1;
}

void attach_readable(struct job *j)
{
	char bytes[1024];
	ssize_t n = recv(j->attach, bytes, sizeof bytes, MSG_DONTWAIT);
	struct err e = {0};

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && buf_add(&j->attach_head, bytes, (size_t)n) < 0)
		err_set(&e, ERR_SETUP, EMSGSIZE, "the Engine's answer is over %d bytes",
			ENGINE_ATTACH_HEAD_MAX);
	else if (j->attach_head.len > 0 &&
		 read_head(j->attach_head.p, j->attach_head.len, n <= 0, &e))
		;
	else if (n > 0)
		return;
	else
		err_set(&e, ERR_BUSY, EPIPE, "the Engine hung up in the middle");
	ended(j, &e);
}

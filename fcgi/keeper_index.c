/* The index (index.h) is started when somebody connects, and watched: the keeper accepts nothing. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "fcgi/index.h"
#include "fcgi/keeper_int.h"
#include "fcgi/program.h"
#include "fcgi/statesock.h"
#include "isolate/ended.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { INDEX_BACKLOG = 1024, INDEX_FD = 3, RETRY_MS = 1000 };

static void listen_again(struct keeper *k, bool on)
{
	struct epoll_event ev = {.events = on ? EPOLLIN : 0, .data.ptr = &k->index.listen};

	if (epoll_ctl(k->epoll, EPOLL_CTL_MOD, k->index.listen.fd, &ev) < 0)
		log_line(LOG_ERROR, "index socket: %s", strerror(errno));
}

static void index_ended(struct keeper *k, struct source *s)
{
	int status = 0;
	char how[64];

	waitpid(k->index.pid, &status, 0);
	keeper_unwatch(k, s);
	k->index.pid = 0;
	if (status != 0)
		log_line(LOG_WARN, "the index ended: %s", ended_text(status, how, sizeof how));
	/* One that cannot start must not be started in a circle: connections wait meanwhile. */
	k->index.again_ms = keeper_now_ms() + (status ? RETRY_MS : 0);
}

static int start(struct keeper *k, struct err *e)
{
	static char name[] = "index", *const env[] = {NULL};
	char *const argv[] = {name, k->dirs.path, NULL};
	char program[PATH_MAX + 32];
	posix_spawn_file_actions_t fa;
	int ret;

	if (program_find("index", program, sizeof program, e) < 0)
		return -1;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&fa, 0, 1);
	posix_spawn_file_actions_adddup2(&fa, k->index.listen.fd, INDEX_FD);
	ret = posix_spawn(&k->index.pid, program, &fa, NULL, argv, env);
	posix_spawn_file_actions_destroy(&fa);
	return ret ? err_set(e, ERR_SETUP, ret, "start the program \"index\"") : 0;
}

static void wanted(struct keeper *k, struct source *s)
{
	struct err e = {0};
	int pidfd;

	(void)s;
	listen_again(k, false);
	k->index.again_ms = keeper_now_ms() + RETRY_MS;
	if (start(k, &e) < 0) {
		log_err(LOG_ERROR, &e, "index");
		return;
	}
	pidfd = sys_pidfd_open(k->index.pid, 0);
	k->index.exit.ready = index_ended;
	if (pidfd >= 0 && keeper_watch(k, &k->index.exit, pidfd, &e) == 0) {
		k->index.again_ms = 0;
		return;
	}
	kill(k->index.pid, SIGKILL); /* unwatched it would never be started again */
	waitpid(k->index.pid, NULL, 0);
	k->index.pid = 0;
}

int index_listen(struct keeper *k, struct err *e)
{
	int fd = statesock_listen(k->dirs.state, INDEX_SOCKET, INDEX_BACKLOG, e);

	k->index.listen.ready = wanted;
	k->index.exit.fd = -1;
	return fd < 0 ? -1 : keeper_watch(k, &k->index.listen, fd, e);
}

int index_retry(struct keeper *k)
{
	uint64_t now = keeper_now_ms();

	if (!k->index.again_ms)
		return INT_MAX;
	if (k->index.again_ms > now)
		return (int)(k->index.again_ms - now);
	k->index.again_ms = 0;
	listen_again(k, true);
	return INT_MAX;
}

#include "fcgi/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fcgi/program.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"

enum { SOCK_FD = 3, CONF_FD = 4 };

static int start(const char *program, int sock, int settings, pid_t *pid, struct err *e)
{
	static char name[] = "engine", *const env[] = {NULL};
	char *const argv[] = {name, NULL};
	/* out of the way of the numbers that they get */
	OWN_FD from_sock = fcntl(sock, F_DUPFD_CLOEXEC, CONF_FD + 1),
	       from_settings = fcntl(settings, F_DUPFD_CLOEXEC, CONF_FD + 1);
	posix_spawn_file_actions_t fa;
	int ret;

	if (from_sock < 0 || from_settings < 0)
		return err_set(e, ERR_SETUP, errno, "start the program \"engine\"");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&fa, 0, 1);
	posix_spawn_file_actions_adddup2(&fa, from_sock, SOCK_FD);
	posix_spawn_file_actions_adddup2(&fa, from_settings, CONF_FD);
	posix_spawn_file_actions_addclosefrom_np(&fa, CONF_FD + 1);
	ret = posix_spawn(pid, program, &fa, NULL, argv, env);
	posix_spawn_file_actions_destroy(&fa);
	return ret ? err_set(e, ERR_SETUP, ret, "start the program \"engine\"") : 0;
}

int engine_spawn(const struct conf *c, pid_t *pid, struct err *e)
{
	char program[PATH_MAX + 32];
	OWN_FD settings = -1, ours = -1, theirs = -1;
	int pair[2];

	if (program_find("engine", program, sizeof program, e) < 0 ||
		(settings = program_settings(c, e)) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "start the program \"engine\"");
	ours = pair[0];
	theirs = pair[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return err_set(e, ERR_SETUP, errno, "start the program \"engine\"");
	return start(program, theirs, settings, pid, e) < 0 ? -1 : take_fd(&ours);
}

int engine_ask(int sock, struct engine_question *q, int fd, struct err *e)
{
	q->magic = ENGINE_MAGIC;
	if (fdmsg_send(sock, q, sizeof *q, &fd, fd >= 0, MSG_DONTWAIT | MSG_NOSIGNAL) == 0)
		return 0;
	return err_set(e, ERR_BUSY, errno == EAGAIN ? EUSERS : EPIPE, "ask the engine broker");
}

static void end_texts(struct engine_answer *a)
{
	struct engine_info *i = &a->info;

#define END(text) (text)[sizeof(text) - 1] = '\0'
	END(a->err.msg), END(a->box), END(a->container), END(a->image), END(a->user);
	END(a->workdir), END(i->version), END(i->api), END(i->name), END(i->runtimes);
	END(i->runtime), END(i->storage), END(i->security), END(i->cgroup_driver);
#undef END
}

int engine_hear(int sock, struct engine_answer *a, int *fd, struct err *e)
{
	unsigned nfds = 0;
	int r;

	*fd = -1;
	r = fdmsg_receive(sock, a, sizeof *a, fd, 1, &nfds, MSG_DONTWAIT);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (r != 1)
		return err_set(e, ERR_BUSY, EPIPE, "the engine broker is gone");
	if (!nfds)
		*fd = -1;
	end_texts(a);
	if (a->magic == ENGINE_MAGIC && a->err.kind >= ERR_NONE && a->err.kind < ERR_KIND_MAX)
		return 1;
	own_close(fd);
	return err_set(e, ERR_BUG, 0, "the engine broker sends nonsense");
}

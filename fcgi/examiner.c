#include "fcgi/examiner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fcgi/program.h"
#include "isolate/ended.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { SOCK_FD = 3, CONF_FD = 4, END_MS = 10000 };

#define CONF_PATH "/proc/self/fd/4"

static pid_t spawn_doctor(const char *program, const char *state, int out)
{
	static char name[] = "doctor", json[] = "--json", conf[] = "--conf", at[] = "--state",
		    file[] = CONF_PATH, path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *dir = strdup(state), *const env[] = {path, NULL};
	char *const argv[] = {name, json, conf, file, at, dir, NULL};
	posix_spawn_file_actions_t fa;
	pid_t pid = -1;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_adddup2(&fa, CONF_FD, CONF_FD); /* stays open in doctor */
	if (!dir || (errno = posix_spawn(&pid, program, &fa, NULL, argv, env)) != 0)
		log_line(LOG_ERROR, "start doctor: %s", strerror(errno));
	posix_spawn_file_actions_destroy(&fa);
	free(dir);
	return pid;
}

/* doctor removes what it has made when it is ended by SIGTERM. */
static void end_doctor(pid_t pid, int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	kill(pid, SIGTERM);
	if (poll(&p, 1, END_MS) <= 0)
		kill(pid, SIGKILL);
}

/* Returns the wait status, or -1. The keeper sends nothing during a run: that is its end. */
static int run_doctor(const char *program, const char *state, int out)
{
	pid_t pid = spawn_doctor(program, state, out);
	OWN_FD pidfd = pid < 0 ? -1 : sys_pidfd_open(pid, 0);
	struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = SOCK_FD, .events = POLLIN}};
	int status = -1;

	if (pid < 0)
		return -1;
	if (pidfd < 0 || poll(p, 2, EXAMINER_RUN_MS) <= 0 || !(p[0].revents & POLLIN))
		end_doctor(pid, pidfd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static _Noreturn void serve(const char *program, const char *state)
{
	char byte;
	unsigned n;
	int out, status;

	while (fdmsg_receive(SOCK_FD, &byte, 1, &out, 1, &n, 0) == 1 && n == 1) {
		status = run_doctor(program, state, out);
		close(out);
		if (fdmsg_send(SOCK_FD, &status, sizeof status, NULL, 0, MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/* In the new process. What the keeper holds, its lock above all, must end with the keeper. */
static _Noreturn void begin(const struct conf *c, int sock)
{
	char program[PATH_MAX + 32];
	OWN_FD settings = -1, ours = fcntl(sock, F_DUPFD_CLOEXEC, CONF_FD + 1);
	struct err e = {0};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	settings = program_settings(c, &e);
	if (settings >= 0 && settings <= CONF_FD) {
		int moved = fcntl(settings, F_DUPFD_CLOEXEC, CONF_FD + 1);

		close(settings);
		settings = moved;
	}
	if (ours < 0 || settings < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
		dup3(ours, SOCK_FD, O_CLOEXEC) < 0 || dup3(settings, CONF_FD, O_CLOEXEC) < 0 ||
		sys_close_range(CONF_FD + 1, ~0U, 0) < 0 ||
		program_find("doctor", program, sizeof program, &e) < 0) {
		log_err(LOG_ERROR, &e, "examiner");
		_exit(1);
	}
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_NAME, "cgibox-examiner");
	serve(program, c->state_dir);
}

int examiner_start(const struct conf *c, struct examiner *x, struct err *e)
{
	int pair[2];

	*x = (struct examiner){.pid = -1, .sock = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "start the examiner");
	x->pid = fork();
	if (x->pid == 0) {
		close(pair[0]);
		begin(c, pair[1]);
	}
	close(pair[1]);
	if (x->pid < 0) {
		close(pair[0]);
		return err_set(e, ERR_SETUP, errno, "start the examiner");
	}
	x->sock = pair[0];
	return 0;
}

int examiner_run(const struct examiner *x, int out, struct err *e)
{
	if (fdmsg_send(x->sock, "", 1, &out, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return err_set(e, ERR_SETUP, errno, "ask the examiner");
	return 0;
}

int examiner_finish(const struct examiner *x, struct err *e)
{
	unsigned n;
	int status, none[1];
	char how[64];

	if (fdmsg_receive(x->sock, &status, sizeof status, none, 0, &n, MSG_DONTWAIT) != 1)
		return err_set(e, ERR_SETUP, EPIPE, "the examiner has ended");
	if (WIFEXITED(status) && WEXITSTATUS(status) <= 1) /* 1: something is blocked */
		return 0;
	return err_set(e, ERR_SETUP, 0, "doctor ended: %s", ended_text(status, how, sizeof how));
}

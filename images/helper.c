/* The programs docker-credential-NAME, which keep a person's credentials. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/credential.h"
#include "isolate/buf.h"
#include "isolate/own.h"
#include "isolate/sys.h"
#include "isolate/clock.h"

enum { HELPER_S = 20, END_MS = 2000, ANSWER_MAX = 65536 };

/* What a keyring or a browser log-in needs, and nothing of ours. */
static void make_env(struct buf *text, char **env, size_t max)
{
	static const char *const pass[] = {"PATH", "HOME", "USER", "LANG", "DISPLAY",
		"WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME",
		"PASSWORD_STORE_DIR", "DOCKER_CONFIG"};
	size_t n = 0;

	for (size_t i = 0; i < NELEM(pass); i++)
		if (getenv(pass[i]))
			buf_addf(text, "%s=%s%c", pass[i], getenv(pass[i]), 0);
	for (size_t at = 0; buf_ok(text) && at < text->len && n + 1 < max;
		at += strlen(text->p + at) + 1)
		env[n++] = text->p + at;
	env[n] = NULL;
}

static int start(const char *name, int in, int out, pid_t *pid, struct err *e)
{
	char program[96], get[] = "get";
	char *const argv[] = {program, get, NULL};
	OWN_BUF text = BUF_INIT(65536);
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	char *env[16];
	int r;

	snprintf(program, sizeof program, "docker-credential-%s", name);
	make_env(&text, env, NELEM(env));
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in, 0);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&at);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP);
	r = posix_spawnp(pid, program, &fa, &at, argv, env);
	posix_spawnattr_destroy(&at);
	posix_spawn_file_actions_destroy(&fa);
	return r ? err_set(e, ERR_CONF, r, "run %s", program) : 0;
}

/* Reads to the end; -1 when it takes too long or says too much. */
static int collect(int fd, struct buf *out)
{
	int64_t until = clock_ms() + HELPER_S * 1000;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char block[4096];
	ssize_t n;
	int r = 0;

	for (;;) {
		int64_t left = until - clock_ms();

		if (left <= 0 || (r = poll(&p, 1, (int)left)) == 0)
			return -1;
		if (r < 0 && errno == EINTR)
			continue;
		n = r < 0 ? -1 : read(fd, block, sizeof block);
		if (n == 0)
			return 0;
		if (n > 0 && buf_add(out, block, (size_t)n) < 0)
			n = -1;
		explicit_bzero(block, sizeof block);
		if (n < 0)
			return -1;
	}
}

/* The end of its output is a moment before its end. */
static void await_end(pid_t pid)
{
	OWN_FD fd = sys_pidfd_open(pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	poll(&p, 1, END_MS);
}

/* A pipe that holds the question and then ends. */
static int question(const char *registry, struct err *e)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	if (write(fd[1], registry, strlen(registry)) < 0) { /* far below PIPE_BUF */
		err_set(e, ERR_SETUP, errno, "write to a pipe");
		own_close(&fd[0]);
	}
	own_close(&fd[1]);
	return fd[0];
}

int helper_ask(const char *name, const char *registry, struct credential *out, struct err *e)
{
	OWN_BUF text = BUF_INIT(ANSWER_MAX);
	OWN_FD in = question(registry, e);
	int answer[2], status = 0, r;
	pid_t pid;

	credential_wipe(out);
	if (in < 0)
		return -1;
	if (pipe2(answer, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	r = start(name, in, answer[1], &pid, e);
	own_close(&answer[1]);
	if (r == 0) {
		r = collect(answer[0], &text);
		if (r == 0)
			await_end(pid);
		kill(-pid,
			SIGKILL); /* also what it left behind; one that has ended keeps its status */
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (r < 0)
			err_set(e, ERR_CONF, 0, "docker-credential-%s gave no answer in %d s", name,
				HELPER_S);
	}
	own_close(&answer[0]);
	if (r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		r = authfile_helper_answer(text.p ? text.p : "", text.len, out, e);
	else if (r == 0 && !(text.p && strstr(text.p, "credentials not found")))
		r = err_set(e, ERR_CONF, 0, "docker-credential-%s failed", name);
	if (text.p)
		explicit_bzero(text.p, text.len);
	return r;
}

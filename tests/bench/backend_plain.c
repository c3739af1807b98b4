/*
 * A backend without a sandbox, for bench-plain.fcgi: our front, our workers and our JSON around a
 * plain posix_spawn. It stands in for backend_isolate, and for self_lock(), because a locked worker
 * may start no process. What is left out of it is the sandbox, and the keeper's part. With CGIBOX_BENCH_LEAST =
 * "PROGRAM:ROOT:STAGING" (bare.h) each command has the least that a sandbox of ours can be, and nothing of
 * the keeper's: what is faster than that the kernel does not let be. Never to be
 * installed or reached by anyone but the benchmark.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fcgi/backend.h"
#include "fcgi/self.h"
#include "isolate/launch.h"
#include "isolate/own.h"
#include "tests/bench/bare.h"

extern char **environ;

struct backend {
	unsigned made;
	char *places;     /* CGIBOX_BENCH_LEAST, cut; NULL: no sandbox at all */
	struct bare bare; /* its strings are of places */
};
struct session_call {
	const struct backend *b;
};

int self_lock(const struct conf *c, struct err *e)
{
	(void)c, (void)e;
	return 0;
}

int self_lock_relay(struct err *e)
{
	(void)e;
	return 0;
}

static int open_least(struct backend *b, const char *places, struct err *e)
{
	struct launcher l = {.init_fd = -1};
	char *program, *root, *rest;
	int ret;

	rest = b->places = strdup(places);
	program = strsep(&rest, ":");
	root = strsep(&rest, ":");
	if (!rest)
		return err_set(e, ERR_CONF, 0, "CGIBOX_BENCH_LEAST: %s", places);
	if (launcher_open(&l, e) < 0)
		return -1;
	ret = bare_open(&b->bare, program, &l.filter, root, rest, e);
	launcher_close(&l);
	return ret;
}

static struct backend *plain_new(const struct conf *c, struct err *e)
{
	const char *places = getenv("CGIBOX_BENCH_LEAST");
	struct backend *b = calloc(1, sizeof *b);

	(void)c;
	if (!b)
		err_set(e, ERR_SETUP, ENOMEM, "backend");
	else if (places && open_least(b, places, e) < 0) {
		free(b->places);
		free(b);
		b = NULL;
	}
	return b;
}

static void plain_free(struct backend *b)
{
	free(b->places);
	free(b);
}

static int plain_health(struct backend *b, struct err *e)
{
	(void)b, (void)e;
	return 0;
}

static int plain_create(
	struct backend *b, const struct session_spec *s, struct session_made *out, struct err *e)
{
	(void)s, (void)e;
	memset(out, 0, sizeof *out);
	snprintf(out->id, sizeof out->id, "%08x-0000-4000-8000-%012x", (unsigned)getpid(),
		b->made++);
	return 0;
}

static int plain_exists(struct backend *b, const char *id, struct err *e)
{
	(void)b, (void)id, (void)e;
	return 0;
}

static struct session_call *plain_open(
	struct backend *b, const char *id, int archive_fd, struct session_info *info, struct err *e)
{
	struct session_call *c = calloc(1, sizeof *c);

	(void)id, (void)archive_fd;
	*info = (struct session_info){0};
	if (!c)
		err_set(e, ERR_SETUP, ENOMEM, "call");
	else
		c->b = b;
	return c;
}

/* Everything that the command writes, until it and its children have closed the pipe. */
static int pump(int from, int to, uint64_t *bytes, struct err *e)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(from, buf, sizeof buf)) > 0) {
		if (write(to, buf, (size_t)n) != n)
			return err_set(e, ERR_SETUP, errno, "output");
		*bytes += (uint64_t)n;
	}
	return 0;
}

/* With both outputs to out. */
static int start(const struct backend *b, char *const *argv, int out, pid_t *pid, struct err *e)
{
	posix_spawn_file_actions_t fa;
	int rc;

	if (b->places) {
		*pid = bare_start(&b->bare, argv, out, out, e);
		return *pid < 0 ? -1 : 0;
	}
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_adddup2(&fa, out, 2);
	rc = posix_spawn(pid, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return rc ? err_set(e, ERR_SETUP, rc, "%s", argv[0]) : 0;
}

static int plain_exec(
	struct session_call *c, const struct command_spec *s, struct result *out, struct err *e)
{
	char *const argv[] = {(char[]){"/bin/bash"}, (char[]){"-o"}, (char[]){"pipefail"},
		(char[]){"-c"}, (char *)(uintptr_t)s->command, NULL};
	int p[2], status, rc;
	pid_t pid;

	memset(out, 0, sizeof *out);
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "pipe");
	rc = start(c->b, argv, p[1], &pid, e);
	close(p[1]);
	if (rc == 0)
		pump(p[0], s->output_fd, &out->output_bytes, e);
	close(p[0]);
	if (rc < 0)
		return -1;
	if (waitpid(pid, &status, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "bash");
	out->output_kept = out->output_bytes;
	out->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	out->verdict = out->exit_code ? VERDICT_EXIT : VERDICT_OK;
	return 0;
}

static int plain_patch(struct session_call *c, int out_fd, uint64_t *bytes, struct err *e)
{
	(void)c, (void)out_fd, (void)e;
	*bytes = 0;
	return 0;
}

static void plain_close(struct session_call *c)
{
	free(c);
}

static int plain_destroy(struct backend *b, const char *id, struct err *e)
{
	(void)b, (void)id, (void)e;
	return 0;
}

static int plain_image(struct backend *b, enum image_verb verb, const char *ref,
	struct image_answer *out, struct err *e)
{
	(void)b, (void)verb, (void)ref, (void)out;
	return err_set(e, ERR_REQUEST, 0, "no images here");
}

static int plain_system(struct backend *b, struct system_info *out, struct err *e)
{
	(void)b, (void)e;
	*out = (struct system_info){0};
	return 0;
}

const struct backend_ops backend_isolate = {
	.name = "plain",
	.new = plain_new,
	.free = plain_free,
	.health = plain_health,
	.create = plain_create,
	.exists = plain_exists,
	.open = plain_open,
	.exec = plain_exec,
	.patch = plain_patch,
	.close = plain_close,
	.destroy = plain_destroy,
	.image = plain_image,
	.system = plain_system,
};

/* This program has one backend. */
const struct backend_ops backend_docker = {.name = "none"},
			 backend_docker_stream = {.name = "none"};

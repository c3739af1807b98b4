/* Pulling an image that a session asked for: the program `image`, as its own process. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fcgi/keeper_int.h"
#include "fcgi/program.h"
#include "isolate/buf.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/* The last line the puller wrote is its error. */
static void last_line(int fd, char *out, size_t size)
{
	char text[2048];
	off_t end = lseek(fd, 0, SEEK_END);
	off_t from = end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0;
	ssize_t n = pread(fd, text, sizeof text - 1, from);
	char *line;

	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n > 0 ? n : 0] = '\0';
	line = strrchr(text, '\n');
	snprintf(out, size, "%.*s", (int)size - 1, line ? line + 1 : text);
}

static void pull_done(struct keeper *k, struct source *s)
{
	struct call *c = s->call;
	struct err e = {0};
	char why[200];
	int status = 0;

	waitpid(c->pull_pid, &status, 0);
	keeper_unwatch(k, s);
	k->npulls--;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		last_line(c->pull_out, why, sizeof why);
		stats_add(&k->stats, COUNT_PULLS_FAILED, 1);
		err_set(&e, ERR_NOTFOUND, 0, "%s", *why ? why : "the puller died");
	}
	own_close(&c->pull_out);
	call_pulled(k, c, &e);
}

/* The settings of the puller, which does not read our file: ours may come from the environment. */
static void add_settings(const struct conf *c, struct buf *out)
{
	const struct {
		const char *name;
		int64_t value;
	} numbers[] = {{"PULL_TIMEOUT_S", c->pull_timeout_s}, {"PULL_STALL_S", c->pull_stall_s},
		{"PULL_PARALLEL", c->pull_parallel}, {"IMAGE_MAX_BYTES", c->image_max_bytes},
		{"IMAGE_ENTRIES_MAX", c->image_entries_max},
		{"IMAGE_RATIO_MAX", c->image_ratio_max}, {"IMAGE_LAYERS_MAX", c->image_layers_max}};
	const char *const texts[][2] = {{"INSECURE_REGISTRIES", c->insecure_registries},
		{"PRIVATE_REGISTRIES", c->private_registries},
		{"REGISTRY_MIRRORS", c->registry_mirrors},
		{"REGISTRY_AUTH_FILE", c->registry_auth_file},
		{"REGISTRY_CA_FILE", c->registry_ca_file}, {"PULL_ALLOWED", c->pull_allowed}};

	for (size_t i = 0; i < NELEM(numbers); i++)
		buf_addf(out, "CGIBOX_%s=%lld%c", numbers[i].name, (long long)numbers[i].value, 0);
	for (size_t i = 0; i < NELEM(texts); i++)
		buf_addf(out, "CGIBOX_%s=%s%c", texts[i][0], texts[i][1], 0);
}

/* The puller's environment: what it needs of ours, and the settings it must share. */
static int make_env(const struct keeper *k, struct buf *out, char **env, size_t max, struct err *e)
{
	static const char *const pass[] = {"https_proxy", "http_proxy", "all_proxy", "no_proxy",
		"HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"};
	size_t n = 0;

	buf_addf(out, "PATH=/usr/bin:/bin%c", 0);
	add_settings(k->conf, out);
	for (size_t i = 0; i < NELEM(pass); i++)
		if (getenv(pass[i]))
			buf_addf(out, "%s=%s%c", pass[i], getenv(pass[i]), 0);
	if (!buf_ok(out))
		return err_set(
			e, ERR_LIMIT, 0, "the puller's environment is over %zu bytes", out->max);
	for (size_t at = 0; at < out->len && n + 1 < max; at += strlen(out->p + at) + 1)
		env[n++] = out->p + at;
	env[n] = NULL;
	return 0;
}

static int spawn(struct keeper *k, char *program, char *const *args, int out, int err, int *pid,
	struct err *e)
{
	char state[] = "--state", *argv[16] = {program, state, k->dirs.path};
	OWN_BUF text = BUF_INIT(65536);
	posix_spawn_file_actions_t fa;
	char *env[32];
	int ret;

	for (size_t i = 0; args[i] && i + 4 < NELEM(argv); i++)
		argv[i + 3] = args[i];
	if (make_env(k, &text, env, NELEM(env), e) < 0)
		return -1;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_adddup2(&fa, err, 2);
	ret = posix_spawn(pid, program, &fa, NULL, argv, env);
	posix_spawn_file_actions_destroy(&fa);
	return ret ? err_set(e, ERR_SETUP, ret, "start the program \"image\"") : 0;
}

int pull_spawn(struct keeper *k, char *const *args, int out, int err, int *pid, struct err *e)
{
	char program[PATH_MAX + 32];
	OWN_FD pidfd = -1;

	if (program_find("image", program, sizeof program, e) < 0 ||
		spawn(k, program, args, out, err, pid, e) < 0)
		return -1;
	pidfd = sys_pidfd_open(*pid, 0);
	if (pidfd < 0) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
		return err_set(e, ERR_SETUP, errno, "watch the program \"image\"");
	}
	fcntl(pidfd, F_SETFD, FD_CLOEXEC);
	return take_fd(&pidfd);
}

int pull_start(struct keeper *k, struct call *c, struct err *e)
{
	/* the image's name cannot be taken for an option: references do not begin with "-" */
	char quiet[] = "--quiet", pull[] = "pull", client[] = "--for-client";
	char *const args[] = {quiet, pull, client, c->rq.image, NULL};
	int pidfd;

	if (k->npulls >= PULLS_MAX)
		return err_set(e, ERR_BUSY, EUSERS, "%u images are being pulled", k->npulls);
	c->pull_out = memfd_create("pull", MFD_CLOEXEC);
	if (c->pull_out < 0)
		return err_set(e, ERR_SETUP, errno, "make a file for the puller's output");
	pidfd = pull_spawn(k, args, c->pull_out, c->pull_out, &c->pull_pid, e);
	if (pidfd < 0)
		return -1;
	c->exit.ready = pull_done;
	if (keeper_watch(k, &c->exit, pidfd, e) < 0) {
		kill(c->pull_pid, SIGKILL);
		waitpid(c->pull_pid, NULL, 0);
		return -1;
	}
	k->npulls++;
	stats_add(&k->stats, COUNT_PULLS, 1);
	c->state = CALL_PULL;
	return 0;
}

/* The Engine of backend = docker: asked by the program `engine` beside us, which has the HTTP for it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/own.h"
#include "isolate/probe_facts.h"

enum { ANSWER_MAX = 4096 };

/* The program in our directory. */
static bool find(char path[PATH_MAX])
{
	static const char name[] = "engine";
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof name);
	char *slash;

	if (n < 0)
		return false;
	path[n] = '\0';
	slash = strrchr(path, '/');
	memcpy(slash + 1, name, sizeof name);
	return access(path, X_OK) == 0;
}

/* Runs it and takes what it prints: lines of state, text and fix, by tabs. */
static bool ask(char *path, const char *conf_file, char out[ANSWER_MAX])
{
	char name[] = "engine", check[] = "--check", file[PATH_MAX];
	char *argv[] = {name, check, conf_file ? file : NULL, NULL};
	posix_spawn_file_actions_t fa;
	OWN_FD from = -1;
	size_t len = 0;
	ssize_t n = 1;
	int p[2], ret;
	pid_t pid;

	snprintf(file, sizeof file, "%s", conf_file ? conf_file : "");
	if (pipe2(p, O_CLOEXEC) < 0)
		return false;
	from = p[0];
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, p[1], 1);
	ret = posix_spawn(&pid, path, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(p[1]);
	for (; ret == 0 && n > 0 && len<ANSWER_MAX - 1; len += n> 0 ? (size_t)n : 0)
		n = read(from, out + len, ANSWER_MAX - 1 - len);
	out[len] = '\0';
	if (ret == 0)
		waitpid(pid, NULL, 0);
	return len > 0;
}

/* The worst line is told. */
static void tell(char *lines, struct fact *f)
{
	static const char *const words[] = {"ok", "weaker", "blocked"};
	char *save, *line = strtok_r(lines, "\n", &save);
	int worst = -1;

	for (; line; line = strtok_r(NULL, "\n", &save)) {
		char *state = strsep(&line, "\t"), *text = strsep(&line, "\t");

		for (int i = PROBE_OK; i <= PROBE_BLOCKED; i++)
			if (i > worst && text && !strcmp(state, words[i])) {
				worst = i;
				probe_say(f, i, "%s", text);
				probe_fix(f, "%s", line ? line : "");
			}
	}
	if (worst < 0)
		probe_say(f, PROBE_BLOCKED, "the program \"engine\" says nothing that makes sense");
}

void probe_engine(const struct probe_env *env, struct fact *f)
{
	char path[PATH_MAX], lines[ANSWER_MAX];

	if (env->conf->backend != BACKEND_DOCKER)
		probe_say(f, PROBE_OK, "only backend = docker needs it");
	else if (!find(path))
		probe_say(f, PROBE_BLOCKED, "the program \"engine\" is not installed");
	else if (!ask(path, env->conf_file, lines))
		probe_say(f, PROBE_BLOCKED, "the program \"engine\" says nothing");
	else
		tell(lines, f);
}

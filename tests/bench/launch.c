/*
 * What it costs to start a program in several ways, in turn, so that a disturbance meets all alike.
 *
 *	bench-launch ROOT STAGING ROUNDS <LINES
 *
 * A line is NAME, KIND, EVERY (1: in each round, n: in each n-th) and arguments, with tabs between.
 * Kinds: spawn       posix_spawn with two pipes, read to their end
 *        filter      the same with descriptor 9 open on our seccomp program
 *        bare        the least that a sandbox takes (bare.h)
 *        cold        a fresh sandbox over ROOT; cold-hostnet: in the network of the host
 *        prepared    the same, prepared ahead, which is not counted
 *        parked      a sandbox that stands, used once; its start is not counted
 *        live        one sandbox for all rounds
 * Writes for each line NAME, KIND and microseconds of each round, and for fresh sandboxes also those
 * until the verdict was known (KIND/verdict). What fails writes NAME, "failed" and why. One round
 * before the first is not counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "isolate/own.h"
#include "tests/bench/bare.h"
#include "tests/bench/box.h"

extern char **environ;

enum { VARIANTS_MAX = 40, ARGS_MAX = 64, ROUNDS_MAX = 10000, FILTER_FD = 9, SAID_MAX = 300 };

enum kind { SPAWN, SPAWN_FILTER, BARE, COLD, COLD_HOSTNET, PREPARED, PARKED, LIVE, KINDS };

static const char *const kind_name[KINDS] = {
	"spawn", "filter", "bare", "cold", "cold-hostnet", "prepared", "parked", "live"};

struct variant {
	char *name, *argv[ARGS_MAX];
	enum kind kind;
	int every, n;
	struct box box; /* LIVE */
	char *failed;
	double *us, *verdict_us;
};

struct bench {
	struct box_maker maker;
	struct bare bare;
	char filter[4096];
	struct variant v[VARIANTS_MAX];
	int n, rounds;
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Reads both to their end; the start of what came goes to said. */
static void drain(int a, int b, char said[SAID_MAX])
{
	struct pollfd p[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
	char buf[4096];
	size_t have = 0;

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		poll(p, 2, -1);
		for (int i = 0; i < 2; i++) {
			ssize_t n = p[i].fd >= 0 && p[i].revents ? read(p[i].fd, buf, sizeof buf)
								 : -1;

			if (n == 0)
				p[i].fd = -1;
			for (ssize_t k = 0; k < n && have < SAID_MAX - 1; k++)
				said[have++] = buf[k] == '\n' || buf[k] == '\t' ? ' ' : buf[k];
		}
	}
	said[have] = '\0';
}

/* posix_spawn(3). out, errs: what becomes the program's; returns -1 with e. */
static pid_t spawn(const struct bench *b, const struct variant *v, int out, int errs, struct err *e)
{
	posix_spawn_file_actions_t fa;
	pid_t pid;
	int rc;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_adddup2(&fa, errs, 2);
	if (v->kind == SPAWN_FILTER)
		posix_spawn_file_actions_addopen(&fa, FILTER_FD, b->filter, O_RDONLY, 0);
	rc = posix_spawnp(&pid, v->argv[0], &fa, NULL, v->argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return rc ? err_set(e, ERR_SETUP, rc, "%s", v->argv[0]) : pid;
}

/* What is a process of its own: to the end of both outputs and to its own. */
static int run_process(const struct bench *b, const struct variant *v, struct err *e)
{
	char said[SAID_MAX];
	int out[2], errs[2], status;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(errs, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "pipe");
	pid = v->kind == BARE ? bare_start(&b->bare, v->argv, out[1], errs[1], e)
			      : spawn(b, v, out[1], errs[1], e);
	close(out[1]);
	close(errs[1]);
	drain(out[0], errs[0], said);
	close(out[0]);
	close(errs[0]);
	if (pid < 0)
		return -1;
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(e, ERR_SETUP, 0, "%s: status %d: %s", v->argv[0],
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), said);
}

/* One round of a variant; *us and *verdict_us are times. */
static int run_once(
	const struct bench *b, struct variant *v, double *us, double *verdict_us, struct err *e)
{
	const char *const *argv = (const char *const *)v->argv;
	struct box box = BOX_NONE;
	double start = now_us();
	int ret = 0;

	if (v->kind < COLD) {
		ret = run_process(b, v, e);
	} else if (v->kind == LIVE) {
		ret = box_exec(&v->box, argv, e);
	} else {
		ret = v->kind == PREPARED ? box_park(&b->maker, &box, e)
		      : v->kind == PARKED ? box_start(&b->maker, false, &box, e)
					  : box_begin(&b->maker, v->kind == COLD_HOSTNET, &box, e);
		if (v->kind == PARKED || v->kind == PREPARED)
			start = now_us();
		if (ret == 0 && v->kind == PREPARED)
			ret = box_begin_parked(&b->maker, &box, e);
		if (ret == 0)
			ret = box_exec_last(&box, argv, e);
		*verdict_us = now_us() - start;
		box_stop(&box);
	}
	*us = now_us() - start;
	if (v->kind == PARKED)
		*us = *verdict_us;
	return ret;
}

/* Runs round `round`; -1 is the one that is not counted. */
static void run_round(struct bench *b, int round)
{
	for (int i = 0; i < b->n; i++) {
		struct variant *v = &b->v[i];
		double us, verdict_us = 0;
		struct err e = {0};
		char why[400];

		if (v->failed || (round >= 0 && round % v->every))
			continue;
		if (run_once(b, v, &us, &verdict_us, &e) < 0)
			v->failed = strdup(err_text(&e, why, sizeof why));
		else if (round >= 0) {
			v->us[v->n] = us;
			v->verdict_us[v->n++] = verdict_us;
		}
	}
}

static int parse(struct bench *b, struct variant *v, char *line)
{
	char *save, *word = strtok_r(line, "\t\n", &save);
	int k = 0, n = 0;

	v->name = strdup(word ? word : "");
	word = strtok_r(NULL, "\t\n", &save);
	while (word && k < KINDS && strcmp(kind_name[k], word))
		k++;
	v->kind = (enum kind)k;
	word = strtok_r(NULL, "\t\n", &save);
	v->every = word ? atoi(word) : 0;
	while ((word = strtok_r(NULL, "\t\n", &save)) && n < ARGS_MAX - 1)
		v->argv[n++] = strdup(word);
	v->us = calloc((size_t)b->rounds, sizeof(double));
	v->verdict_us = calloc((size_t)b->rounds, sizeof(double));
	return k < KINDS && v->every > 0 && n && v->us && v->verdict_us ? 0 : -1;
}

static int read_variants(struct bench *b)
{
	char *line = NULL;
	size_t cap = 0;
	int ret = 0;

	while (ret == 0 && b->n < VARIANTS_MAX && getline(&line, &cap, stdin) > 0)
		ret = parse(b, &b->v[b->n++], line);
	free(line);
	return ret;
}

static void start_live(struct bench *b)
{
	for (int i = 0; i < b->n; i++) {
		struct err e = {0};
		char why[400];

		if (b->v[i].kind == LIVE && box_start(&b->maker, false, &b->v[i].box, &e) < 0)
			b->v[i].failed = strdup(err_text(&e, why, sizeof why));
	}
}

static void print_times(const struct variant *v, const char *more, const double *us)
{
	printf("%s\t%s%s", v->name, kind_name[v->kind], more);
	for (int i = 0; i < v->n; i++)
		printf("\t%.1f", us[i]);
	printf("\n");
}

static void report(const struct bench *b)
{
	for (int i = 0; i < b->n; i++) {
		const struct variant *v = &b->v[i];

		if (v->failed) {
			printf("%s\tfailed\t%s\n", v->name, v->failed);
			continue;
		}
		print_times(v, "", v->us);
		if (v->kind >= COLD && v->kind <= PREPARED)
			print_times(v, "/verdict", v->verdict_us);
	}
}

/* What bwrap --seccomp takes: the instructions as they are in memory. */
static int write_filter(struct bench *b, const char *dir)
{
	const struct filter *f = &b->maker.launcher.filter;
	size_t bytes = f->len * sizeof f->ins[0];
	OWN_FD fd = -1;

	snprintf(b->filter, sizeof b->filter, "%s/filter.bpf", dir);
	fd = open(b->filter, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd >= 0 && write(fd, f->ins, bytes) == (ssize_t)bytes ? 0 : -1;
}

/* pid 1 of kind "bare" lies beside us. */
static int open_bare(struct bench *b, struct err *e)
{
	static const char name[] = "bench-bare";
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof name);
	char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;

	if (!slash)
		return err_set(e, ERR_SETUP, errno, "find ourselves");
	memcpy(slash + 1, name, sizeof name);
	return bare_open(
		&b->bare, path, &b->maker.launcher.filter, b->maker.root, b->maker.staging, e);
}

int main(int argc, char **argv)
{
	struct bench *b = calloc(1, sizeof *b);
	struct err e = {0};
	char why[400];

	if (!b || argc != 4 || (b->rounds = atoi(argv[3])) < 1 || b->rounds > ROUNDS_MAX ||
		read_variants(b) < 0) {
		fprintf(stderr, "usage: bench-launch ROOT STAGING ROUNDS <LINES\n");
		return 64;
	}
	if (box_maker_open(&b->maker, argv[1], argv[2], &e) < 0 || open_bare(b, &e) < 0) {
		fprintf(stderr, "bench-launch: %s\n", err_text(&e, why, sizeof why));
		return 71;
	}
	if (write_filter(b, argv[2]) < 0) {
		perror(b->filter);
		return 73;
	}
	start_live(b);
	for (int i = -1; i < b->rounds; i++)
		run_round(b, i);
	for (int i = 0; i < b->n; i++)
		if (b->v[i].kind == LIVE)
			box_stop(&b->v[i].box);
	report(b);
	box_maker_close(&b->maker);
	return 0;
}

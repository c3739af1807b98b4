/*
 * bench-warm DIR IMAGE ROUNDS: what `python3 -c pass` costs, in turn: the commands of stdin (a name and
 * arguments a line, by tabs), code in a sandbox of its own that starts an interpreter, and code in one that
 * waited. DIR is a state directory that has IMAGE. On stdout a name and microseconds a line.
 */
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fcgi/backend_live.h"
#include "tests/unit/keeper.h"

enum { VARIANTS_MAX = 8, ARGS_MAX = 64, READY_MS = 30000, STEP_MS = 4 };

struct variant {
	const char *name;
	char *argv[ARGS_MAX];
	double *us;
};

struct bench {
	struct service s;
	struct variant v[VARIANTS_MAX];
	int n, rounds;
	const char *image;
	double *cold, *warm;
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds, or -1: it could not be started or failed. */
static double spawn(const struct variant *v)
{
	double begin = now_us();
	int status;
	pid_t pid;

	if (posix_spawnp(&pid, v->argv[0], NULL, NULL, v->argv, environ) != 0 ||
		waitpid(pid, &status, 0) != pid || status != 0)
		return -1;
	return now_us() - begin;
}

/* Until there is one that waits; asking keeps the keeper busy, so not too often. */
static bool wait_ready(struct bench *b)
{
	for (int i = 0; i < READY_MS / STEP_MS; i++) {
		struct system_info info = {0};
		struct err e;

		if (ops->system(b->s.b, &info, &e) == 0 && info.warm_ready > 0) {
			free(info.facts);
			return true;
		}
		free(info.facts);
		poll(NULL, 0, STEP_MS);
	}
	return false;
}

/* From the request to the verdict, with the connection closed; warm: by one that waited, or not. */
static double code(struct bench *b, bool warm)
{
	struct code_spec s = {.language = CODE_PYTHON,
		.image = b->image,
		.code = "pass",
		.code_bytes = 4,
		.env = warm ? NULL : "TZ=UTC",
		.env_bytes = warm ? 0 : 7,
		.timeout_ms = 10000};
	double begin = now_us();
	struct err e = {0}, why;
	struct run_view v;
	struct result r;
	bool good;

	if (ops->live->code(b->s.b, &s, &v, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return -1;
	}
	while (!spool_result(&v.spool, &r, &why))
		if (ops->live->wait(b->s.b, &v, UINT64_MAX, 10000, -1, &e) < 0)
			break;
	good = spool_result(&v.spool, &r, &why) && r.verdict == VERDICT_OK && v.warm == warm;
	ops->live->close(&v);
	return good ? now_us() - begin : -1;
}

static bool round_of(struct bench *b, int i)
{
	for (int k = 0; k < b->n; k++)
		if ((b->v[k].us[i] = spawn(&b->v[k])) < 0)
			return fprintf(stderr, "%s failed\n", b->v[k].name), false;
	if ((b->cold[i] = code(b, false)) < 0)
		return fprintf(stderr, "code in a new interpreter failed\n"), false;
	if (!wait_ready(b))
		return fprintf(stderr, "none waits\n"), false;
	poll(NULL, 0, 20); /* what was prepared last is at rest */
	if ((b->warm[i] = code(b, true)) < 0)
		return fprintf(stderr, "code in a waiting interpreter failed\n"), false;
	return true;
}

static void read_variants(struct bench *b)
{
	char *line = NULL;
	size_t cap = 0;

	while (b->n < VARIANTS_MAX && getline(&line, &cap, stdin) > 0) {
		struct variant *v = &b->v[b->n++];
		char *save, *word = strtok_r(line, "\t\n", &save);

		v->name = strdup(word ? word : "");
		for (int n = 0; n < ARGS_MAX - 1 && (word = strtok_r(NULL, "\t\n", &save)); n++)
			v->argv[n] = strdup(word);
		v->us = calloc((size_t)b->rounds, sizeof *v->us);
	}
	free(line);
}

static void print(const char *name, const double *us, int n)
{
	printf("%s", name);
	for (int i = 0; i < n; i++)
		printf("\t%.1f", us[i]);
	printf("\n");
}

int main(int argc, char **argv)
{
	struct bench b = {
		.image = argc == 4 ? argv[2] : "", .rounds = argc == 4 ? atoi(argv[3]) : 0};
	const char *const extra[][2] = {
		{"warm_python_max", "1"}, {"warm_python_image", b.image}, {NULL, NULL}};
	bool good = true;

	if (b.rounds < 1)
		return 64;
	read_variants(&b);
	b.cold = calloc((size_t)b.rounds, sizeof *b.cold);
	b.warm = calloc((size_t)b.rounds, sizeof *b.warm);
	snprintf(b.s.dir, sizeof b.s.dir, "%s", argv[1]);
	if (!b.cold || !b.warm || !open_service_in(&b.s, extra))
		return 1;
	wait_ready(&b);
	for (int i = 0; good && i < b.rounds; i++)
		good = round_of(&b, i);
	for (int k = 0; good && k < b.n; k++)
		print(b.v[k].name, b.v[k].us, b.rounds);
	if (good) {
		print("w-cold", b.cold, b.rounds);
		print("w-warm", b.warm, b.rounds);
	}
	close(b.s.lifeline[1]);
	waitpid(b.s.keeper, NULL, 0);
	return !good;
}

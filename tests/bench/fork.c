/*
 * bench-fork DIR ARCHIVE plain|overlay FORKS ROUNDS: a keeper on the new state directory DIR, a session with the
 * archive, and then ROUNDS times: a command writes a file, the session is forked, the forks are deleted.
 * JSON on stdout. As root it becomes the directory's future owner first.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/unit/keeper.h"

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static uint64_t seen_bytes;

static int add_bytes(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)path, (void)f;
	if (type == FTW_F)
		seen_bytes += (uint64_t)st->st_size;
	return 0;
}

/* Bytes of files in what tenants see. */
static uint64_t tenant_bytes(const char *state)
{
	char path[4096];

	seen_bytes = 0;
	snprintf(path, sizeof path, "%s/layers", state);
	nftw(path, add_bytes, 64, FTW_PHYS);
	return seen_bytes;
}

static bool must(int ret, const struct err *e)
{
	if (ret < 0)
		fprintf(stderr, "%s: %s\n", e->msg, strerror(e->errnum));
	return ret >= 0;
}

static bool touch(struct service *s, const char *id, int archive, int n)
{
	struct session_info info;
	struct err e = {0};
	struct session_call *c = ops->open(s->b, id, archive, &info, &e);
	OWN_FD fd = memfd_create("out", MFD_CLOEXEC);
	char command[64];
	struct command_spec spec = {
		.command = command, .timeout_ms = 60000, .output_max_bytes = 1000, .output_fd = fd};
	struct result r;
	bool good;

	snprintf(command, sizeof command, "echo %d > written", n);
	good = must(c ? ops->exec(c, &spec, &r, &e) : -1, &e);
	ops->close(c);
	return good;
}

/* Answers with the time in ms, or -1. */
static double fork_once(struct service *s, const char *id, unsigned count)
{
	const struct workspace_order o = {
		.verb = WORKSPACE_FORK, .count = count, .fd = -1, .stop = true};
	struct workspace_answer a;
	struct err e = {0};
	double begin = now_ms(), took;
	char kid[SESSION_ID_LEN + 2];

	if (!must(ops->workspace(s->b, id, &o, &a, &e), &e))
		return -1;
	took = now_ms() - begin;
	for (unsigned i = 0; i < count; i++) {
		if (pread(a.fd, kid, sizeof kid - 1, (off_t)(i * (sizeof kid - 1))) <
			SESSION_ID_LEN)
			return -1;
		kid[SESSION_ID_LEN] = '\0';
		ops->destroy(s->b, kid, &e);
	}
	close(a.fd);
	return took;
}

int main(int argc, char **argv)
{
	static const char *const form[][2] = {
		{"plain_entries_max", "0"}, {"plain_entries_max", "10000000"}};
	const char *extra[8][2] = {{"sessions_max", "20000"}, {"fork_max", "10000"},
		{"session_lock_wait_ms", "60000"}};
	struct service s = {.keeper = 0};
	struct session_spec spec = {.extract_patch = false};
	char id[SESSION_ID_LEN + 1];
	uint64_t before = 0;
	OWN_FD archive = -1;
	bool good;
	int rounds;

	if (argc != 6)
		return 64;
	rounds = atoi(argv[5]);
	memcpy(extra[3], form[!strcmp(argv[3], "plain")], sizeof extra[3]);
	archive = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (archive < 0 || !open_service_at(&s, argv[1], (const char *const(*)[2])extra))
		return 1;
	good = create(&s, &spec, id) && touch(&s, id, archive, -1);
	printf("{\"fork_ms\":[");
	for (int i = 0; good && i < rounds; i++) {
		double ms = touch(&s, id, -1, i) ? fork_once(&s, id, (unsigned)atoi(argv[4])) : -1;

		good = ms >= 0;
		printf("%s%.2f", i ? "," : "", ms);
		if (i == 0)
			before = tenant_bytes(s.dir);
	}
	/* what the commands wrote since is a few bytes a round */
	printf("],\"copied\":%llu}\n", (unsigned long long)((tenant_bytes(s.dir) - before) / 4096));
	fflush(stdout);
	close(s.lifeline[1]);
	waitpid(s.keeper, NULL, 0);
	return !good;
}

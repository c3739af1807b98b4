/*
 * What a sandbox costs: `true` started plainly, in a fresh sandbox of ours, and by bubblewrap with
 * like features, in turn, so that a disturbance meets all alike. Prints medians, and ratios to
 * the plain start. Usage: launch STATE [ROUNDS]
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "images/store.h"
#include "isolate/client.h"
#include "isolate/launch.h"
#include "isolate/own.h"

extern char **environ;

enum { VARIANTS = 4, ROUNDS_MAX = 10000 };

struct bench {
	struct launcher launcher;
	struct image image;
	char staging[4096];
	double us[VARIANTS][ROUNDS_MAX];
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int spawn_wait(char *const argv[])
{
	int status;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
		return -1;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static int plain(struct bench *b)
{
	char path[] = "/bin/true", *argv[] = {path, NULL};

	(void)b;
	return spawn_wait(argv);
}

static int sandboxed(struct bench *b, bool host_network)
{
	const char *argv[] = {"/bin/true", NULL};
	struct launch_mount binds[8];
	struct sandbox s;
	struct proto_reply rp;
	struct err e = {0};
	int pair[2], ret;
	size_t n = 0;

	for (; n < b->image.nhost_binds && n < NELEM(binds); n++)
		binds[n] = (struct launch_mount){.kind = PLAN_BIND,
			.flags = PLAN_RECURSIVE,
			.src = b->image.host_binds[n],
			.dst = b->image.host_binds[n]};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	struct launch w = {.uid = 1000,
		.gid = 1000,
		.hostname = "bench",
		.staging = b->staging,
		.host_network = host_network,
		.mounts = binds,
		.nmounts = n,
		.client_fd = pair[1],
		.root = {.kind = PLAN_OVERLAY,
			.flags = PLAN_TMPFS_UPPER,
			.lowers = (const char *const *)b->image.lowers,
			.nlowers = b->image.nlowers,
			.bytes = 1 << 26,
			.inodes = 10000},
		.processes_max = 512,
		.files_open_max = 1024,
		.shm_bytes = 1 << 20,
		.shm_inodes = 100};
	struct client_exec x = {.dir = "/",
		.argv = argv,
		.env = "A=",
		.env_bytes = 3,
		.output_max_bytes = 1000,
		.fds = {memfd_create("spool", MFD_CLOEXEC), -1, -1}};

	ret = sandbox_start(&b->launcher, &w, &s, &e);
	if (ret == 0)
		ret = sandbox_wait_ready(&s, 10000, &e);
	if (ret == 0)
		ret = client_send_exec(pair[0], &x, &e);
	if (ret == 0)
		ret = client_receive(pair[0], &rp, &e);
	if (ret < 0)
		fprintf(stderr, "%s: %s\n", e.msg, strerror(e.errnum));
	sandbox_stop(&s);
	close(pair[0]);
	close(pair[1]);
	close(x.fds[0]);
	return ret < 0 || rp.result.exit_code ? -1 : 0;
}

static int ours(struct bench *b)
{
	return sandboxed(b, false);
}

static int ours_host_network(struct bench *b)
{
	return sandboxed(b, true);
}

static int bubblewrap(struct bench *b)
{
	static const char *const words[] = {"bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr",
		"--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink",
		"usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
		"--cap-drop", "ALL", "--die-with-parent", "--new-session", "/bin/true", NULL};

	(void)b;
	return spawn_wait((char *const *)(uintptr_t)words);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static const struct {
	const char *name;
	int (*run)(struct bench *b);
} variants[VARIANTS] = {{"posix_spawn true", plain}, {"cgibox, cold, own network", ours},
	{"cgibox, cold, host network", ours_host_network},
	{"bwrap --unshare-all (no overlay, no filter)", bubblewrap}};

/* How many of the variants can run here. Says which bubblewrap is compared, or that there is none. */
static int count_variants(void)
{
	char name[] = "bwrap", version[] = "--version", *argv[] = {name, version, NULL};

	if (spawn_wait(argv) == 0)
		return VARIANTS;
	printf("bwrap is not installed: not compared\n");
	return VARIANTS - 1;
}

static void report(struct bench *b, int n, int rounds)
{
	double base = 0;

	for (int v = 0; v < n; v++) {
		qsort(b->us[v], (size_t)rounds, sizeof(double), by_value);
		if (v == 0)
			base = b->us[0][rounds / 2];
		printf("%-46s min %7.0f  median %7.0f  p99 %7.0f us  %5.2fx\n", variants[v].name,
			b->us[v][0], b->us[v][rounds / 2], b->us[v][rounds * 99 / 100],
			b->us[v][rounds / 2] / base);
	}
}

int main(int argc, char **argv)
{
	struct bench *b = calloc(1, sizeof *b);
	int rounds = argc > 2 ? atoi(argv[2]) : 200, n;
	struct store *st;
	struct err e = {0};

	if (!b || argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: launch STATE [ROUNDS]\n");
		return 64;
	}
	snprintf(b->staging, sizeof b->staging, "%s/images/tmp", argv[1]);
	st = store_open(argv[1], &e);
	if (!st || store_resolve(st, "host", &b->image, &e) < 0 ||
		launcher_open(&b->launcher, &e) < 0) {
		fprintf(stderr, "%s: %s\n", e.msg, strerror(e.errnum));
		return 71;
	}
	n = count_variants();
	for (int i = 0; i < rounds; i++) {
		for (int v = 0; v < n; v++) {
			double t = now_us();

			if (variants[v].run(b) < 0) {
				fprintf(stderr, "%s failed\n", variants[v].name);
				return 1;
			}
			b->us[v][i] = now_us() - t;
		}
	}
	report(b, n, rounds);
	return 0;
}

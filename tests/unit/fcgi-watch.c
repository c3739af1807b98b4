/*
 * Limits on a whole sandbox without cgroups: attackers (tests/attacks/sum.c) that pass every limit on
 * one process, and beside each a control that stays under the limit and lives. Real keeper, real
 * sandboxes.
 */
#include <time.h>

#include "tests/unit/keeper.h"

enum { MEMORY_MIB = 256, SOCKET_MIB = 48, DISK_MIB = 128, FILES = 5000, RUN_MS = 30000 };
enum { AT_ONCE = 4 }; /* that live beside each other: less than 1 GiB in all */

static char program[4096]; /* the attacker, beside us in the build directory */

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool copy_attacker(const struct service *s, const char *id)
{
	char path[256], buf[65536];
	OWN_FD in = open(program, O_RDONLY | O_CLOEXEC), out = -1;
	ssize_t n;

	snprintf(path, sizeof path, "%s/sessions/%s/ws/tree/sum", s->dir, id);
	out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	if (in < 0 || out < 0)
		return false;
	while ((n = read(in, buf, sizeof buf)) > 0)
		if (write(out, buf, (size_t)n) != n)
			return false;
	return n == 0;
}

/* Runs the attacker in a session of its own; *late_ms: how long it lived over the limit, -1 = never. */
static bool attack(struct service *s, const char *mode, int mib, int limit, int hold,
	struct result *r, double *late_ms, char *out, size_t size)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "", command[200];
	struct session_info info;
	struct session_call *c;
	struct err e;
	const char *over;
	int64_t end;
	int ret;

	*late_ms = -1;
	if (!create(s, &spec, id) || !copy_attacker(s, id))
		return false;
	c = open_session(s, id, -1, &info, &e);
	if (!c)
		return false;
	snprintf(command, sizeof command, "exec ./sum %s %d %d %d", mode, mib, limit, hold);
	ret = run(c, command, RUN_MS, r, out, size);
	end = now_ns();
	over = strstr(out, "over ");
	if (over)
		*late_ms = (double)(end - atoll(over + 5)) / 1e6;
	ops->close(c);
	ops->destroy(s->b, id, &e);
	return ret == 0;
}

static void expect_end(
	struct service *s, const char *mode, int mib, int limit, enum verdict verdict)
{
	struct result r = {0};
	char out[1100];
	double late;
	bool ran = attack(s, mode, mib, limit, 20, &r, &late, out, sizeof out);

	ok(ran && r.verdict == verdict, "%s of %d over %d is ended: %s after %.0f ms", mode, mib,
		limit, verdict_name(r.verdict), late);
	if (r.verdict != verdict)
		printf("# %s\n", out);
}

struct life {
	const char *mode;
	int mib;
};

/* In a child, with a connection of its own to the keeper: its exit status is the verdict. */
static pid_t start_life(struct service *s, const struct life *l)
{
	struct result r = {0};
	char out[1100] = "";
	double late;
	struct err e;
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	s->b = ops->new (&s->conf, &e);
	if (!s->b || !attack(s, l->mode, l->mib, 1 << 20, 2, &r, &late, out, sizeof out))
		_exit(99);
	if (r.verdict != VERDICT_OK || !strstr(out, "took ")) {
		printf("# %s: %s\n", l->mode, out);
		fflush(stdout);
	}
	_exit(r.verdict == VERDICT_OK && !strstr(out, "took ") ? 98 : (int)r.verdict);
}

static void end_life(const struct life *l, pid_t pid)
{
	int status = -1, got;

	waitpid(pid, &status, 0);
	got = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	ok(got == VERDICT_OK, "%s of %d lives: %s", l->mode, l->mib,
		got >= 0 && got < VERDICT_MAX ? verdict_name((enum verdict)got) : "no verdict");
}

/* They hold what they took for seconds: some at once. */
static void expect_lives(struct service *s, const struct life *l, size_t n)
{
	pid_t pids[32];

	fflush(stdout);
	for (size_t i = 0; i < n + AT_ONCE; i++) {
		if (i >= AT_ONCE)
			end_life(&l[i - AT_ONCE], pids[i - AT_ONCE]);
		if (i < n)
			pids[i] = start_life(s, &l[i]);
	}
}

static void test_memory(struct service *s)
{
	static const char *const modes[] = {"many", "memfd", "nondumpable", "dontneed", "window",
		"flight", "noleader", "tables", "mappings", "fifos", "polls", "fdinfo", "dark"};
	/* that descriptors wait for seconds is an attack whatever they are: no "flight" */
	static const struct life lives[] = {{"many", MEMORY_MIB * 3 / 4},
		{"memfd", MEMORY_MIB * 3 / 4}, {"nondumpable", MEMORY_MIB * 3 / 4},
		{"dontneed", MEMORY_MIB * 3 / 4}, {"window", MEMORY_MIB * 3 / 4},
		{"noleader", MEMORY_MIB * 3 / 4}, {"tables", MEMORY_MIB * 3 / 4},
		{"mappings", MEMORY_MIB * 3 / 4}, {"locks", 4}, {"sem", 150}, {"messages", 150},
		{"sysv", 200}, {"pipes", 32}, {"fifos", 32}, {"polls", 8}, {"fdinfo", 1},
		{"chains", MEMORY_MIB / 2}, {"slow-worker", MEMORY_MIB / 2},
		{"cow", MEMORY_MIB * 3 / 4}, {"spawns", MEMORY_MIB * 3 / 4}};

	for (size_t i = 0; i < NELEM(modes); i++)
		expect_end(s, modes[i], 2 * MEMORY_MIB, MEMORY_MIB, VERDICT_MEMORY);
	expect_end(s, "locks", 2 * MEMORY_MIB, MEMORY_MIB, VERDICT_MEMORY);
	expect_end(s, "sem", 400, MEMORY_MIB, VERDICT_MEMORY);
	expect_end(s, "messages", 400, MEMORY_MIB, VERDICT_MEMORY);
	expect_lives(s, lives, NELEM(lives));
}

static void test_sockets(struct service *s)
{
	static const char *const modes[] = {
		"stream", "dgram", "tcp", "orphans", "orphan-dgrams", "socket-filters"};
	static const struct life lives[] = {
		{"stream", SOCKET_MIB / 2}, {"socket-filters", 2}, {"tcp", SOCKET_MIB / 3}};

	for (size_t i = 0; i < NELEM(modes); i++)
		expect_end(s, modes[i], 256, SOCKET_MIB, VERDICT_MEMORY);
	expect_lives(s, lives, NELEM(lives));
}

static void test_disk(struct service *s)
{
	static const struct life lives[] = {{"disk", DISK_MIB * 3 / 4},
		{"disk-allocate", DISK_MIB * 3 / 4}, {"inodes", FILES * 3 / 4}};

	expect_end(s, "disk", 512, DISK_MIB, VERDICT_DISK);
	expect_end(s, "disk-allocate", 512, DISK_MIB, VERDICT_DISK);
	expect_end(s, "disk-unlinked", 512, DISK_MIB, VERDICT_DISK);
	expect_end(s, "deep", 512, DISK_MIB, VERDICT_DISK);
	expect_end(s, "inodes", 60000, FILES, VERDICT_DISK);
	expect_lives(s, lives, NELEM(lives));
}

static int approximate(struct service *s, struct session_spec *spec, char *id)
{
	struct session_made made = {.id = ""};
	struct err e = {0};

	snprintf(spec->image, sizeof spec->image, "host");
	if (ops->create(s->b, spec, &made, &e) < 0)
		return -1;
	memcpy(id, made.id, sizeof made.id);
	return (int)made.approximate;
}

/* Limits of one session: below the service's own, and kept for later calls. */
static void test_own_limits(struct service *s)
{
	struct session_spec spec = {.memory_bytes = 64 << 20, .cpus = 1};
	char id[SESSION_ID_LEN + 1] = "", out[1100];
	struct session_info info;
	struct session_call *c;
	struct result r = {0};
	struct err e;

	ok(approximate(s, &spec, id) == (UNENFORCED_MEMORY | UNENFORCED_CPUS) &&
			copy_attacker(s, id),
		"memory and processors are held approximately");
	for (int call = 1; call <= 2; call++) {
		c = open_session(s, id, -1, &info, &e);
		ok(c && run(c, "nproc; taskset -p 3 $$ >&- 2>&- || echo held", RUN_MS, &r, out,
				sizeof out) == 0,
			"call %d", call);
		is_str(out, "1\nheld\n", "one processor, and no other can be chosen");
		ok(run(c, "exec ./sum many 160 64 20", RUN_MS, &r, out, sizeof out) == 0 &&
				r.verdict == VERDICT_MEMORY,
			"160 MiB over 64 are ended: %s", verdict_name(r.verdict));
		ok(run(c, "exec ./sum chains 120 64 20", RUN_MS, &r, out, sizeof out) == 0 &&
				r.verdict == VERDICT_MEMORY,
			"so are 120 MiB of filters: %s", verdict_name(r.verdict));
		ok(run(c, "exec ./sum many 32 64 1", RUN_MS, &r, out, sizeof out) == 0 &&
				r.verdict == VERDICT_OK,
			"the next command of the call runs");
		ops->close(c);
	}
	ops->destroy(s->b, id, &e);
	spec = (struct session_spec){0};
	ok(approximate(s, &spec, id) == 0, "nothing asked, nothing said");
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "taskset -p 1 $$ >&- && echo free", RUN_MS, &r, out, sizeof out) == 0,
		"control: without a limit a processor can be chosen");
	is_str(out, "free\n", "it is");
	ops->close(c);
	ops->destroy(s->b, id, &e);
}

/* A session over its disk limit: ended, tidied up, or refused when it is far over. */
static void test_full_session(struct service *s)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "", out[1100], path[256];
	struct session_info info;
	struct session_call *c;
	struct result r = {0};
	struct err e;

	ok(create(s, &spec, id), "a session");
	c = open_session(s, id, -1, &info, &e);
	ok(c &&
			run(c, "mkdir big; head -c 150M /dev/zero >big/a; sleep 20", RUN_MS, &r,
				out, sizeof out) == 0 &&
			r.verdict == VERDICT_DISK,
		"150 MiB over %d are ended: %s", DISK_MIB, verdict_name(r.verdict));
	ops->close(c);
	snprintf(path, sizeof path, "%s/sessions/%s/check", s->dir, id);
	ok(access(path, F_OK) == 0, "it is marked");
	c = open_session(s, id, -1, &info, &e);
	ok(c &&
			run(c, "head -c 60M /dev/zero >big/b; sleep 20", RUN_MS, &r, out,
				sizeof out) == 0 &&
			r.verdict == VERDICT_DISK,
		"in the next call, 60 MiB more are ended: less than twice the limit, however late");
	ops->close(c);
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "rm -r big && echo gone", RUN_MS, &r, out, sizeof out) == 0 &&
			r.verdict == VERDICT_OK,
		"tidying up is allowed");
	ops->close(c);
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "head -c 90M /dev/zero >b; sleep 1", RUN_MS, &r, out, sizeof out) == 0 &&
			r.verdict == VERDICT_OK,
		"then there is room again");
	ops->close(c);
	ok(access(path, F_OK) < 0 && errno == ENOENT, "the mark is gone");
	ops->destroy(s->b, id, &e);
}

/* What programs make of the calls that the filter refuses. */
static void test_programs(struct service *s)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "", out[1100];
	struct session_info info;
	struct session_call *c;
	struct result r = {0};
	struct err e;

	ok(create(s, &spec, id), "a session");
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "fallocate -l 1M f", RUN_MS, &r, out, sizeof out) == 0 && r.exit_code == 1 &&
			strstr(out, "not supported"),
		"fallocate(2) is refused");
	ok(run(c, "fallocate -x -l 1M f && stat -c '%s %b' f", RUN_MS, &r, out, sizeof out) == 0,
		"posix");
	is_str(out, "1048576 2048\n", "fallocate --posix writes");
	ok(run(c, "fallocate -p -o 0 -l 65536 f && stat -c '%s %b' f", RUN_MS, &r, out,
		   sizeof out) == 0,
		"hole");
	is_str(out, "1048576 1920\n", "holes can be punched");
	ok(run(c,
		   "/usr/bin/python3 -c \"import os, sqlite3, threading, multiprocessing as m;"
		   "fd = os.open('p', os.O_RDWR | os.O_CREAT); os.posix_fallocate(fd, 0, 1 << 20);"
		   "print(os.fstat(fd).st_size);"
		   "d = sqlite3.connect('d'); d.execute('create table t(x)');"
		   "d.executemany('insert into t values(?)', [(i,) for i in range(9999)]); "
		   "d.commit();"
		   "print(d.execute('select sum(x) from t').fetchone()[0]);"
		   "q = m.Queue(); p = m.Process(target=q.put, args=(7,)); p.start(); "
		   "print(q.get()); p.join();"
		   "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\"",
		   RUN_MS, &r, out, sizeof out) == 0,
		"python");
	is_str(out, "1048576\n49985001\n7\nthread\n",
		"posix_fallocate, sqlite, processes, threads");
	ops->close(c);
	ops->destroy(s->b, id, &e);
}

static int cmp_double(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* One attack again and again: how long it lives over the limit. False: once it was not ended. */
static bool measure(struct service *s, const char *mode, int mib, int limit, int times)
{
	double late[100];
	bool good = true;

	times = times < 100 ? times : 100;
	for (int i = 0; i < times; i++) {
		struct result r = {0};
		char out[1100];

		if (!attack(s, mode, mib, limit, 20, &r, &late[i], out, sizeof out) ||
			r.verdict == VERDICT_OK) {
			printf("# %s: not ended: %s\n", mode, out);
			good = false;
		}
		if (late[i] < 0) /* ended before it could say that it was over */
			late[i] = 0;
	}
	qsort(late, (size_t)times, sizeof late[0], cmp_double);
	printf("# %-14s %d runs, ms over the limit: least %.0f, median %.0f, most %.0f\n", mode,
		times, late[0], late[times / 2], late[times - 1]);
	fflush(stdout);
	return good;
}

/* fcgi-watch MODE MIB LIMIT TIMES: a measurement instead of the test. */
int main(int argc, char **argv)
{
	static const char *const keys[][2] = {{"memory_max_bytes", "268435456"},
		{"socket_memory_max_bytes", "50331648"}, {"session_disk_max_bytes", "134217728"},
		{"session_disk_max_inodes", "5000"}, {"cgroup", "none"}, {NULL, NULL}};
	struct service s;

	log_open("test", LOG_WARN);
	snprintf(program, sizeof program, "%.*s/../attack-sum",
		(int)(strrchr(argv[0], '/') - argv[0]), argv[0]);
	if (!open_service_keys(&s, keys))
		return ok(false, "set up: %s", strerror(errno)), done();
	if (argc == 5) {
		ok(measure(&s, argv[1], atoi(argv[2]), atoi(argv[3]), atoi(argv[4])), "%s is ended",
			argv[1]);
	} else {
		test_memory(&s);
		test_sockets(&s);
		test_disk(&s);
		test_own_limits(&s);
		test_full_session(&s);
		test_programs(&s);
	}
	close_service(&s);
	return done();
}

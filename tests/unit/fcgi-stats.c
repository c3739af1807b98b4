/* The counters: exact under concurrency and kills, seats of the living only, a file that others left. */
#include "fcgi/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fcgi/metrics.h"
#include "fcgi/routes.h"
#include "fcgi/trace.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

enum { PROCESSES = 8, EACH = 20000 };

static char dir[] = "/tmp/cgibox-stats.XXXXXX";

static struct stats open_here(void)
{
	struct stats s;
	struct err e = {0};

	if (stats_open(&s, dir, &e) < 0)
		printf("# %s\n", e.msg);
	return s;
}

/* Counts until it is killed, and writes what it counted, after each, where the test sees it. */
static _Noreturn void count_on(_Atomic uint64_t *mine, uint64_t max)
{
	struct stats s = open_here();
	struct result r = {.verdict = VERDICT_OK, .wall_us = 700};

	stats_sit(&s, SEAT_WORKER);
	for (uint64_t i = 0; i < max; i++) {
		stats_request(&s, 1, 200, 1500);
		stats_run(&s, &r);
		stats_add(&s, COUNT_BYTES_IN, 3);
		atomic_fetch_add(mine, 1);
	}
	_exit(0);
}

static uint64_t in_all(const struct stats_hist *h)
{
	uint64_t n = 0;

	for (int i = 0; i <= STATS_BOUNDS; i++)
		n += h->in[i];
	return n;
}

static void test_concurrent(void)
{
	_Atomic uint64_t *told = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct stats s = open_here();

	for (int i = 0; i < PROCESSES; i++)
		if (fork() == 0)
			count_on(told, EACH);
	while (wait(NULL) > 0)
		;
	ok(*told == (uint64_t)PROCESSES * EACH, "all counted");
	ok(s.page->route[1].status[0] == *told, "requests are exact: %llu",
		(unsigned long long)s.page->route[1].status[0]);
	ok(s.page->verdict[VERDICT_OK] == *told, "verdicts");
	ok(s.page->count[COUNT_BYTES_IN] == 3 * *told, "bytes");
	ok(in_all(&s.page->hist[HIST_RUN]) == *told, "histogram");
	ok(s.page->hist[HIST_RUN].in[1] == *told, "in the bucket of 1 ms");
	ok(s.page->hist[HIST_RUN].sum_us == 700 * *told, "sum");
	munmap((void *)told, 4096);
	stats_close(&s);
}

/* Killed at any instant: what was told is counted, and at most one more of each. */
static void test_killed(void)
{
	_Atomic uint64_t *told = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct stats s = open_here();
	uint64_t before = s.page->route[1].status[0], runs = s.page->verdict[VERDICT_OK];
	int kills = 20;

	for (int i = 0; i < kills; i++) {
		uint64_t from = *told;
		pid_t pid = fork();

		if (pid == 0)
			count_on(told, UINT64_MAX);
		while (*told < from + 100)
			sched_yield();
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	before = s.page->route[1].status[0] - before;
	runs = s.page->verdict[VERDICT_OK] - runs;
	ok(before >= *told && before <= *told + (unsigned)kills, "%d kills: %llu of %llu", kills,
		(unsigned long long)before, (unsigned long long)*told);
	ok(runs >= *told && runs <= before, "runs likewise");
	munmap((void *)told, 4096);
	stats_close(&s);
}

static _Noreturn void sit(int kind, int tell)
{
	struct stats s = open_here();

	stats_sit(&s, (enum stats_kind)kind);
	stats_gauge(&s, WORKER_BUSY, 1);
	if (write(tell, "x", 1) == 1)
		pause();
	_exit(0);
}

static unsigned seated(const struct stats *s, uint32_t kind)
{
	unsigned n = 0;

	for (int i = 0; i < STATS_SEATS; i++)
		n += s->page->seat[i].kind == kind && stats_seated(s, &s->page->seat[i]);
	return n;
}

static void test_seats(void)
{
	struct stats s = open_here();
	pid_t pid[4];
	int p[2];
	char c;

	if (pipe(p) < 0)
		return;
	for (int i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			sit(i ? SEAT_WORKER : SEAT_MAIN, p[1]);
		if (read(p[0], &c, 1) != 1)
			return;
	}
	ok(seated(&s, SEAT_WORKER) == 3 && seated(&s, SEAT_MAIN) == 1, "four living seats");
	kill(pid[3], SIGKILL);
	waitpid(pid[3], NULL, 0);
	ok(seated(&s, SEAT_WORKER) == 2, "a dead one is not counted");
	stats_sit(&s, SEAT_KEEPER);
	ok(s.seat && seated(&s, SEAT_KEEPER) == 1, "its place is taken, and is its owner's to see");
	for (int i = 0; i < 3; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	close(p[0]);
	close(p[1]);
	stats_close(&s);
}

/* A worker that dies over a request. */
static _Noreturn void die_in_flight(const char *id)
{
	struct stats s = open_here();
	struct trace t;

	stats_sit(&s, SEAT_WORKER);
	trace_begin(&t, &s, id);
	trace_route(&t, HTTP_POST, 2);
	trace_session(&t, "01234567-89ab-4def-8123-456789abcdef");
	trace_run_begin(&t);
	if (!strcmp(id, "turned")) {
		strcpy(s.seat->flight.id, "a\"b\n");
		memset(s.seat->flight.session, 'x', sizeof s.seat->flight.session);
	}
	if (!strcmp(id, "wild"))
		s.seat->flight.route = s.seat->flight.method = s.seat->flight.running = ~0U;
	kill(getpid(), SIGKILL);
	_exit(0);
}

static pid_t killed(const char *id)
{
	pid_t pid = fork();

	if (pid == 0)
		die_in_flight(id);
	waitpid(pid, NULL, 0);
	return pid;
}

static void test_flight(void)
{
	struct stats s = open_here();
	uint64_t lost = s.page->verdict[VERDICT_INTERRUPTED];
	struct trace t;
	pid_t pid = killed("abc"), other;

	stats_sit(&s, SEAT_MAIN);
	other = killed("abd");
	ok(trace_of_dead(&t, &s, pid), "what it was at is known");
	is_str(t.id, "abc", "id");
	is_str(t.session, "01234567-89ab-4def-8123-456789abcdef", "session");
	ok(t.has_method && t.method == HTTP_POST && t.route == 2, "method and route");
	ok(t.verdicts[VERDICT_INTERRUPTED] == 1, "its command was interrupted");
	ok(s.page->verdict[VERDICT_INTERRUPTED] == lost + 1, "and is counted");
	ok(!trace_of_dead(&t, &s, pid), "once");
	ok(trace_of_dead(&t, &s, other) && !strcmp(t.id, "abd"), "another one");
	ok(!trace_of_dead(&t, &s, killed("turned")), "an id that forges is none");
	ok(trace_of_dead(&t, &s, killed("wild")) && t.route == ROUTES_NONE && !t.has_method,
		"numbers out of range are none");
	ok(t.verdicts[VERDICT_INTERRUPTED] <= 64, "and bounded");
	trace_begin(&t, &s, "main");
	trace_end(&t, 1);
	ok(s.seat->flight.id[0] == '\0' && s.seat->gauge[0] == 0, "main's seat has no flight");
	stats_close(&s);
}

/* Files that are not ours, or another version's, are replaced; who has the old one keeps it. */
static void test_file(void)
{
	struct stats s = open_here(), again;
	char path[64];
	struct stat st;
	int fd;

	snprintf(path, sizeof path, "%s/" STATS_FILE, dir);
	stats_add(&s, COUNT_PULLS, 7);
	again = open_here();
	ok(again.page->count[COUNT_PULLS] == 7, "counters outlive their processes");
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "nobody else's to read");
	stats_close(&again);
	fd = open(path, O_RDWR);
	ok(pwrite(fd, "\1", 1, 8) == 1, "another layout");
	close(fd);
	again = open_here();
	ok(again.page && again.page->count[COUNT_PULLS] == 0, "is begun anew");
	stats_add(&s, COUNT_PULLS, 1);
	ok(s.page->count[COUNT_PULLS] == 8, "the old one goes on for who has it");
	stats_close(&again);
	ok(truncate(path, 10) == 0, "a cut file");
	again = open_here();
	ok(again.page != NULL, "is replaced");
	stats_close(&again);
	unlink(path);
	ok(symlink("/etc/passwd", path) == 0, "a link");
	again = open_here();
	ok(again.page && lstat(path, &st) == 0 && S_ISREG(st.st_mode), "is replaced, not followed");
	stats_close(&again);
	stats_close(&s);
	unlink(path);
}

static void test_edges(void)
{
	struct stats s = open_here();
	struct result r = {.verdict = VERDICT_MAX};

	stats_run(&s, &r);
	ok(in_all(&s.page->hist[HIST_RUN]) == 0, "no such verdict: not counted");
	for (int i = 0; i < STATS_BOUNDS; i++) {
		stats_time(&s, HIST_QUEUE, stats_bound_us[i]);
		stats_time(&s, HIST_LOCK, stats_bound_us[i] + 1);
	}
	for (int i = 0; i < STATS_BOUNDS; i++)
		ok(s.page->hist[HIST_QUEUE].in[i] == 1 && s.page->hist[HIST_LOCK].in[i + 1] == 1,
			"bound %d belongs to its bucket", i);
	stats_request(&s, 4000000000U, 418, 0);
	ok(s.page->route[ROUTES_NONE].status[STATS_STATUSES - 1] == 1, "unknown route and status");
	stats_add(NULL, COUNT_CUT, 1);
	stats_close(&s);
	stats_add(&s, COUNT_CUT, 1);
	stats_gauge(&s, 0, 1);
}

int main(int argc, char **argv)
{
	if (!mkdtemp(dir))
		return 1;
	test_concurrent();
	test_killed();
	test_seats();
	test_flight();
	test_file();
	test_edges();
	(void)argc, (void)argv;
	{
		char path[64];

		snprintf(path, sizeof path, "%s/" STATS_FILE, dir);
		unlink(path);
		rmdir(dir);
	}
	return done();
}

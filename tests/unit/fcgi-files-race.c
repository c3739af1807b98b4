/*
 * The file verbs beside somebody who swaps what is there: a file, a directory, a FIFO, a socket, links that
 * lead out of the root and into circles. Nothing outside is read or changed, nobody waits, and what
 * becomes of a verb is always one of its codes.
 */
#include "fcgi/files.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "images/rmtree.h"
#include "isolate/filter.h"
#include "isolate/jail.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

enum { TEST_UID = 12345, SECONDS = 4, HANG_SECONDS = 60 };

#define SECRET "outside secret"

static const struct files_limits limits = {.read_max_bytes = 1 << 20,
	.scan_max_bytes = 1 << 24,
	.edit_max_bytes = 1 << 20,
	.transfer_max_bytes = 1 << 24,
	.matches_max = 100,
	.entries_max = 1000,
	.grep_steps_max = 10000,
	.unpacked_max_bytes = 1 << 24,
	.unpacked_entries_max = 1000,
	.ratio_max = 1000};

static const char *outside; /* the directory beside the root */

/* Puts another thing at "w" and at "d", and so on, until it is killed. */
static _Noreturn void swap(int root)
{
	char out[200], dots[200];

	snprintf(out, sizeof out, "%s/secret", outside);
	snprintf(dots, sizeof dots, "../../../../../../../..%s", outside);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fchdir(root) < 0)
		_exit(1);
	for (unsigned i = 0;; i++) {
		switch (i % 9) {
		case 0:
			close(open("n", O_CREAT | O_WRONLY, 0644));
			break;
		case 1:
			mkdir("n", 0755);
			break;
		case 2:
			(void)!symlink(out, "n");
			break;
		case 3:
			mkfifo("n", 0644);
			break;
		case 4:
			(void)!symlink("../outside/secret", "n");
			break;
		case 5:
			(void)!symlink("w", "n");
			break;
		case 6:
			(void)!symlink("/proc/self/fd/3", "n");
			break;
		case 7:
			mkdir("n", 0);
			break;
		default:
			(void)!symlink(dots, "n");
		}
		rename("n", i % 2 ? "w" : "d/w");
		rename("n", i % 2 ? "w" : "d/w");
		rmdir("n");
		unlink("n");
		rmdir(i % 2 ? "w" : "d/w");
		/* the directory above moves, too */
		rename("d", "e");
		(void)!symlink(outside, "d");
		unlink("d");
		rename("e", "d");
	}
}

struct tally {
	unsigned runs, fine, errors, leaks;
	char why[400];
};

static const struct {
	uint32_t verb, flags;
	const char *text[3];
} tries[] = {
	{FILES_FETCH, 0, {"/w"}},
	{FILES_FETCH, 0, {"/d/w"}},
	{FILES_FETCH, 0, {"/d/w/secret"}},
	{FILES_LINES, 0, {"/w"}},
	{FILES_LIST, 0, {"/d"}},
	{FILES_LIST, 0, {"/d/w"}},
	{FILES_GREP, 0, {"/", "secret", ""}},
	{FILES_GREP, 0, {"/d/w", "secret", ""}},
	{FILES_GLOB, 0, {"/", "**/secret"}},
	{FILES_WRITE, 0, {"/d/w"}},
	{FILES_WRITE, 0, {"/w/secret"}},
	{FILES_WRITE, FILES_CREATE_ONLY, {"/d/secret"}},
	{FILES_APPEND, 0, {"/w"}},
	{FILES_EDIT, 0, {"/w", "outside", "changed"}},
	{FILES_DELETE, 0, {"/w/secret"}},
	{FILES_DELETE, FILES_RECURSIVE, {"/w"}},
	{FILES_DELETE, FILES_RECURSIVE, {"/d/w"}},
	{FILES_MKDIR, 0, {"/d/w/made"}},
	{FILES_PACK, 0, {"/"}},
};

static bool leaked(int data, const struct files_result *r)
{
	static char got[1 << 20];
	ssize_t n = pread(data, got, sizeof got, 0);

	(void)r;
	return n > 0 && memmem(got, (size_t)n, SECRET, strlen(SECRET));
}

static void try_one(size_t i, struct tally *t)
{
	struct files_order o = {.verb = tries[i].verb, .flags = tries[i].flags, .limit = 100};
	OWN_BUF texts = BUF_INIT(4096);
	OWN_FD fd = memfd_create("texts", MFD_CLOEXEC), data = memfd_create("data", MFD_CLOEXEC);
	struct files_result r;
	struct err e = {0};

	for (int k = 0; k < 3 && tries[i].text[k]; k++)
		files_put_text(&texts, tries[i].text[k], strlen(tries[i].text[k]));
	o.text_bytes = (uint32_t)texts.len;
	if (o.verb == FILES_APPEND)
		o.total = o.limit = 4;
	if (write(fd, texts.p, texts.len) < 0 ||
		(o.verb == FILES_APPEND && write(data, "data", 4) != 4))
		_exit(1);
	t->runs++;
	if (files_run(&o, &limits, fd, data, &r, &e) < 0) {
		t->errors++;
		snprintf(t->why, sizeof t->why, "verb %u of %s: %s (%s)", o.verb, tries[i].text[0],
			e.msg, strerror(e.errnum));
		return;
	}
	t->fine += r.code == FILES_OK;
	t->leaks += leaked(data, &r);
}

/* In the jail, whose root is the directory. */
static _Noreturn void verbs(int root, int report)
{
	const struct jail_limits lim = {.time_max_s = HANG_SECONDS};
	struct tally t = {.runs = 0};
	struct timespec now, begin;
	struct err e = {0};

	if (jail_enter(root, &report, 1, &lim, &e) < 0) {
		snprintf(t.why, sizeof t.why, "%s", e.msg);
		t.errors = 1;
		(void)!write(report, &t, sizeof t);
		_exit(1);
	}
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		for (size_t i = 0; i < NELEM(tries); i++)
			try_one(i, &t);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec < SECONDS);
	(void)!write(report, &t, sizeof t);
	_exit(0);
}

static void race(int root)
{
	struct tally t = {.runs = 0};
	int report[2], status = 0;
	pid_t swapper, worker;

	if (pipe2(report, O_CLOEXEC) < 0)
		return;
	swapper = fork();
	if (swapper == 0)
		swap(root);
	worker = fork();
	if (worker == 0)
		verbs(root, report[1]);
	close(report[1]);
	ok(read(report[0], &t, sizeof t) == (ssize_t)sizeof t, "the verbs come to an end");
	close(report[0]);
	waitpid(worker, &status, 0);
	kill(swapper, SIGKILL);
	waitpid(swapper, NULL, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "in order");
	printf("# %u verbs, %u did what they were asked\n", t.runs, t.fine);
	ok(t.runs > NELEM(tries) && t.fine > 0 && t.fine < t.runs,
		"some found what they looked for");
	if (!ok(t.errors == 0, "none failed in another way"))
		printf("# %u: %s\n", t.errors, t.why);
	ok(t.leaks == 0, "nothing of the outside came in");
}

static bool file_is(int dir, const char *name, const char *text)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	char got[64] = "";

	return fd >= 0 && read(fd, got, sizeof got - 1) == (ssize_t)strlen(text) &&
	       !strcmp(got, text);
}

static int count(int dir)
{
	OWN_FD fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(8) char buf[4096];
	ssize_t n = getdents64(fd, buf, sizeof buf);
	int entries = 0;

	for (ssize_t at = 0; at < n; entries++)
		at += *(unsigned short *)(void *)(buf + at + 16);
	return entries - 2;
}

int main(void)
{
	char top[] = "/tmp/cgibox-race-XXXXXX", path[64];
	OWN_FD root = -1, out = -1, fd = -1;
	struct err e;

	if (!mkdtemp(top) ||
		(geteuid() == 0 && (chown(top, TEST_UID, TEST_UID) < 0 || setgroups(0, NULL) < 0 ||
					   setgid(TEST_UID) < 0 || setuid(TEST_UID) < 0)))
		return 1;
	prctl(PR_SET_DUMPABLE, 1);
	snprintf(path, sizeof path, "%s/outside", top);
	outside = path;
	if (mkdir(path, 0755) < 0 || (out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 1;
	fd = openat(out, "secret", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, SECRET, strlen(SECRET)) < 0)
		return 1;
	ok(file_is(out, "secret", SECRET), "a secret lies beside the root");
	snprintf(path + strlen(top), sizeof path - strlen(top), "/root");
	if (mkdir(path, 0755) < 0 || (root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
		mkdirat(root, "d", 0755) < 0)
		return 1;
	snprintf(path + strlen(top), sizeof path - strlen(top), "/outside");
	race(root);
	ok(file_is(out, "secret", SECRET) && count(out) == 1, "and lies there unchanged, alone");
	ok(rmtree_at(AT_FDCWD, top, &e) == 0, "all of it can be removed");
	return done();
}

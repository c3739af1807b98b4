#include "fcgi/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/tap.h"

enum { TEST_UID = 12345 };

static const struct tree_job no_job = {.time_max_s = 60,
	.memory_max_bytes = 1 << 28,
	.limits = {.archive_max_bytes = 1 << 20,
		.archive_unpacked_max_bytes = 1 << 20,
		.archive_entries_max = 100,
		.archive_ratio_max = 100,
		.plain_entries_max = 100,
		.plain_max_bytes = 1 << 20,
		.patch_max_bytes = 1 << 20}};

/* A job to its end. 0, or the kind of its error, or -1 when its helper died. */
static int run(struct tree_server *t, struct tree_job job, uint32_t op, int dir, int data,
	struct tree_result *r)
{
	struct err e = {0};
	int fd, ret;

	job.op = op;
	fd = tree_start(t, &job, dir, data, &e);
	if (fd < 0)
		return e.kind;
	ret = tree_finish(fd, r, &e);
	close(fd);
	if (ret == 0 && r->err.kind != ERR_NONE)
		printf("# %s\n", r->err.msg);
	return ret < 0 ? -1 : r->err.kind;
}

static bool there(int dir, const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_jobs(struct tree_server *t, int dir)
{
	struct tree_job bad = no_job;
	struct tree_result r;
	struct err e = {0};

	ok(run(t, no_job, TREE_CREATE, dir, -1, &r) == 0 && there(dir, "tree"), "create");
	ok(r.layout.form == WS_EMPTY && ws_layout_valid(&r.layout), "gives an empty layout");
	ok(mkdirat(dir, "tree/d", 0700) == 0 && mkdirat(dir, "tree/d/e", 0) == 0 &&
			symlinkat("/etc", dir, "tree/l") == 0 && fchmodat(dir, "tree/d", 0, 0) == 0,
		"directories of mode 000 and a link");
	ok(run(t, no_job, TREE_DELETE, dir, -1, &r) == 0 && !there(dir, "tree"), "are deleted");
	ok(there(AT_FDCWD, "/etc/passwd"), "and the link was not followed");
	bad.op = TREE_OP_MAX;
	ok(tree_start(t, &bad, dir, -1, &e) < 0 && e.kind == ERR_BUG, "an unknown job is refused");
	bad.op = TREE_PATCH;
	bad.layout.form = 7;
	ok(tree_start(t, &bad, dir, -1, &e) < 0 && e.kind == ERR_BUG, "a bad layout is refused");
}

static void test_time(struct tree_server *t, int dir)
{
	struct tree_job slow = no_job;
	struct tree_result r;
	struct err e = {0};
	struct pollfd wait = {.events = POLLIN};
	int pipefd[2];

	if (!ok(pipe2(pipefd, O_CLOEXEC) == 0, "an archive that never comes"))
		return;
	slow.op = TREE_ADD;
	slow.time_max_s = 4; /* as long as the other job may take */
	wait.fd = tree_start(t, &slow, dir, pipefd[0], &e);
	ok(wait.fd >= 0, "its job starts");
	ok(run(t, no_job, TREE_CREATE, dir, -1, &r) == 0, "another job does not wait for it");
	ok(poll(&wait, 1, 0) == 0, "which is still waiting");
	ok(tree_finish(wait.fd, &r, &e) == 0 && r.err.kind == ERR_LIMIT &&
			strstr(r.err.msg, "archive_time_max_s"),
		"when its time is up it says which limit: %s", r.err.msg);
	ok(!ws_layout_valid(&r.layout), "and that it does not know the layout");
	close(wait.fd);
	close(pipefd[0]);
	close(pipefd[1]);
}

static void test_peer_gone(struct tree_server *t, int dir)
{
	struct tree_result r;
	struct err e = {0};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	close(pair[1]);
	ok(tree_finish(pair[0], &r, &e) < 0 && e.kind == ERR_SETUP && !ws_layout_valid(&r.layout),
		"a helper that died: %s", e.msg);
	close(pair[0]);
	(void)!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	memset(&r, 0xff, sizeof r);
	(void)!send(pair[1], &r, sizeof r, 0);
	ok(tree_finish(pair[0], &r, &e) < 0 && e.kind == ERR_BUG, "an answer out of range");
	close(pair[0]);
	close(pair[1]);
	ok(run(t, no_job, TREE_CREATE, dir, -1, &r) == 0, "the server still serves");
}

/* The server keeps standard error: its end of this pipe tells when it is gone. */
static void test_keeper_killed(void)
{
	int told[2], ready[2];
	char c;
	pid_t keeper;

	if (pipe2(told, O_CLOEXEC) < 0 || pipe2(ready, O_CLOEXEC) < 0)
		return;
	keeper = fork();
	if (keeper == 0) {
		dup2(told[1], 2);
		c = tree_server_start(NULL) ? 'y' : 'n';
		(void)!write(ready[1], &c, 1);
		for (;;)
			pause();
	}
	close(told[1]);
	close(ready[1]);
	ok(read(ready[0], &c, 1) == 1 && c == 'y', "a keeper with its tree server");
	kill(keeper, SIGKILL);
	waitpid(keeper, NULL, 0);
	ok(read(told[0], &c, 1) == 0, "when it is killed, the server ends too");
	close(told[0]);
	close(ready[0]);
}

int main(void)
{
	char path[] = "/tmp/cgibox-test-XXXXXX";
	struct tree_server *t;
	struct tree_result r;
	struct err e = {0};
	int dir;

	if (!mkdtemp(path))
		return 1;
	if (getuid() == 0 && (chown(path, TEST_UID, TEST_UID) < 0 || setgroups(0, NULL) < 0 ||
				     setresgid(TEST_UID, TEST_UID, TEST_UID) < 0 ||
				     setresuid(TEST_UID, TEST_UID, TEST_UID) < 0))
		return 1;
	t = tree_server_start(&e);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!ok(t && dir >= 0, "the server starts"))
		return done();
	test_jobs(t, dir);
	test_time(t, dir);
	test_peer_gone(t, dir);
	test_keeper_killed();
	ok(run(t, no_job, TREE_DELETE, dir, -1, &r) == 0 && rmdir(path) == 0, "all is cleaned up");
	tree_server_stop(t);
	ok(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "no process is left");
	return done();
}

/* What a session may be made with: its files at /workspace, less disk, another idle time, a tie. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fcgi/backend_live.h"
#include "tests/unit/keeper.h"

#define LIVE (ops->live)

enum { MIB = 1 << 20 };

static struct session_made made(struct service *s, const struct session_spec *wish)
{
	struct session_spec spec = *wish;
	struct session_made out = {.tie = -1};
	struct err e = {0};

	snprintf(spec.image, sizeof spec.image, "host");
	if (ops->create(s->b, &spec, &out, &e) < 0)
		printf("# create: %s\n", e.msg);
	return out;
}

/* Commands of one call, each with its verdict; out: what the last printed. */
static struct result shell(struct service *s, const char *id, const char *command, char *out)
{
	struct session_info info;
	struct err e;
	struct session_call *c = open_session(s, id, -1, &info, &e);
	struct result r = {.verdict = VERDICT_MAX};

	*out = '\0';
	if (c)
		run(c, command, PATIENCE_MS, &r, out, 1000);
	ops->close(c);
	return r;
}

static uint32_t put(struct service *s, const char *id, const char *path, size_t bytes)
{
	OWN_BUF texts = BUF_INIT(4096);
	OWN_FD fd = memfd_create("data", MFD_CLOEXEC);
	struct files_order o = {.verb = FILES_WRITE};
	struct files_result r = {.code = FILES_CODE_MAX};
	struct err e = {0};

	files_put_text(&texts, path, strlen(path));
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
		ops->files(s->b, id, &o, &texts, fd, &r, &e) < 0)
		printf("# write: %s\n", e.msg);
	return r.code;
}

static void workspace(struct service *s)
{
	struct session_made m = made(s, &(struct session_spec){.at_workspace = true});
	struct workspace_order commit = {.verb = WORKSPACE_FORK, .count = 1, .fd = -1};
	struct workspace_answer a = {.fd = -1};
	char out[1000], child[SESSION_ID_LEN + 1] = "";
	struct err e = {0};

	ok(shell(s, m.id, "cd /workspace && pwd -P && echo x >a && readlink /repo", out).verdict ==
			VERDICT_OK,
		"commands run");
	is_str(out, "/workspace\nworkspace\n",
		"the workspace is at /workspace, /repo a link to it");
	ok(put(s, m.id, "/workspace/b", 3) == FILES_OK, "a file is put there");
	shell(s, m.id, "ls /repo/; grep -c ' /workspace ' /proc/self/mounts", out);
	is_str(out, "a\nb\n1\n", "and seen under the other name; it is a mount");
	ok(ops->workspace(s->b, m.id, &commit, &a, &e) == 0, "it is forked (%s)", e.msg);
	ok(pread(a.fd, child, SESSION_ID_LEN, 0) == SESSION_ID_LEN, "into one");
	own_close(&a.fd);
	shell(s, child, "cd /workspace && pwd -P && ls", out);
	is_str(out, "/workspace\na\nb\n", "whose files are there, too");
	ops->destroy(s->b, child, &e);
	ops->destroy(s->b, m.id, &e);
}

static void disk(struct service *s)
{
	struct session_spec wish = {.at_workspace = true, .disk_bytes = 2 * MIB};
	struct session_made m = made(s, &wish);
	struct session_status st = {.disk_limit = 0};
	struct session_made too = {.tie = -1};
	struct err e = {0};
	struct result r;
	char out[1000];

	ok(LIVE->status(s->b, m.id, &st, &e) == 0 && st.disk_limit == 2 * MIB,
		"the status knows of a limit of its own");
	ok(put(s, m.id, "/workspace/a", 2 * MIB + 1) == FILES_NO_SPACE,
		"a byte more than the session may hold");
	ok(put(s, m.id, "/workspace/a", 2 * MIB) == FILES_OK, "as much as it may");
	ok(put(s, m.id, "/workspace/b", 1) == FILES_NO_SPACE, "then it is full");
	r = shell(s, m.id, "rm /workspace/a", out);
	ok(r.verdict == VERDICT_OK && put(s, m.id, "/workspace/b", 1) == FILES_OK,
		"until something goes");
	r = shell(s, m.id,
		"i=0; while [ $i -lt 400 ]; do head -c 100000 /dev/zero >/workspace/f$i; "
		"i=$((i + 1)); sleep 0.05; done",
		out);
	ok(r.verdict == VERDICT_DISK,
		"a command that passes the limit in small steps is ended (%u)", r.verdict);
	snprintf(wish.image, sizeof wish.image, "host");
	wish.disk_bytes = s->conf.session_disk_max_bytes + 1;
	ok(ops->create(s->b, &wish, &too, &e) < 0 && e.kind == ERR_LIMIT &&
			strstr(e.msg, "session_disk_max_bytes"),
		"more than sandbox.conf allows is refused (%s)", e.msg);
	ops->destroy(s->b, m.id, &e);
}

static bool gone(struct service *s, const char *id)
{
	struct err e;

	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (ops->exists(s->b, id, &e) < 0)
			return e.kind == ERR_NOTFOUND;
		usleep(10000);
	}
	return false;
}

static void tied(struct service *s)
{
	struct session_made free_one = made(s, &(struct session_spec){.tied = false});
	struct session_made m = made(s, &(struct session_spec){.tied = true});
	struct run_spec sleep = {.shell = "sleep 1000",
		.timeout_ms = 1000000,
		.stdin_fd = -1,
		.about = "{}",
		.about_bytes = 2};
	struct run_view v;
	struct err e = {0};
	char out[1000];
	pid_t pid;

	ok(m.tie >= 0 && free_one.tie < 0, "only a tied session has a tie");
	ok(shell(s, m.id, "true", out).verdict == VERDICT_OK, "and is a session as any other");
	own_close(&m.tie);
	ok(gone(s, m.id), "it goes with its tie");
	ok(ops->exists(s->b, free_one.id, &e) == 0, "and no other");
	m = made(s, &(struct session_spec){.tied = true});
	ok(LIVE->start(s->b, m.id, &sleep, &v, &e) == 0, "a run in one (%s)", e.msg);
	pid = fork();
	if (pid == 0)
		pause();
	own_close(&m.tie);
	ok(ops->exists(s->b, m.id, &e) == 0, "another process holds the tie: it stays");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(gone(s, m.id), "whoever held it was killed: it goes, and its run with it");
	LIVE->close(&v);
	ops->destroy(s->b, free_one.id, &e);
}

static void idle(struct service *s)
{
	struct session_made shorter = made(s, &(struct session_spec){.idle_s = 1}),
			    usual = made(s, &(struct session_spec){.idle_s = 0});
	struct err e;

	kill(s->keeper, SIGKILL);
	waitpid(s->keeper, NULL, 0);
	start(s);
	sleep(2);
	kill(s->keeper, SIGKILL);
	waitpid(s->keeper, NULL, 0);
	start(s); /* looks at once */
	ok(gone(s, shorter.id), "a session with an idle time of its own expires");
	ok(ops->exists(s->b, usual.id, &e) == 0, "and no other");
	ops->destroy(s->b, usual.id, &e);
}

int main(void)
{
	struct service s;

	if (!open_service(&s))
		return 1;
	workspace(&s);
	disk(&s);
	tied(&s);
	idle(&s);
	close_service(&s);
	return done();
}

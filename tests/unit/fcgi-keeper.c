/* The keeper and its backend as a worker uses them: real sandboxes on the image "host". */
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "fcgi/keeper_proto.h"
#include "isolate/fdmsg.h"
#include "tests/unit/keeper.h"

static void test_commands(struct service *s)
{
	static const char env[] = "A=1\0HOME=/elsewhere";
	struct session_spec spec = {.env = env, .env_bytes = sizeof env};
	char id[SESSION_ID_LEN + 1] = "", out[2000];
	struct session_info info;
	struct session_call *c;
	struct result r;
	struct err e;

	ok(create(s, &spec, id), "a session is made");
	ok(strlen(id) == SESSION_ID_LEN, "its id has %d characters", SESSION_ID_LEN);
	ok(ops->exists(s->b, id, &e) == 0, "it exists");
	c = open_session(s, id, -1, &info, &e);
	if (!ok(c != NULL, "it opens"))
		return;
	ok(run(c, "echo one; echo two >&2; echo $A $HOME; pwd; exit 3", PATIENCE_MS, &r, out,
		   sizeof out) == 0 &&
			r.verdict == VERDICT_EXIT && r.exit_code == 3,
		"a command's exit status");
	is_str(out, "one\ntwo\n1 /elsewhere\n/repo\n", "merged output, variables, directory");
	ok(run(c, "false | true", PATIENCE_MS, &r, out, sizeof out) == 0 && r.exit_code == 1,
		"pipefail");
	ok(run(c, "kill -TERM $$", PATIENCE_MS, &r, out, sizeof out) == 0 &&
			r.verdict == VERDICT_SIGNAL && r.exit_code == 143,
		"a signal is 128 + n");
	ok(run(c, "head -c 5000 /dev/zero | tr '\\0' x", PATIENCE_MS, &r, out, sizeof out) == 0 &&
			r.truncated && r.output_bytes == 5000 && strlen(out) == 1000,
		"output over the limit is counted and cut");
	ok(run(c,
		   "sleep 100 & until grep -q sleep /proc/$!/comm; do :; done; "
		   "cat /proc/[0-9]*/comm | grep -c sleep",
		   PATIENCE_MS, &r, out, sizeof out) == 0 &&
			!strcmp(out, "1\n"),
		"control: a process of the sandbox is counted");
	ok(run(c, "echo kept > /repo/f; echo kept > /tmp/t", PATIENCE_MS, &r, out, sizeof out) == 0,
		"files");
	ok(run(c, "echo early; sleep 100 & sleep 100", 3000, &r, out, sizeof out) == 0 &&
			r.verdict == VERDICT_TIMEOUT && r.exit_code == 124,
		"a timeout");
	is_str(out, "early\n", "what was written before it is kept");
	ops->close(c);
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "cat /repo/f /tmp/t; cat /proc/[0-9]*/comm | grep -c sleep", PATIENCE_MS, &r,
			out, sizeof out) == 0,
		"the next call");
	is_str(out, "kept\nkept\n0\n", "files stay, processes do not");
	ops->close(c);
	ok(ops->destroy(s->b, id, &e) == 0, "destroyed");
	ok(ops->exists(s->b, id, &e) < 0 && e.kind == ERR_NOTFOUND, "and gone");
	ok(ops->destroy(s->b, id, &e) == 0, "destroying it again is no error");
	ok(!open_session(s, id, -1, &info, &e) && e.kind == ERR_NOTFOUND, "nor can it be opened");
}

static void test_lock(struct service *s)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "";
	struct session_info info;
	struct session_call *c, *d;
	struct err e;

	ok(restart_with(s, "session_lock_wait_ms", SHORT_LOCK_WAIT_MS), "a short wait");
	ok(create(s, &spec, id), "a session to lock");
	c = open_session(s, id, -1, &info, &e);
	ok(c != NULL, "held");
	d = open_session(s, id, -1, &info, &e);
	ok(!d && e.kind == ERR_BUSY && e.errnum == EWOULDBLOCK, "the second waits, then is told");
	ops->close(c);
	d = open_session(s, id, -1, &info, &e);
	ok(d != NULL, "free again");
	ops->close(d);
	ok(restart_with(s, "session_lock_wait_ms", TEST_LOCK_WAIT_MS), "the usual wait");
}

/* A worker that dies leaves nothing: its connection was its hold. */
static void test_worker_death(struct service *s)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "", out[100];
	struct session_info info;
	struct session_call *c;
	struct result r;
	struct err e;
	pid_t pid;

	ok(create(s, &spec, id), "a session for a worker that dies");
	pid = fork();
	if (pid == 0) {
		c = ops->open(s->b, id, -1, &info, &e);
		run(c, "sleep 1000 & echo started", PATIENCE_MS, &r, out, sizeof out);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "cat /proc/[0-9]*/comm | grep -c sleep", PATIENCE_MS, &r, out, sizeof out) ==
				0,
		"its session is free at once");
	is_str(out, "0\n", "and its processes are gone");
	ops->close(c);
}

/* STATE/tmp/.doctor-PID with something in it. */
static void make_scratch(const struct service *s, int pid, char *path, size_t size)
{
	char below[128];

	snprintf(path, size, "%s/tmp/.doctor-%d", s->dir, pid);
	snprintf(below, sizeof below, "%s/overlay", path);
	ok(mkdir(path, 0700) == 0 && mkdir(below, 0) == 0, "a scratch of doctor %d", pid);
}

static void test_keeper_death(struct service *s)
{
	char dead[100], alive[100];
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "", out[100];
	struct session_info info;
	struct session_call *c;
	struct result r;
	struct err e;

	ok(create(s, &spec, id), "a session that outlives its keeper");
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "echo x > y", PATIENCE_MS, &r, out, sizeof out) == 0, "with a file");
	kill(s->keeper, SIGKILL);
	waitpid(s->keeper, NULL, 0);
	ok(c && run(c, "echo", PATIENCE_MS, &r, out, sizeof out) < 0,
		"no answer from a dead keeper's sandbox");
	ops->close(c);
	ok(ops->health(s->b, &e) < 0 && e.kind == ERR_BUSY && e.errnum == ECONNREFUSED,
		"the health check says so");
	make_scratch(s, 1 << 30, dead, sizeof dead);
	make_scratch(s, (int)getpid(), alive, sizeof alive);
	start(s);
	ok(access(dead, F_OK) < 0 && errno == ENOENT, "what a dead doctor left is gone");
	ok(access(alive, F_OK) == 0, "and not what belongs to a process that lives");
	c = open_session(s, id, -1, &info, &e);
	ok(c && run(c, "cat y", PATIENCE_MS, &r, out, sizeof out) == 0,
		"the next keeper serves it");
	is_str(out, "x\n", "with its file");
	ops->close(c);
}

static void test_refusals(struct service *s)
{
	struct session_spec spec = {.memory_bytes = s->conf.memory_max_bytes + 1};
	struct session_made made;
	struct err e;

	/* without control groups, whatever this machine has */
	ok(restart_with(s, "cgroup", "none"), "without control groups");
	snprintf(spec.image, sizeof spec.image, "host");
	ok(ops->create(s->b, &spec, &made, &e) < 0 && e.kind == ERR_LIMIT &&
			!strncmp(e.msg, "memory_bytes: ", 14),
		"a memory limit over the service's own is refused by name");
	spec.memory_bytes = 0;
	spec.cpus = 0.5;
	ok(ops->create(s->b, &spec, &made, &e) < 0 && e.kind == ERR_LIMIT &&
			!strncmp(e.msg, "cpus: ", 6),
		"so is half a processor");
	spec.cpus = 0;
	spec.network = true;
	ok(ops->create(s->b, &spec, &made, &e) < 0 && e.kind == ERR_LIMIT &&
			!strncmp(e.msg, "network_enabled: ", 17),
		"so is a network that is not allowed");
	spec.network = false;
	snprintf(spec.image, sizeof spec.image, "no/such:image");
	ok(ops->create(s->b, &spec, &made, &e) < 0 && e.kind == ERR_NOTFOUND,
		"and an unknown image");
	printf("# %s\n", e.msg);
}

static void test_patch(struct service *s)
{
	struct session_spec spec = {.extract_patch = true};
	char id[SESSION_ID_LEN + 1] = "", out[4000], tar[128], command[512];
	struct session_info info = {0};
	struct session_call *c;
	struct result r;
	struct err e;
	uint64_t bytes = 0;
	OWN_FD fd = -1, patch = memfd_create("patch", MFD_CLOEXEC);

	snprintf(tar, sizeof tar, "%s/a.tar.gz", s->dir);
	snprintf(command, sizeof command,
		"cd %s && mkdir src && printf 'one\\ntwo\\n' > src/a && tar czf a.tar.gz -C src .",
		s->dir);
	ok(system(command) == 0, "an archive");
	fd = open(tar, O_RDONLY | O_CLOEXEC);
	ok(create(s, &spec, id), "a session with patch");
	c = open_session(s, id, fd, &info, &e);
	ok(c && info.extract_patch && info.has_baseline, "takes the archive");
	if (!c)
		return;
	ok(run(c, "cat a; echo three >> a; (sleep 100; echo late >> a) &", PATIENCE_MS, &r, out,
		   sizeof out) == 0,
		"edits it");
	is_str(out, "one\ntwo\n", "finds the file");
	ok(ops->patch(c, patch, &bytes, &e) == 0 && bytes > 0, "makes a patch");
	out[0] = '\0';
	ok(pread(patch, out, sizeof out - 1, 0) == (ssize_t)bytes, "of that length");
	out[bytes < sizeof out ? bytes : 0] = '\0';
	ok(strstr(out, "+three\n") != NULL, "with the change");
	ops->close(c);
}

/* Counts the names in a directory of the state. */
static int count_in(const struct service *s, const char *name)
{
	char path[128];
	struct dirent *de;
	int n = 0;
	DIR *h;

	snprintf(path, sizeof path, "%s/%s", s->dir, name);
	h = opendir(path);
	while (h && (de = readdir(h)))
		n += *de->d_name != '.';
	if (h)
		closedir(h);
	return n;
}

/* Waits until the directory holds n names. */
static bool wait_count(const struct service *s, const char *name, int n)
{
	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (count_in(s, name) == n)
			return true;
		usleep(10000);
	}
	printf("# %s holds %d names\n", name, count_in(s, name));
	return false;
}

static void test_expiry(struct service *s)
{
	struct session_spec spec = {0};
	char held[SESSION_ID_LEN + 1] = "", idle[SESSION_ID_LEN + 1] = "";
	struct session_info info;
	struct session_call *c;
	struct err e;

	ok(restart_with(s, "session_idle_s", "1"), "sessions live for a second");
	/* it may be over before we come to open it */
	do
		if (!ok(create(s, &spec, held), "one that is used"))
			return;
	while (!(c = open_session(s, held, -1, &info, &e)) && e.kind == ERR_NOTFOUND);
	ok(c != NULL, "and stays open");
	ok(create(s, &spec, idle), "one that is not");
	ok(wait_count(s, "sessions", 1), "all unused sessions expire");
	ok(ops->exists(s->b, idle, &e) < 0 && ops->exists(s->b, held, &e) == 0, "and no other");
	ok(wait_count(s, "trash", 0), "their space comes back");
	ops->close(c);
	ok(wait_count(s, "sessions", 0) && wait_count(s, "trash", 0), "the last one follows");
}

/* Writing to what the keeper hands out would change what others read. */
static bool sealed(const struct service *s)
{
	struct keeper_request rq = {.magic = KEEPER_MAGIC, .op = KEEPER_SYSTEM};
	struct keeper_reply rp;
	struct err e;
	OWN_FD sock = keeper_connect(s->dir, &e);
	int fd[2] = {-1, -1};
	unsigned n = 0;
	bool good = fdmsg_send(sock, &rq, sizeof rq, NULL, 0, 0) == 0 &&
		    fdmsg_receive(sock, &rp, sizeof rp, fd, 2, &n, 0) == 1 && n == 1;

	good = good && pwrite(fd[0], "x", 1, 0) < 0 && errno == EPERM;
	own_close(&fd[0]);
	return good;
}

static void test_system(struct service *s)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "";
	struct system_info info, before;
	char user[64];
	struct session_info opened;
	struct session_call *c;
	struct err e = {0};

	if (!ok(ops->system(s->b, &before, &e) == 0, "the state of the system"))
		return;
	ok(before.facts && strstr(before.facts, "\"name\": \"sandbox\", \"state\": \"ok\""),
		"its facts end with a sandbox that works");
	/* from inside the keeper's namespace everybody is root */
	snprintf(user, sizeof user, "\"uid %u, gid %u\"", geteuid(), getegid());
	ok(before.facts && strstr(before.facts, user),
		"they are of the service's user, outside the keeper's namespaces");
	ok(time(NULL) - before.checked_at < 120, "found just now");
	ok(before.sandboxes == 0, "nothing runs");
	ok(sealed(s), "nobody can write to them");
	ok(create(s, &spec, id), "a session more");
	c = open_session(s, id, -1, &opened, &e);
	ok(ops->system(s->b, &info, &e) == 0, "again");
	ok(info.sessions == before.sessions + 1 && info.sandboxes == 1, "one session, one sandbox");
	ok(info.checked_at == before.checked_at && info.uptime_ms >= before.uptime_ms,
		"with the same facts");
	ops->close(c);
	ok(ops->destroy(s->b, id, &e) == 0, "the session goes");
	free(info.facts);
	free(before.facts);
}

int main(void)
{
	struct service s;

	log_open("test", LOG_WARN);
	if (!open_service(&s))
		return ok(false, "set up: %s", strerror(errno)), done();
	test_system(&s);
	test_commands(&s);
	test_lock(&s);
	test_worker_death(&s);
	test_refusals(&s);
	test_patch(&s);
	test_keeper_death(&s);
	test_expiry(&s);
	close_service(&s);
	return done();
}

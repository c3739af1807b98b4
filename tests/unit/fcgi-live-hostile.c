/* The keeper and pid 1 when others do what they should not: pid 1 ends or does not answer while somebody
 * works in its sandbox, a sandbox cannot be started, a worker sends a directory. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "fcgi/backend_live.h"
#include "fcgi/keeper_proto.h"
#include "isolate/clock.h"
#include "isolate/fdmsg.h"
#include "isolate/proto.h"
#include "tests/unit/keeper.h"

#define LIVE (ops->live)

static void made(struct service *s, char id[SESSION_ID_LEN + 1])
{
	struct session_spec spec = {.image = "host", .live = true};
	struct session_made m = {0};
	struct err e = {0};

	ok(ops->create(s->b, &spec, &m, &e) == 0, "a live session");
	memcpy(id, m.id, sizeof m.id);
}

static bool start_run(
	struct service *s, const char *id, const char *command, int in, struct run_view *v)
{
	struct run_spec r = {.shell = command,
		.timeout_ms = PATIENCE_MS,
		.stdin_fd = in,
		.about = "{}",
		.about_bytes = 2};
	struct err e = {0};

	if (LIVE->start(s->b, id, &r, v, &e) == 0)
		return true;
	printf("# start: %s (%d)\n", e.msg, e.errnum);
	errno = e.errnum;
	return false;
}

static struct result finish(struct service *s, struct run_view *v)
{
	struct result r = {.verdict = VERDICT_MAX};
	struct err e = {0}, why;
	int64_t until = clock_ms() + PATIENCE_MS;

	while (!spool_result(&v->spool, &r, &why) && clock_ms() < until)
		if (LIVE->wait(s->b, v, UINT64_MAX, PATIENCE_MS, -1, &e) < 0)
			break;
	return r;
}

static void works(struct service *s, const char *id, const char *what)
{
	struct run_view v;
	struct err e = {0};

	ok(waitpid(s->keeper, NULL, WNOHANG) == 0 && ops->health(s->b, &e) == 0,
		"%s: the keeper lives", what);
	if (ok(start_run(s, id, "true", -1, &v), "a run begins")) {
		ok(finish(s, &v).verdict == VERDICT_OK, "and ends as it should");
		LIVE->close(&v);
	}
}

/* The one process of this machine with that parent and that name. */
static pid_t child_named(pid_t parent, const char *name)
{
	char path[64], text[8192] = "";
	OWN_FD fd = -1;

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", parent, parent);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		return 0;
	for (char *at = text, *word; (word = strsep(&at, " ")) && *word;) {
		char comm[32] = "";
		OWN_FD c = -1;

		snprintf(path, sizeof path, "/proc/%s/comm", word);
		c = open(path, O_RDONLY | O_CLOEXEC);
		if (c >= 0 && read(c, comm, sizeof comm - 1) > 0 &&
			!strncmp(comm, name, strlen(name)))
			return atoi(word);
	}
	return 0;
}

/* Waits until the process is in the state (proc(5), stat); signals arrive when they arrive. */
static bool wait_state(pid_t pid, char state)
{
	char path[64], text[512];

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	for (int i = 0; i < PATIENCE_MS; i++, usleep(1000)) {
		OWN_FD fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
		char *at;

		text[n > 0 ? n : 0] = '\0';
		at = strrchr(text, ')');
		if (at && at[1] == ' ' && at[2] == state)
			return true;
	}
	return false;
}

static pid_t pid1(struct service *s)
{
	pid_t p = child_named(s->keeper, "init");

	ok(p > 0, "pid 1 of the sandbox (%d)", p);
	return p > 0 ? p : 0x7fffffff;
}

/* A call that works in a live sandbox holds on to it in no way once it has gone. */
static void guest_of_the_dead(struct service *s, const char *id)
{
	struct session_info info;
	struct session_call *c;
	struct run_view v;
	struct err e = {0};

	start_run(s, id, "sleep 1000", -1, &v);
	c = ops->open(s->b, id, -1, &info, &e);
	ok(c != NULL, "a call beside a run");
	kill(pid1(s), SIGKILL);
	ok(finish(s, &v).verdict == VERDICT_INTERRUPTED, "pid 1 is killed: interrupted");
	LIVE->close(&v);
	ops->close(c);
	works(s, id, "the call ends after its sandbox");
}

static void fill(struct keeper_request *rq, const char *id)
{
	*rq = (struct keeper_request){.magic = KEEPER_MAGIC,
		.op = KEEPER_RUN,
		.about_bytes = 8,
		.flags = PROTO_SHELL,
		.nargs = 1,
		.blob_bytes = 10,
		.timeout_ms = 1000};
	snprintf(rq->id, sizeof rq->id, "%s", id);
}

/* KEEPER_RUN of "true" by hand. */
static bool ask_run(int sock, const char *id, int about)
{
	struct keeper_request rq;
	OWN_FD blob = memfd_create("blob", MFD_CLOEXEC);
	int fds[2] = {blob, about};

	fill(&rq, id);
	return write(blob, "/tmp\0true", 10) == 10 &&
	       fdmsg_send(sock, &rq, sizeof rq, fds, 2, 0) == 0;
}

static int memory(void)
{
	int fd = memfd_create("about", MFD_CLOEXEC);

	return write(fd, "{     }\n", 8) == 8 ? fd : -1;
}

/* 1: with a result, 0: with an error, -1: hung up. */
static int answered(int sock)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	struct keeper_reply rp;
	int fds[3] = {-1, -1, -1}, got;
	unsigned n;

	if (poll(&p, 1, PATIENCE_MS) <= 0)
		return -2;
	got = fdmsg_receive(sock, &rp, sizeof rp, fds, 3, &n, 0);
	for (int i = 0; i < 3; i++)
		own_close(&fds[i]);
	return got != 1 ? -1 : rp.err.kind == ERR_NONE;
}

/*
 * Who waits for the end of one sandbox starts the next; that this fails is the end of another one in the
 * middle of the first's.
 */
static void start_fails(struct service *s, const char *id)
{
	struct rlimit none = {0, 0}, old;
	struct err e = {0};
	OWN_FD sock = keeper_connect(s->conf.state_dir, &e), about = memory();
	struct run_view v;
	pid_t init;

	start_run(s, id, "sleep 1000", -1, &v);
	init = pid1(s);
	ok(ops->health(s->b, &e) == 0, "the connection is accepted");
	prlimit(s->keeper, RLIMIT_NPROC, NULL, &old);
	none.rlim_max = old.rlim_max;
	kill(s->keeper, SIGSTOP);
	ok(wait_state(s->keeper, 'T'), "the keeper is stopped");
	kill(init, SIGKILL);
	/* both are for the keeper's next round, in this order */
	ok(wait_state(init, 'Z'), "pid 1 has ended");
	ok(ask_run(sock, id, about) && prlimit(s->keeper, RLIMIT_NPROC, &none, NULL) == 0,
		"a run is asked for, and no process can be made");
	kill(s->keeper, SIGCONT);
	ok(answered(sock) == 0, "it fails");
	LIVE->close(&v);
	prlimit(s->keeper, RLIMIT_NPROC, &old, NULL);
	works(s, id, "a sandbox that cannot be started");
}

/* The keeper waits for nobody. */
static void stopped(struct service *s, const char *id)
{
	struct run_view v, again;
	struct err e = {0};
	unsigned refused = 0;
	int64_t until;
	int got = -1;
	pid_t init;

	start_run(s, id, "sleep 1000", -1, &v);
	init = pid1(s);
	kill(init, SIGSTOP);
	alarm(300);
	for (int i = 0; i < 1000; i++)
		if (LIVE->open(s->b, id, v.id, false, &again, &e) == 0)
			LIVE->close(&again);
		else
			refused += e.kind == ERR_BUSY;
	ok(refused > 0, "pid 1 answers nothing: %u of 1000 are refused", refused);
	ok(ops->health(s->b, &e) == 0, "others are answered");
	kill(init, SIGCONT);
	alarm(800);
	until = clock_ms() + PATIENCE_MS;
	while ((got = LIVE->open(s->b, id, v.id, false, &again, &e)) < 0 && clock_ms() < until)
		usleep(10000); /* it reads what is in its socket */
	ok(got == 0, "it goes on");
	ok(LIVE->signal(&again, SIGTERM, &e) == 0 && finish(s, &again).verdict == VERDICT_KILLED,
		"and so did the run");
	LIVE->close(&again);
	LIVE->close(&v);
}

static void directories(struct service *s, const char *id)
{
	OWN_FD dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
	       file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct run_view v;
	char command[200];

	snprintf(command, sizeof command, "ls /proc/self/fd/0%s/keeper.lock", s->conf.state_dir);
	if (ok(!start_run(s, id, command, dir, &v) && errno == EISDIR,
		    "standard input that is a directory is refused") == 0) {
		printf("# verdict %u\n", finish(s, &v).verdict);
		LIVE->close(&v);
	}
	if (ok(start_run(s, id, "cat", file, &v), "a file is not")) {
		ok(finish(s, &v).verdict == VERDICT_OK, "and is read");
		LIVE->close(&v);
	}
}

/* A command that cannot be executed leaves pid 1's memory before the next one begins. */
static void failures_beside(struct service *s, const char *id)
{
	enum { WORKERS = 4, RUNS = 300 };
	static const char *const none[] = {"/nonexistent", NULL};
	int bad = 0, status;

	for (int w = 0; w < WORKERS; w++) {
		if (fork() > 0)
			continue;
		for (int i = 0; i < RUNS; i++) {
			struct run_spec r = {.argv = none,
				.timeout_ms = PATIENCE_MS,
				.stdin_fd = -1,
				.about = "{}",
				.about_bytes = 2};
			struct run_view v;
			struct err e = {0};
			struct result res;

			r.shell = (w + i) % 2 ? "echo hi" : NULL;
			if (LIVE->start(s->b, id, &r, &v, &e) < 0)
				_exit(1);
			res = finish(s, &v);
			LIVE->close(&v);
			if (res.exit_code != (r.shell ? 0 : 127) ||
				(r.shell && res.output_bytes != 3))
				_exit(1);
		}
		_exit(0);
	}
	for (int w = 0; w < WORKERS; w++)
		bad += wait(&status) < 0 || status != 0;
	ok(bad == 0, "commands that are executed, and others that cannot be, at the same time (%d)",
		bad);
}

int main(void)
{
	static const char *const keys[][2] = {{"sandbox_idle_s", "60"}, {"prepared_max", "0"},
		{"session_disk_max_bytes", "0"}, {"session_disk_max_inodes", "0"}, {NULL, NULL}};
	char id[SESSION_ID_LEN + 1];
	struct service s;

	if (!open_service_keys(&s, keys))
		return 1;
	made(&s, id);
	alarm(800);
	directories(&s, id);
	guest_of_the_dead(&s, id);
	start_fails(&s, id);
	failures_beside(&s, id);
	stopped(&s, id);
	close_service(&s);
	return done();
}

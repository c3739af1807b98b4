/* Live sessions and runs, with real sandboxes: what outlives what. */
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "fcgi/backend_live.h"
#include "tests/unit/keeper.h"

#define LIVE (ops->live)

/* A time limit that is to be met by what does not end; what comes before that is done in it. */
enum { SHORT_MS = 3000 };
#define LONG_IDLE_S "3600"

static struct session_made made(struct service *s, bool keep)
{
	struct session_spec spec = {.image = "host", .live = keep};
	struct session_made out = {0};
	struct err e = {0};

	if (ops->create(s->b, &spec, &out, &e) < 0)
		printf("# create: %s\n", e.msg);
	return out;
}

static struct run_spec shell(const char *command)
{
	return (struct run_spec){.shell = command,
		.timeout_ms = PATIENCE_MS,
		.stdin_fd = -1,
		.about = "{}",
		.about_bytes = 2};
}

static bool start_run(struct service *s, const char *id, const char *command, struct run_view *v)
{
	struct run_spec r = shell(command);
	struct err e = {0};

	if (LIVE->start(s->b, id, &r, v, &e) == 0)
		return true;
	printf("# start: %s (%d)\n", e.msg, e.errnum);
	return false;
}

/* Waits for the end; the kept output of one stream (or -1: all) goes to out. */
static struct result finish(struct service *s, struct run_view *v, int only, char *out, size_t size)
{
	struct result r = {.verdict = VERDICT_MAX};
	struct err e = {0}, why = {0};
	uint64_t at = 0, first = 0;
	enum spool_stream stream;
	size_t len = 0;
	char part[512];
	ssize_t n;

	while (!spool_result(&v->spool, &r, &why)) {
		struct spool_state st;

		spool_look(&v->spool, &st);
		if (LIVE->wait(s->b, v, st.written, 2 * PATIENCE_MS, -1, &e) <= 0) {
			printf("# wait: %s\n", e.msg);
			break;
		}
	}
	while ((n = spool_read(&v->spool, at, part, sizeof part, &stream, &first)) > 0) {
		at += (uint64_t)n;
		if ((only < 0 || (int)stream == only) && len + (size_t)n < size) {
			memcpy(out + len, part, (size_t)n);
			len += (size_t)n;
		}
	}
	if (size)
		out[len] = '\0';
	return r;
}

static void streams(struct service *s, const char *id)
{
	struct run_view v;
	struct result r;
	char out[4096];

	if (!ok(start_run(s, id, "echo one; echo two >&2; exit 3", &v), "a run begins"))
		return;
	r = finish(s, &v, SPOOL_STDOUT, out, sizeof out);
	ok(r.verdict == VERDICT_EXIT && r.exit_code == 3, "its verdict is recorded (%u, %d)",
		r.verdict, r.exit_code);
	is_str(out, "one\n", "standard output");
	finish(s, &v, SPOOL_STDERR, out, sizeof out);
	is_str(out, "two\n", "standard error");
	LIVE->close(&v);
}

static void stays(struct service *s, const char *id)
{
	struct run_view v;
	char out[256];

	start_run(s, id, "sleep 100 & echo $! > /tmp/pid; disown -a; sync /tmp/pid", &v);
	finish(s, &v, -1, out, 0);
	LIVE->close(&v);
	start_run(s, id, "kill -0 $(cat /tmp/pid) && echo lives; kill $(cat /tmp/pid)", &v);
	finish(s, &v, -1, out, sizeof out);
	is_str(out, "lives\n", "a process that was left behind is there for the next run");
	LIVE->close(&v);
}

/* Each waits for all the others: one after the other they would never end. */
static void together(struct service *s, const char *id)
{
	struct run_view v[8];
	struct result r;
	char out[256];
	unsigned good = 0;

	for (int i = 0; i < 8; i++)
		start_run(s, id,
			"mkdir -p /tmp/all; : >/tmp/all/$$; "
			"until [ $(ls /tmp/all | wc -l) = 8 ]; do sleep 0.05; done; echo done",
			&v[i]);
	for (int i = 0; i < 8; i++) {
		r = finish(s, &v[i], -1, out, sizeof out);
		good += r.verdict == VERDICT_OK && !strcmp(out, "done\n");
		LIVE->close(&v[i]);
	}
	ok(good == 8, "eight at once end as they should, not one after the other (%u)", good);
}

/* A time limit ends its own run, with what it left, and no other. */
static void limits(struct service *s, const char *id)
{
	struct run_spec spec = shell(
		"(sleep 100; echo bad) & setsid sleep 101 & echo begun; sleep 102");
	struct run_view v, other;
	struct err e = {0};
	struct result r;
	char out[256];

	start_run(s, id, "until [ -e /tmp/over ]; do sleep 0.05; done; echo survived", &other);
	spec.timeout_ms = SHORT_MS;
	ok(LIVE->start(s->b, id, &spec, &v, &e) == 0, "a run with a short time");
	r = finish(s, &v, -1, out, sizeof out);
	ok(r.verdict == VERDICT_TIMEOUT && r.exit_code == 124, "verdict timeout");
	is_str(out, "begun\n", "with what it had written");
	LIVE->close(&v);
	start_run(s, id, ": >/tmp/over", &v);
	finish(s, &v, -1, out, 0);
	LIVE->close(&v);
	r = finish(s, &other, -1, out, sizeof out);
	ok(r.verdict == VERDICT_OK && !strcmp(out, "survived\n"), "the other lives on (%u)",
		r.verdict);
	LIVE->close(&other);
	start_run(s, id, "grep -sl -e ^sleep.10[0-2] /proc/[0-9]*/cmdline; true", &v);
	finish(s, &v, -1, out, sizeof out);
	is_str(out, "", "nothing of the first is left");
	LIVE->close(&v);
}

static void input(struct service *s, const char *id)
{
	struct run_spec spec = shell("cat; echo end");
	struct run_view v;
	struct err e = {0};
	char out[256];
	char run_id[RUN_ID_LEN + 1];
	int fd;

	spec.flags = RUN_INPUT | RUN_MERGE;
	ok(LIVE->start(s->b, id, &spec, &v, &e) == 0, "a run whose input stays open");
	fd = LIVE->input(&v, &e);
	ok(fd >= 0 && write(fd, "hello\n", 6) == 6, "its input can be written to");
	ok(LIVE->wait(s->b, &v, 0, PATIENCE_MS, -1, &e) == 1, "what it answers arrives");
	own_close(&fd);
	LIVE->close(&v);
	memcpy(run_id, v.id, sizeof run_id);
	ok(LIVE->open(s->b, id, run_id, FOLLOW_NOT, &v, &e) == 0, "another request opens it");
	ok(LIVE->input_end(&v, &e) == 0, "and ends its input");
	finish(s, &v, SPOOL_OUTPUT, out, sizeof out);
	is_str(out, "hello\nend\n", "the command saw the end");
	ok(LIVE->input(&v, &e) < 0 && e.kind == ERR_NOTFOUND,
		"a run that has ended takes no input");
	LIVE->close(&v);
}

static void terminal(struct service *s, const char *id)
{
	struct run_spec spec = shell("tty >/dev/null && stty size; read x; echo got $x");
	struct run_view v;
	struct result r;
	struct err e = {0};
	char out[512];
	int fd;

	spec.flags = RUN_TTY;
	spec.rows = 33;
	spec.cols = 77;
	ok(LIVE->start(s->b, id, &spec, &v, &e) == 0, "a run on a terminal");
	fd = LIVE->input(&v, &e);
	ok(fd >= 0 && write(fd, "abc\n", 4) == 4, "one can type");
	own_close(&fd);
	r = finish(s, &v, -1, out, sizeof out);
	ok(r.verdict == VERDICT_OK && strstr(out, "33 77") && strstr(out, "got abc\r\n"),
		"it has the size, and what was typed: %s", strstr(out, "got") ? "yes" : out);
	LIVE->close(&v);
}

static void signals(struct service *s, const char *id)
{
	struct run_view v;
	struct result r;
	struct err e = {0};
	char out[256];

	start_run(s, id,
		"trap 'echo caught; exit 5' USR1; echo ready; while :; do read -t 0.1 x < <(sleep "
		"1); done",
		&v);
	LIVE->wait(s->b, &v, 0, PATIENCE_MS, -1, &e);
	ok(LIVE->signal(&v, SIGUSR1, &e) == 0, "a signal is sent");
	r = finish(s, &v, -1, out, sizeof out);
	ok(r.exit_code == 5 && strstr(out, "caught"), "and handled (%d)", r.exit_code);
	LIVE->close(&v);
	start_run(s, id, "echo ready; sleep 1000", &v);
	LIVE->wait(s->b, &v, 0, PATIENCE_MS, -1, &e);
	LIVE->signal(&v, SIGKILL, &e);
	r = finish(s, &v, -1, out, sizeof out);
	ok(r.verdict == VERDICT_KILLED && r.signal == SIGKILL, "one that kills: verdict killed");
	LIVE->close(&v);
}

static void failures(struct service *s, const char *id)
{
	const char *argv[] = {"no-such-program", NULL};
	struct run_spec spec = shell(NULL);
	struct run_view v;
	struct result r;
	struct err e = {0};
	char out[256];

	spec.argv = argv;
	ok(LIVE->start(s->b, id, &spec, &v, &e) == 0, "a program that is not there is a verdict");
	r = finish(s, &v, SPOOL_STDERR, out, sizeof out);
	ok(r.verdict == VERDICT_EXIT && r.exit_code == 127 && strstr(out, "no-such-program"),
		"127: %s", out);
	LIVE->close(&v);
	spec = shell("true");
	spec.workdir = "/no/such";
	ok(LIVE->start(s->b, id, &spec, &v, &e) < 0 && e.kind == ERR_REQUEST,
		"a directory that is not there is the client's error");
	ok(LIVE->start(s->b, "00000000-0000-4000-8000-000000000000", &spec, &v, &e) < 0 &&
			e.kind == ERR_NOTFOUND,
		"no such session");
	ok(LIVE->open(s->b, id, "000000000000000000000000", FOLLOW_NOT, &v, &e) < 0 &&
			e.kind == ERR_NOTFOUND,
		"no such run");
}

/* The pid of a process of this machine whose parent is `parent` and whose name is `name`. */
static pid_t child_named(pid_t parent, const char *name)
{
	OWN_DIR h = opendir("/proc");
	struct dirent *d;

	while (h && (d = readdir(h))) {
		char path[300], text[300] = "", *at;
		int pid = atoi(d->d_name);
		OWN_FD fd = -1;

		snprintf(path, sizeof path, "/proc/%s/stat", d->d_name);
		fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || !(at = strrchr(text, ')')))
			continue;
		*at = '\0';
		if (!strcmp(strchr(text, '(') + 1, name) && atoi(at + 4) == parent)
			return pid;
	}
	return 0;
}

static unsigned states(struct service *s, const char *id, struct session_status *st)
{
	struct err e;

	return LIVE->status(s->b, id, st, &e) == 0 ? st->runs : 999;
}

static void interrupted(struct service *s)
{
	struct session_made m = made(s, true);
	struct session_status st;
	struct run_view v, again;
	struct result r;
	struct err e = {0};
	char out[256];
	pid_t init;

	start_run(s, m.id, "echo before; sleep 1000", &v);
	LIVE->wait(s->b, &v, 0, PATIENCE_MS, -1, &e);
	ok(states(s, m.id, &st) == 1 && !strcmp(st.state, "running") && st.live,
		"one is in progress");
	init = child_named(s->keeper, "init");
	ok(init > 0 && kill(init, SIGKILL) == 0, "pid 1 of its sandbox is killed");
	r = finish(s, &v, -1, out, sizeof out);
	ok(r.verdict == VERDICT_INTERRUPTED, "who follows it learns: interrupted (%u)", r.verdict);
	is_str(out, "before\n", "what it wrote is kept");
	ok(LIVE->open(s->b, m.id, v.id, false, &again, &e) == 0 &&
			finish(s, &again, -1, out, sizeof out).verdict == VERDICT_INTERRUPTED,
		"and so does who asks later");
	LIVE->close(&again);
	LIVE->close(&v);
	start_run(s, m.id, "echo new", &v);
	ok(finish(s, &v, -1, out, sizeof out).verdict == VERDICT_OK,
		"the next run has a new sandbox");
	LIVE->close(&v);

	start_run(s, m.id, "echo before; sleep 1000", &v);
	LIVE->wait(s->b, &v, 0, PATIENCE_MS, -1, &e);
	kill(s->keeper, SIGKILL);
	waitpid(s->keeper, NULL, 0);
	ok(LIVE->wait(s->b, &v, 7, PATIENCE_MS, -1, &e) < 0,
		"without a keeper nobody knows, and nothing is made up");
	LIVE->close(&v);
	start(s);
	ok(LIVE->open(s->b, m.id, v.id, false, &again, &e) == 0 &&
			finish(s, &again, -1, out, sizeof out).verdict == VERDICT_INTERRUPTED,
		"the next keeper says interrupted");
	is_str(out, "before\n", "and still has the output");
	LIVE->close(&again);
	ops->destroy(s->b, m.id, &e);
}

static void count(void *arg, const struct run_listed *r)
{
	(void)r;
	++*(unsigned *)arg;
}

static void stops(struct service *s)
{
	struct session_made m;
	struct session_status st;
	struct run_view v, dead;
	struct result r;
	struct err e = {0};
	char out[256];
	unsigned n = 0;

	/* the others' sandboxes are to last from one run to the next, however late that comes */
	ok(restart_with(s, "sandbox_idle_s", "1"), "a keeper that soon stops what idles");
	m = made(s, true);
	start_run(s, m.id, "echo kept > /repo/f; echo x; sleep 1000", &v);
	LIVE->wait(s->b, &v, 0, PATIENCE_MS, -1, &e);
	ok(LIVE->stop(s->b, m.id, &e) == 0, "stop");
	r = finish(s, &v, -1, out, sizeof out);
	ok(r.verdict == VERDICT_KILLED && r.wall_us > 0,
		"its run was killed, which pid 1 recorded");
	LIVE->close(&v);
	states(s, m.id, &st);
	is_str(st.state, "stopped", "the session is stopped");
	start_run(s, m.id, "cat /repo/f; sleep 0.1", &v);
	finish(s, &v, -1, out, sizeof out);
	is_str(out, "kept\n", "and comes back from disk");
	LIVE->close(&v);
	for (int i = 0;
		i < PATIENCE_MS / 100 && (states(s, m.id, &st), strcmp(st.state, "stopped")); i++)
		poll(NULL, 0, 100);
	is_str(st.state, "stopped", "one that idles is stopped");
	LIVE->runs(s->b, m.id, count, &n, &e);
	ok(n == 2, "its runs are listed (%u)", n);
	start_run(s, m.id, "sleep 1000", &dead);
	ok(LIVE->forget(s->b, m.id, dead.id, &e) == 0, "a run in progress is forgotten");
	finish(s, &dead, -1, out, sizeof out);
	LIVE->close(&dead);
	ok(LIVE->open(s->b, m.id, dead.id, FOLLOW_NOT, &v, &e) < 0 && e.kind == ERR_NOTFOUND,
		"and is not there any more");
	for (int i = 0; i < PATIENCE_MS / 50 && states(s, m.id, &st) != 0; i++)
		poll(NULL, 0, 50);
	ok(st.runs == 0, "its processes have ended");
	ok(ops->destroy(s->b, m.id, &e) == 0 && LIVE->status(s->b, m.id, &st, &e) < 0,
		"delete ends a live session");
	ok(restart_with(s, "sandbox_idle_s", LONG_IDLE_S), "the usual keeper");
}

/* A session that was not made live has a sandbox as long as a run is in progress. */
static void by_runs(struct service *s)
{
	struct session_made m = made(s, false);
	struct session_status st = {.state = ""};
	struct run_view v;
	struct run_spec spec = shell("read x; echo $x");
	struct err e = {0};
	char out[64];
	int fd;

	spec.flags = RUN_INPUT;
	ok(LIVE->start(s->b, m.id, &spec, &v, &e) == 0, "a run that waits for a line");
	ok(states(s, m.id, &st) == 1 && !st.live, "a session not made live runs something");
	fd = LIVE->input(&v, &e);
	ok(fd >= 0 && write(fd, "x\n", 2) == 2, "it gets one");
	own_close(&fd);
	finish(s, &v, -1, out, sizeof out);
	for (int i = 0; i < PATIENCE_MS / 20 && (states(s, m.id, &st), strcmp(st.state, "stopped"));
		i++)
		poll(NULL, 0, 20);
	is_str(st.state, "stopped", "and is stopped with its last run");
	is_str(out, "x\n", "whose output is there");
	LIVE->close(&v);
	ops->destroy(s->b, m.id, &e);
}

/* A call of the other API in a session with a live sandbox. */
static void guests(struct service *s, const char *id)
{
	OWN_FD fd = memfd_create("output", MFD_CLOEXEC);
	struct command_spec spec = {.command = "cat /proc/$(cat /tmp/pid)/comm; sleep 1000",
		.timeout_ms = SHORT_MS,
		.output_max_bytes = 1000,
		.output_fd = fd};
	struct session_info info;
	struct session_call *c;
	struct run_view v, other;
	struct result r = {0};
	struct err e = {0};
	char out[64] = "";

	start_run(s, id,
		"echo $$ > /tmp/pid; echo x; until [ -e /tmp/end ]; do sleep 0.05; done; echo y",
		&v);
	LIVE->wait(s->b, &v, 0, PATIENCE_MS, -1, &e);
	c = ops->open(s->b, id, -1, &info, &e);
	ok(c && ops->exec(c, &spec, &r, &e) == 0 && r.verdict == VERDICT_TIMEOUT,
		"a command of a call runs beside it, until its time is over");
	ops->close(c);
	ok(pread(fd, out, sizeof out - 1, 0) > 0 && !strcmp(out, "bash\n"), "and sees it: %s", out);
	start_run(s, id, ": >/tmp/end", &other);
	finish(s, &other, -1, out, 0);
	LIVE->close(&other);
	ok(finish(s, &v, -1, out, sizeof out).verdict == VERDICT_OK && !strcmp(out, "x\ny\n"),
		"the run lives on");
	LIVE->close(&v);
}

/* The watchdog's verdict, which ends all that runs, and not the sandbox. */
static void memory(struct service *s)
{
	struct session_spec spec = {.image = "host", .live = true, .memory_bytes = 64 << 20};
	struct session_made m = {0};
	struct run_view v;
	struct result r;
	struct err e = {0};
	char out[64];

	ops->create(s->b, &spec, &m, &e);
	start_run(s, m.id, "head -c 500000000 /dev/zero | tail -c 400000000 | sleep 1000", &v);
	r = finish(s, &v, -1, out, sizeof out);
	ok(r.verdict == VERDICT_MEMORY, "too much memory: the verdict is recorded (%u)", r.verdict);
	LIVE->close(&v);
	start_run(s, m.id, "echo next", &v);
	ok(finish(s, &v, -1, out, sizeof out).verdict == VERDICT_OK && !strcmp(out, "next\n"),
		"the next run runs");
	LIVE->close(&v);
	ops->destroy(s->b, m.id, &e);
}

/* More runs than are kept. */
static void pruned(struct service *s)
{
	struct session_made m = made(s, true);
	struct run_view v;
	struct err e = {0};
	char first[RUN_ID_LEN + 1] = "", out[8];
	unsigned n = 0;

	for (int i = 0; i < 6; i++) { /* runs_kept_max is 4 */
		start_run(s, m.id, "echo x", &v);
		if (i == 0)
			memcpy(first, v.id, sizeof first);
		finish(s, &v, -1, out, sizeof out);
		LIVE->close(&v);
	}
	LIVE->runs(s->b, m.id, count, &n, &e);
	ok(n == 4, "as many runs as may be are kept (%u)", n);
	ok(LIVE->open(s->b, m.id, first, FOLLOW_NOT, &v, &e) < 0 && e.kind == ERR_NOTFOUND,
		"the oldest has gone");
	ops->destroy(s->b, m.id, &e);
}

/* streams_max is 3; workers_max is 6: three may wait. */
static void followers(struct service *s, const char *id, enum run_follow how)
{
	enum run_follow other = how == FOLLOW_WAIT ? FOLLOW_STREAM : FOLLOW_WAIT;
	const char *name = how == FOLLOW_WAIT ? "waiting" : "streaming";
	struct run_view run, v[4];
	struct err e = {0};
	char out[8];

	start_run(s, id, "echo x", &run);
	finish(s, &run, -1, out, sizeof out);
	for (int i = 0; i < 3; i++)
		ok(LIVE->open(s->b, id, run.id, how, &v[i], &e) == 0, "%s %d", name, i + 1);
	ok(LIVE->open(s->b, id, run.id, how, &v[3], &e) < 0 && e.kind == ERR_BUSY,
		"%s: one more is refused", name);
	ok(LIVE->open(s->b, id, run.id, other, &v[3], &e) == 0, "the other is not");
	LIVE->close(&v[3]);
	ok(LIVE->open(s->b, id, run.id, FOLLOW_NOT, &v[3], &e) == 0, "a look at it is not");
	LIVE->close(&v[3]);
	LIVE->close(&v[0]);
	for (int i = 0; i < PATIENCE_MS / 20 && LIVE->open(s->b, id, run.id, how, &v[0], &e) < 0;
		i++)
		poll(NULL, 0, 20);
	ok(v[0].keeper >= 0, "one that ends makes room");
	for (int i = 0; i < 3; i++)
		LIVE->close(&v[i]);
	LIVE->close(&run);
}

static void spools(struct service *s, const char *id)
{
	struct run_view v;
	struct result r;
	uint64_t first = 0;
	enum spool_stream stream;
	char c;

	/* run_spool_max_bytes is 65536 */
	start_run(s, id, "head -c 300000 /dev/zero | tr '\\0' x; echo -n last", &v);
	r = finish(s, &v, -1, &c, 0);
	ok(r.verdict == VERDICT_OK && r.output_bytes == 300004 && r.output_kept == 65536 &&
			r.truncated,
		"more output than is kept does not block (%llu of %llu)",
		(unsigned long long)r.output_kept, (unsigned long long)r.output_bytes);
	ok(spool_read(&v.spool, 0, &c, 1, &stream, &first) < 0 && errno == ERANGE &&
			first == 300004 - 65536,
		"the beginning has expired");
	LIVE->close(&v);
}

int main(void)
{
	static const char *const keys[][2] = {{"sandbox_idle_s", LONG_IDLE_S},
		{"run_spool_max_bytes", "65536"}, {"workers_max", "6"}, {"streams_max", "3"},
		{"runs_kept_max", "4"}, {NULL, NULL}};
	struct session_made m;
	struct service s;
	struct err e;

	if (!open_service_keys(&s, keys))
		return 1;
	m = made(&s, true);
	streams(&s, m.id);
	stays(&s, m.id);
	together(&s, m.id);
	limits(&s, m.id);
	input(&s, m.id);
	terminal(&s, m.id);
	signals(&s, m.id);
	failures(&s, m.id);
	guests(&s, m.id);
	spools(&s, m.id);
	followers(&s, m.id, FOLLOW_STREAM);
	followers(&s, m.id, FOLLOW_WAIT);
	ops->destroy(s.b, m.id, &e);
	stops(&s);
	by_runs(&s);
	pruned(&s);
	memory(&s);
	interrupted(&s);
	close_service(&s);
	return done();
}

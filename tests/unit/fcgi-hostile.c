/*
 * Tenants that fight pid 1, and what they leave for the next call, through the real keeper. Every
 * attack is one command of the shell; the call after it must work or say why it cannot.
 */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "fcgi/backend_live.h"
#include "fcgi/keeper_proto.h"
#include "fcgi/receipt_log.h"
#include "isolate/fdmsg.h"
#include "tests/unit/keeper.h"

/* What the commands here must stay below lasts for 100 s and more, or for ever. */
enum { HANG_S = 90 };

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Whether a command answers as it should beside what the attack left running. */
static bool alive(struct session_call *c)
{
	char out[100];
	struct result r;

	return run(c, "echo alive", PATIENCE_MS, &r, out, sizeof out) == 0 &&
	       r.verdict == VERDICT_OK && !strcmp(out, "alive\n");
}

/* Whether a command cannot be started, and whose fault that is. */
static bool run_fails(struct session_call *c, int kind)
{
	OWN_FD fd = memfd_create("out", MFD_CLOEXEC);
	struct command_spec spec = {.command = "true",
		.timeout_ms = PATIENCE_MS,
		.output_max_bytes = 10,
		.output_fd = fd};
	struct result r;
	struct err e = {0};

	return ops->exec(c, &spec, &r, &e) < 0 && e.kind == kind;
}

static struct session_call *fresh(struct service *s, char *id)
{
	struct session_spec spec = {0};
	struct session_info info;
	struct err e;

	return create(s, &spec, id) ? open_session(s, id, -1, &info, &e) : NULL;
}

/* SIGSTOP is the one signal that a process cannot block: not between clone and exec either. */
static void test_stopped_start(struct service *s)
{
	char id[SESSION_ID_LEN + 1] = "", out[100];
	struct session_call *c = fresh(s, id);
	double began = seconds();
	struct result r;

	ok(c && run(c, "for i in 1 2 3; do setsid sh -c 'while :; do kill -STOP -1; done' & done",
			PATIENCE_MS, &r, out, sizeof out) == 0,
		"three loops stop every process they can reach");
	for (int i = 0; c && i < 10; i++)
		if (run(c, "echo", 1000, &r, out, sizeof out) < 0 || r.verdict == VERDICT_TIMEOUT)
			break;
	ok(seconds() - began < HANG_S, "commands end by their timeout all the same");
	ops->close(c);
}

static void test_pid1_limits(struct service *s)
{
	static const char *const attacks[] = {"prlimit --nofile=0:0 --pid 1", "renice -n 19 -p 1",
		"renice -n 19 -g 1", "renice -n 19 -u $(id -u)", "chrt -i -p 0 1", "taskset -p 1 1",
		"ionice -c 3 -p 1", "ionice -c 3 -P 1"};
	char id[SESSION_ID_LEN + 1] = "", out[1000];
	struct session_call *c = fresh(s, id);
	struct result r;

	for (size_t i = 0; c && i < NELEM(attacks); i++)
		ok(run(c, attacks[i], PATIENCE_MS, &r, out, sizeof out) == 0 && r.exit_code == 1 &&
				strstr(out, "Operation not permitted"),
			"refused: %s", attacks[i]);
	ok(c &&
			run(c,
				"sleep 9 & for t in 'prlimit --nofile=9 --pid' 'renice -n 5 -p' "
				"'taskset -p 1'; "
				"do $t $! || exit; done; prlimit --nofile=99 true && nice true",
				PATIENCE_MS, &r, out, sizeof out) == 0 &&
			r.exit_code == 0,
		"control: on others it is not");
	ok(c && alive(c), "and pid 1 goes on");
	ops->close(c);
}

/* A signal that pid 1 waits for, sent without end, and children that it has to reap. */
static void test_busy_pid1(struct service *s)
{
	char id[SESSION_ID_LEN + 1] = "", out[100];
	struct session_call *c = fresh(s, id);
	double began = seconds();
	struct result r;

	ok(c &&
			run(c,
				"for i in 1 2 3 4; do setsid sh -c 'while :; do kill -CHLD 1; "
				"done' & done; "
				"for i in 1 2; do (while :; do (: & ); done) & done; sleep 100",
				500, &r, out, sizeof out) == 0 &&
			r.verdict == VERDICT_TIMEOUT,
		"a timeout while pid 1 is flooded with SIGCHLD and orphans");
	ok(seconds() - began < HANG_S, "is kept in time");
	ok(c && alive(c), "and leaves nothing that harms the next command");
	began = seconds();
	ok(c &&
			run(c,
				"(kill -STOP $BASHPID) & (trap '' TERM HUP; sleep 100) & kill "
				"-STOP $$",
				500, &r, out, sizeof out) == 0 &&
			r.verdict == VERDICT_TIMEOUT && seconds() - began < HANG_S,
		"a timeout of processes that are stopped");
	ops->close(c);
}

/* PLANT_MS: what was planted may hold up the shell itself, /etc/passwd as a FIFO say: that ends by its timeout. */
enum { PLANT_MAX = 512, PLANT_MS = 10000 };

/* What a root's upper layer or a workspace could be made to hold; %s: a directory of the host. */
static const char *const plants[] = {
	"rm -rf repo && ln -s %s repo",
	"rm -rf repo && mkfifo repo",
	"rm -rf repo && echo x > repo",
	"ln -s %s proc",
	"mkfifo proc",
	"ln -s /repo proc",
	"ln -s %s dev",
	"mkfifo dev",
	"ln -s ../../../../../../../.. dev",
	"ln -s dev dev",
	"ln -s /proc/self/root dev",
	"mkdir dev && ln -s %s/f dev/null && ln -s %s dev/pts",
	"ln -s %s usr",
	"mkfifo usr",
	"rm -rf tmp && ln -s %s tmp",
	"rm -rf tmp && mkfifo tmp",
	"rm -rf home && ln -s %s home",
	"rm -rf workdir && mkfifo workdir",
	"ln -s %s etc",
	"mkdir etc && mkfifo etc/passwd",
	"ln -s %s/f bin",
	"mkdir run && ln -s %s run/upper",
	"chmod 0 .",
	"chmod 0 tmp repo",
	"cd ../../ws/tree && ln -s %s .git && mkfifo .gitignore",
	"chmod 0 ../../ws/tree",
};

/* %s in plant becomes the canary. Never a shell's business: the directories have plain names. */
static bool plant(const struct service *s, const char *id, const char *how, const char *canary)
{
	char command[2 * PLANT_MAX];
	int n = snprintf(command, sizeof command, "cd %s/sessions/%s/root/upper && ", s->dir, id);

	for (; *how; how++) {
		if (how[0] == '%' && how[1] == 's') {
			n += snprintf(command + n, sizeof command - (size_t)n, "%s", canary);
			how++;
		} else {
			command[n++] = *how;
		}
	}
	command[n] = '\0';
	return system(command) == 0;
}

/* Whether the directory is as it was made: one file with its contents and modes, nothing else. */
static bool untouched(const char *canary)
{
	char command[PLANT_MAX];

	snprintf(command, sizeof command,
		"cd %s && [ \"$(ls -A)\" = f ] && [ \"$(cat f)\" = canary ] && "
		"[ \"$(stat -c %%a . f | xargs)\" = '700 600' ]",
		canary);
	return system(command) == 0;
}

/*
 * Names that the next start opens, as the worst tenant could leave them: it starts all the same or
 * says why not, nothing is opened outside the root, and the session can be deleted.
 */
static void test_planted_root(struct service *s)
{
	char canary[80], command[PLANT_MAX], path[200];
	unsigned started = 0;

	snprintf(canary, sizeof canary, "%s/canary", s->dir);
	snprintf(command, sizeof command, "umask 077; mkdir %s && echo canary > %s/f", canary,
		canary);
	ok(system(command) == 0 && untouched(canary), "a directory of the host");
	for (size_t i = 0; i < NELEM(plants); i++) {
		struct session_spec spec = {0};
		char id[SESSION_ID_LEN + 1] = "", out[1000] = "";
		struct session_info info;
		struct session_call *c;
		struct result r = {0};
		struct err e = {0};
		double began = seconds();
		int ran;

		if (!ok(create(s, &spec, id) && plant(s, id, plants[i], canary), "planted: %s",
			    plants[i]))
			continue;
		c = open_session(s, id, -1, &info, &e);
		ran = c ? run(c,
				  "echo mark > /repo/f; echo mark > /tmp/f; echo mark > /home/f; "
				  "cat /repo/f; cat /etc/shadow /dev/sda /f",
				  PLANT_MS, &r, out, sizeof out)
			: -1;
		started += ran == 0;
		ok(c || e.msg[0], "%s: starts, or says why not", ran == 0 ? "ran" : "refused");
		ok(!strstr(out, "canary") && untouched(canary),
			"nothing outside is read or changed");
		ops->close(c);
		ok(ops->destroy(s->b, id, &e) == 0 && seconds() - began < HANG_S,
			"and it is deleted");
		snprintf(path, sizeof path, "%s/trash/%s", s->dir, id);
		for (int n = 0; n < PATIENCE_MS / 10 && access(path, F_OK) == 0; n++)
			usleep(10000); /* the keeper does not tell when a removal is done */
		ok(access(path, F_OK) < 0, "altogether");
	}
	ok(started >= 11, "%u of %zu started", started, NELEM(plants));
	ok(untouched(canary), "the host's directory is as it was");
}

/* The same as a tenant would do it: mounts are in the way. */
static void test_own_root(struct service *s)
{
	char id[SESSION_ID_LEN + 1] = "", out[1000];
	struct session_call *c = fresh(s, id);
	struct session_info info;
	struct result r;
	struct err e;

	ok(c && run(c,
			"for d in /dev /proc /usr /repo; do mv $d /x && echo moved; rmdir $d && "
			"echo gone; "
			"done 2>/dev/null; rm -rf /tmp /home /etc /workdir; mkfifo /tmp /etc; "
			"ln -s / /home; ln -s /proc/1 /workdir; ls -d /tmp",
			PATIENCE_MS, &r, out, sizeof out) == 0,
		"a tenant takes its root apart");
	is_str(out, "/tmp\n", "but mount points cannot be replaced");
	ops->close(c);
	c = open_session(s, id, -1, &info, &e);
	ok(c && alive(c), "and its next call starts");
	ok(c && run(c, "mv /bin /b", PATIENCE_MS, &r, out, sizeof out) == 0,
		"it takes its shell away");
	ok(c && run(c, "true", PATIENCE_MS, &r, out, sizeof out) == 0 &&
			r.verdict == VERDICT_EXIT && r.exit_code == 127,
		"then no command is found, which is a verdict");
	is_str(out, "execute /bin/sh: No such file or directory\n", "and it says what is missing");
	ops->close(c);
	ok(ops->destroy(s->b, id, &e) == 0, "a session without a shell is deleted");
	c = fresh(s, id);
	ok(c && run(c, "chmod 0 /repo /", PATIENCE_MS, &r, out, sizeof out) == 0,
		"it closes its own root");
	ops->close(c);
	c = open_session(s, id, -1, &info, &e);
	ok(c && run_fails(c, ERR_REQUEST),
		"which the next command says, as the tenant's own doing");
	ops->close(c);
	ok(ops->destroy(s->b, id, &e) == 0, "and it is deleted");
}

/* Sends one message as a taken-over worker would; returns whether the keeper answered it. */
static bool keeper_says(int sock, const struct keeper_request *rq, size_t n, int fd)
{
	struct keeper_reply rp;
	unsigned nfds = 0;
	int got[2];
	bool answered = fdmsg_send(sock, rq, n, &fd, fd >= 0, 0) == 0 &&
			fdmsg_receive(sock, &rp, sizeof rp, got, 2, &nfds, 0) == 1;

	while (nfds > 0)
		close(got[--nfds]);
	return answered;
}

static void test_keeper_messages(struct service *s)
{
	static const char *const what[] = {"of no kind", "of an unknown kind", "without magic",
		"too short", "with a name that is a path", "with a name that does not end",
		"with an image that does not end", "with too large an environment",
		"that promises a descriptor", "with a descriptor too many",
		"for a patch of nothing", "with an environment that is a pipe",
		"with an environment that is too short"};
	struct keeper_request rq;
	struct err e;
	int p[2];

	if (!ok(pipe2(p, O_CLOEXEC) == 0, "a pipe"))
		return;
	for (unsigned i = 0; i < NELEM(what); i++) {
		OWN_FD sock = keeper_connect(s->conf.state_dir, &e),
		       mem = memfd_create("e", MFD_CLOEXEC);
		size_t n = i == 3 ? sizeof rq - 1 : sizeof rq;
		bool answer = i >= 11 || i == 10;
		int fd = i == 9 || i == 10 || i == 12 ? mem : i == 11 ? p[0] : -1;

		memset(&rq, 0, sizeof rq);
		rq.magic = i == 2 ? 0 : KEEPER_MAGIC;
		rq.op = i == 0 ? 0 : i == 1 ? KEEPER_OP_MAX : i < 4 ? KEEPER_HEALTH : KEEPER_OPEN;
		if (i == 4)
			strcpy(rq.id, "../../../../tmp");
		if (i == 5)
			memset(rq.id, 'a', sizeof rq.id);
		if (i >= 6)
			rq.op = i == 8    ? KEEPER_OPEN
				: i == 9  ? KEEPER_HEALTH
				: i == 10 ? KEEPER_PATCH
					  : KEEPER_CREATE;
		if (i == 8) {
			strcpy(rq.id, "01234567-89ab-4def-8123-456789abcdef");
			rq.has_archive = 1;
		}
		strcpy(rq.image, "host");
		if (i == 6)
			memset(rq.image, 'a', sizeof rq.image);
		rq.env_bytes = i == 7 ? ~0U : i >= 11 ? 4096 : 0;
		ok(keeper_says(sock, &rq, n, fd) == answer, "a message %s is %s", what[i],
			answer ? "answered" : "the connection's end");
	}
	close(p[0]);
	close(p[1]);
	ok(ops->health(s->b, &e) == 0, "and the keeper goes on");
}

/* What it asks for is an installer's session, of which it may say nothing. */
static void test_deps_message(struct service *s)
{
	static const char *const what[] = {"alone", "with an environment", "for a live session",
		"with negative memory", "with processors that are no number"};
	struct err e;

	for (unsigned i = 0; i < NELEM(what); i++) {
		OWN_FD sock = keeper_connect(s->conf.state_dir, &e),
		       mem = memfd_create("t", MFD_CLOEXEC);
		struct keeper_request rq = {.magic = KEEPER_MAGIC,
			.op = KEEPER_DEPS,
			.image = "host",
			.name = "python",
			.deps_bytes = 4,
			.env_bytes = i == 1 ? 1U << 30 : 0,
			.live = i == 2,
			.memory_bytes = i == 3 ? -1 : 0,
			.cpus = i == 4 ? NAN : 0};

		ok(ftruncate(mem, 1L << 30) == 0 &&
				keeper_says(sock, &rq, sizeof rq, mem) == (i == 0),
			"dependencies %s: %s", what[i], i ? "the connection's end" : "answered");
	}
}

/* Whoever holds a session cannot have its files removed from below its sandbox. */
static void test_destroy_while_open(struct service *s)
{
	char id[SESSION_ID_LEN + 1] = "";
	struct session_spec spec = {0};
	struct keeper_request rq = {.magic = KEEPER_MAGIC, .op = KEEPER_OPEN};
	OWN_FD sock = -1;
	struct err e;

	ok(create(s, &spec, id), "a session");
	sock = keeper_connect(s->conf.state_dir, &e);
	memcpy(rq.id, id, sizeof rq.id);
	ok(keeper_says(sock, &rq, sizeof rq, -1), "is opened");
	ok(ops->destroy(s->b, id, &e) < 0 && e.kind == ERR_BUSY, "others cannot destroy it");
	rq.op = KEEPER_DESTROY;
	ok(!keeper_says(sock, &rq, sizeof rq, -1), "nor its holder: that ends the connection");
	ok(ops->exists(s->b, id, &e) == 0, "it is still there");
	while (ops->destroy(s->b, id, &e) < 0 && e.kind == ERR_BUSY)
		; /* waits for the lock itself, a little */
	ok(ops->exists(s->b, id, &e) < 0 && e.kind == ERR_NOTFOUND, "and can be destroyed now");
}

/* A message of this kind about this session, with a file of so many bytes (-1: none). */
static bool says(int sock, uint32_t op, const char *id, uint32_t count, long bytes)
{
	OWN_FD mem = bytes < 0 ? -1 : memfd_create("m", MFD_CLOEXEC);
	struct keeper_request rq = {
		.magic = KEEPER_MAGIC, .op = op, .count = count, .name = "python", .image = "host"};

	snprintf(rq.id, sizeof rq.id, "%s", id);
	if (bytes >= 0 && ftruncate(mem, bytes) < 0)
		return false;
	return keeper_says(sock, &rq, sizeof rq, mem);
}

/* Sessions that are tied, and turns: each for who has it. */
static void test_held_messages(struct service *s)
{
	char id[SESSION_ID_LEN + 1] = "";
	struct session_spec spec = {.tied = true};
	struct session_made tied = {.tie = -1};
	OWN_FD sock = keeper_connect(s->conf.state_dir, &(struct err){0});
	struct err e = {0};

	ok(create(s, &(struct session_spec){0}, id), "a session");
	ok(!says(sock, KEEPER_KEEP, id, 0, -1), "it cannot be kept: it is tied to nobody");
	snprintf(spec.image, sizeof spec.image, "host");
	ok(ops->create(s->b, &spec, &tied, &e) == 0, "another, which is tied: %s", e.msg);
	ok(!says(tied.tie, KEEPER_KEEP, id, 0, -1), "keeps itself alone: else its connection ends");
	own_close(&tied.tie);
	for (int i = 0; i < PATIENCE_MS / 10 && ops->exists(s->b, tied.id, &e) == 0; i++)
		usleep(10000);
	ok(ops->exists(s->b, tied.id, &e) < 0, "and it goes with it");

	own_close(&sock);
	sock = keeper_connect(s->conf.state_dir, &e);
	ok(!says(sock, KEEPER_TURN, "../../../../tmp", 0, -1), "the turn of no session");
	own_close(&sock);
	sock = keeper_connect(s->conf.state_dir, &e);
	ok(says(sock, KEEPER_TURN, id, 0, -1), "a turn");
	ok(ops->live->turn(s->b, id, &e) < 0 && e.kind == ERR_BUSY && e.errnum == EWOULDBLOCK,
		"another waits for it in vain");
	ok(!says(sock, KEEPER_DESTROY, id, 0, -1), "who has it cannot do more with it");
	ok(ops->exists(s->b, id, &e) == 0, "than before");
	ops->destroy(s->b, id, &e);
}

/* Receipts are stored for who holds the session, when they may be true. */
static void test_receipts(struct service *s)
{
	static const struct {
		uint32_t count;
		long bytes;
	} bad[] = {{0, 1024}, {RECEIPTS_MAX + 1, 1 << 21}, {1, -1}};
	char id[SESSION_ID_LEN + 1] = "", path[4096];
	struct session_info info;
	struct session_call *c;
	struct receipt r = {.about_bytes = sizeof r.about + 1};
	OWN_FD mem = memfd_create("r", MFD_CLOEXEC);
	struct err e = {0};

	ok(create(s, &(struct session_spec){0}, id), "a session");
	for (size_t i = 0; i < NELEM(bad); i++) {
		OWN_FD sock = keeper_connect(s->conf.state_dir, &e);

		ok(!says(sock, KEEPER_RECEIPTS, id, bad[i].count, bad[i].bytes),
			"%u receipts in %ld bytes: the connection's end", bad[i].count,
			bad[i].bytes);
	}
	c = open_session(s, id, -1, &info, &e);
	ok(c && write(mem, &r, sizeof r) == sizeof r, "the session is open");
	ops->receipts(c, mem, 1);
	ops->receipts(c, mem, 2); /* of which one is not there */
	ops->close(c);
	snprintf(path, sizeof path, "%s/sessions/%s/receipts", s->conf.state_dir, id);
	ok(ops->health(s->b, &e) == 0 && access(path, F_OK) < 0,
		"what is out of range is not stored");
	ops->destroy(s->b, id, &e);
}

int main(void)
{
	struct service s;

	alarm(800); /* a hang is a failure */
	log_open("test", LOG_WARN);
	if (!open_service(&s))
		return ok(false, "set up: %s", strerror(errno)), done();
	test_stopped_start(&s);
	test_pid1_limits(&s);
	test_busy_pid1(&s);
	test_planted_root(&s);
	test_own_root(&s);
	test_keeper_messages(&s);
	test_deps_message(&s);
	ok(restart_with(&s, "session_lock_wait_ms", SHORT_LOCK_WAIT_MS), "a short wait");
	test_destroy_while_open(&s);
	test_held_messages(&s);
	test_receipts(&s);
	close_service(&s);
	return done();
}

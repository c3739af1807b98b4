/*
 * Dependencies with a real keeper: what an installer gets and leaves, sets given to sessions that are
 * there, forks, snapshots, a root in memory. The installer is a shell script: no index is needed.
 */
#include <dirent.h>

#include "fcgi/backend_live.h"
#include "fcgi/deps.h"
#include "fcgi/keeper_proto.h"
#include "isolate/fdmsg.h"
#include "tests/unit/keeper.h"

#define SHOW "cat /opt/cgibox/deps/python/list; echo $PYTHONPATH; echo ${PATH%%:*}"

/* A function, which gets the requirements; it writes them and its variables where the set is to be. */
static const char installer[] =
	"go() { case $1 in broken) echo no such thing; return 9;; late) sleep 1000;; esac; "
	"mkdir $DEPS_DIR/bin; env >$DEPS_DIR/env; printf 'echo hi' >$DEPS_DIR/bin/hi; "
	"chmod 755 $DEPS_DIR/bin/hi; for i; do echo $i; done >$DEPS_DIR/list; }; go";

static int install(struct service *s, const char *index, int64_t timeout_ms,
	struct deps_answer *out, struct err *e, const char *const *reqs)
{
	struct deps_set set = {.n = 0};
	struct deps_order o = {.image = "host",
		.language = "python",
		.index_url = index,
		.set = &set,
		.timeout_ms = timeout_ms};

	for (; *reqs; reqs++)
		if (deps_add(&set, "python", *reqs, strlen(*reqs)))
			ok(false, "%s", *reqs);
	*e = (struct err){0};
	return ops->deps->install(s->b, &o, out, e);
}
#define REQS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The output of one command in a session. */
static const char *told(struct service *s, const char *id, const char *command)
{
	static char out[2000];
	struct session_info info;
	struct result r = {0};
	struct err e = {0};
	struct session_call *c = open_session(s, id, -1, &info, &e);

	out[0] = '\0';
	if (c)
		run(c, command, PATIENCE_MS, &r, out, sizeof out);
	ops->close(c);
	return out;
}

static size_t entries(const struct service *s, const char *sub)
{
	char path[128];
	size_t n = 0;
	struct dirent *de;

	snprintf(path, sizeof path, "%s/%s", s->dir, sub);
	OWN_DIR d = opendir(path);
	while (d && (de = readdir(d)))
		n += de->d_name[0] != '.';
	return n;
}

static void test_install(struct service *s, char key[2][DEPS_KEY_LEN + 1])
{
	struct deps_answer a;
	struct session_spec spec = {.deps = key[0]};
	char id[SESSION_ID_LEN + 1];
	struct err e;

	ok(install(s, "http://127.0.0.1:9/x/", 0, &a, &e, REQS("b>1", "A")) == 0 && !a.failed &&
			!a.reused && deps_key_valid(a.key) && a.output_fd < 0,
		"installed");
	memcpy(key[0], a.key, sizeof key[0]);
	ok(install(s, "http://127.0.0.1:9/x/", 0, &a, &e, REQS("a", "b >1")) == 0 && a.reused &&
			!strcmp(a.key, key[0]),
		"it is there");
	ok(install(s, "", 0, &a, &e, REQS("a", "b >1")) == 0 && !a.reused &&
			strcmp(a.key, key[0]) != 0,
		"from another index it is another set");
	memcpy(key[1], a.key, sizeof key[1]);
	ok(entries(s, "deps") == 2 && entries(s, "layers") == 2 && entries(s, "sessions") == 0,
		"two sets, two layers, no session");
	if (!ok(create(s, &spec, id), "a session with it"))
		return;
	is_str(told(s, id, SHOW), "a\nb>1\n/opt/cgibox/deps/python\n/opt/cgibox/deps/python/bin\n",
		"sees the set, arguments sorted, and its variables");
	is_str(told(s, id, "hi; grep -c . /opt/cgibox/deps/python/list"), "hi\n2\n",
		"programs of it are found");
	is_str(told(s, id,
		       "grep -E '^(PIP_INDEX_URL|PIP_TRUSTED_HOST|npm_config_registry|DEPS_DIR)=' "
		       "/opt/cgibox/deps/python/env | sort"),
		"DEPS_DIR=/opt/cgibox/deps/python\nPIP_INDEX_URL=http://127.0.0.1:9/x/\n"
		"PIP_TRUSTED_HOST=127.0.0.1:9\nnpm_config_registry=http://127.0.0.1:9/x/\n",
		"what the installer was told");
	ops->destroy(s->b, id, &e);
	spec.deps = "0000000000000000000000000000000000000000000000000000000000000000";
	ok(ops->create(s->b, &spec, &(struct session_made){.id = ""}, &e) == -1 &&
			e.kind == ERR_NOTFOUND,
		"a set that is none");
}

static void test_failures(struct service *s)
{
	size_t deps = entries(s, "deps"), layers = entries(s, "layers");
	struct deps_set set = {.n = 1, .req = {"a'; id; '"}};
	struct deps_order o = {.image = "host", .language = "python", .index_url = "", .set = &set};
	struct deps_answer a;
	char text[64] = "";
	struct err e = {0};

	ok(install(s, "", 0, &a, &e, REQS("broken")) == 0 && a.failed && !a.timed_out &&
			a.exit_code == 9 && a.output_fd >= 0,
		"a failure of the installer is its verdict");
	ok(pread(a.output_fd, text, sizeof text - 1, 0) > 0, "with its output");
	is_str(text, "no such thing\n", "as it was");
	own_close(&a.output_fd);
	ok(install(s, "", 1000, &a, &e, REQS("late")) == 0 && a.failed && a.timed_out &&
			a.exit_code == 124,
		"one that takes too long");
	own_close(&a.output_fd);
	ok(ops->deps->install(s->b, &o, &a, &e) == -1 && e.kind == ERR_REQUEST,
		"the keeper does not believe a worker: %s", e.msg);
	o.language = "shell";
	ok(ops->deps->install(s->b, &o, &a, &e) == -1 && e.kind == ERR_REQUEST,
		"a language without an installer");
	o.language = "cobol";
	ok(ops->deps->install(s->b, &o, &a, &e) == -1 && e.kind == ERR_REQUEST, "or none at all");
	set.n = 0;
	o.language = "python";
	ok(ops->deps->install(s->b, &o, &a, &e) == -1 && e.kind == ERR_REQUEST, "an empty set");
	strcpy(set.req[0], "a");
	set.n = 1;
	o.image = "no-such-image-x";
	ok(ops->deps->install(s->b, &o, &a, &e) == -1 && e.kind == ERR_NOTFOUND, "no such image");
	ok(entries(s, "deps") == deps && entries(s, "layers") == layers &&
			entries(s, "sessions") == 0,
		"nothing is left of them");
}

static int fork_one(struct service *s, const char *id, char *child)
{
	struct workspace_order o = {.verb = WORKSPACE_FORK, .count = 1, .fd = -1};
	struct workspace_answer a;
	struct err e = {0};
	ssize_t n;

	if (ops->workspace(s->b, id, &o, &a, &e) < 0)
		return -1;
	n = pread(a.fd, child, SESSION_ID_LEN, 0);
	child[SESSION_ID_LEN] = '\0';
	close(a.fd);
	return n == SESSION_ID_LEN ? 0 : -1;
}

static void test_attach(struct service *s, char key[2][DEPS_KEY_LEN + 1])
{
	struct session_spec spec = {.env = "PYTHONPATH=/mine\0PATH=/bin", .env_bytes = 28};
	char id[SESSION_ID_LEN + 1], child[SESSION_ID_LEN + 1];
	struct err e = {0};

	spec.env_bytes = sizeof "PYTHONPATH=/mine\0PATH=/bin";
	if (!ok(create(s, &spec, id), "a session without"))
		return;
	is_str(told(s, id, "echo x >/tmp/x; ls /opt/cgibox 2>&1 | wc -l; echo $PYTHONPATH"),
		"1\n/mine\n", "it sees none");
	ok(fork_one(s, id, child) == 0, "a fork of it");
	ok(ops->deps->attach(s->b, id, key[0], &e) == 0, "a set is given to it: %s", e.msg);
	is_str(told(s, id, "cat /tmp/x; " SHOW),
		"x\na\nb>1\n/opt/cgibox/deps/python:/mine\n/opt/cgibox/deps/python/bin\n",
		"it sees the set, and its own variables and files are there still");
	is_str(told(s, child, "ls /opt/cgibox 2>&1 | wc -l; echo $PYTHONPATH"), "1\n/mine\n",
		"the fork does not");
	told(s, id, "rm /opt/cgibox/deps/python/bin/hi; echo mine >/opt/cgibox/deps/python/own");
	ok(ops->workspace(s->b, id,
		   &(struct workspace_order){.verb = WORKSPACE_SNAPSHOT, .mark = "then", .fd = -1},
		   &(struct workspace_answer){0}, &e) == 0,
		"a snapshot");
	ok(ops->deps->attach(s->b, id, key[1], &e) == 0, "another set takes its place");
	is_str(told(s, id,
		       "cd /opt/cgibox/deps/python; ls; grep -c PIP_INDEX env; echo $PYTHONPATH"),
		"bin\nenv\nlist\n0\n/opt/cgibox/deps/python:/mine\n",
		"nothing of the first shows through, and the variables are not longer");
	ok(ops->workspace(s->b, id,
		   &(struct workspace_order){.verb = WORKSPACE_RESTORE, .mark = "then", .fd = -1},
		   &(struct workspace_answer){0}, &e) == 0,
		"back to the snapshot");
	is_str(told(s, id, "cd /opt/cgibox/deps/python; ls . bin; grep -c PIP_INDEX env"),
		".:\nbin\nenv\nlist\nown\n\nbin:\n1\n", "the first set is as it was then");
	ok(ops->deps->attach(s->b, "00000000-0000-4000-8000-000000000000", key[0], &e) == -1 &&
			e.kind == ERR_NOTFOUND && e.errnum == ENOENT,
		"no such session");
	ok(ops->deps->attach(s->b, id,
		   "0000000000000000000000000000000000000000000000000000000000000000", &e) == -1 &&
			e.kind == ERR_NOTFOUND && e.errnum == 0,
		"no such set");
	ops->destroy(s->b, id, &e);
	ops->destroy(s->b, child, &e);
	ok(entries(s, "layers") == 2, "the sets' own layers are left");
}

/* A run in progress is not ended for it, an idle sandbox is. */
static void test_live(struct service *s, char key[2][DEPS_KEY_LEN + 1])
{
	struct session_spec spec = {.live = true};
	char id[SESSION_ID_LEN + 1];
	struct run_spec rs = {
		.shell = "sleep 1000", .timeout_ms = 1000000, .stdin_fd = -1, .about = ""};
	struct run_view v;
	struct err e = {0};

	if (!ok(create(s, &spec, id), "a live session"))
		return;
	told(s, id, "true");
	ok(ops->deps->attach(s->b, id, key[0], &e) == 0, "idle: its sandbox ends: %s", e.msg);
	is_str(told(s, id, SHOW), "a\nb>1\n/opt/cgibox/deps/python\n/opt/cgibox/deps/python/bin\n",
		"it sees the set");
	if (ok(ops->live->start(s->b, id, &rs, &v, &e) == 0, "a run")) {
		ok(ops->deps->attach(s->b, id, key[1], &e) == -1 && e.kind == ERR_BUSY &&
				e.errnum == EWOULDBLOCK,
			"is not disturbed");
		ops->live->forget(s->b, id, v.id, &e);
		ops->live->close(&v);
	}
	ops->destroy(s->b, id, &e);
}

static void test_in_memory(void)
{
	const char *const extra[][2] = {{"network", "host"}, {"session_root", "tmpfs"},
		{"language_python_install", installer}, {NULL, NULL}};
	struct session_spec spec = {.deps = NULL};
	char id[SESSION_ID_LEN + 1];
	struct deps_answer a;
	struct service s;
	struct err e;

	if (!ok(open_service_keys(&s, extra), "a keeper whose sessions' roots are in memory"))
		return;
	ok(install(&s, "", 0, &a, &e, REQS("a")) == 0 && !a.failed, "installed");
	spec.deps = a.key;
	if (ok(create(&s, &spec, id), "a session"))
		is_str(told(&s, id, "cat /opt/cgibox/deps/python/list"), "a\n", "sees it");
	close_service(&s);
}

/* What a worker that was taken over may say: 1 it is answered, 0 the connection ends. */
static int message(const struct service *s, struct keeper_request *rq, int nfds)
{
	OWN_FD fd = memfd_create("texts", MFD_CLOEXEC);
	struct keeper_reply rp;
	struct err e = {0};
	OWN_FD sock = keeper_connect(s->dir, &e);
	int got = -1;
	unsigned n = 0;
	ssize_t ret;

	rq->magic = KEEPER_MAGIC;
	strcpy(rq->image, "host");
	if (sock < 0 || fd < 0 || write(fd, "\0a", 3) != 3 ||
		fdmsg_send(sock, rq, sizeof *rq, &fd, (unsigned)nfds, 0) < 0)
		return -1;
	ret = fdmsg_receive(sock, &rp, sizeof rp, &got, 1, &n, 0);
	own_close(&got);
	return ret == 1;
}

static void test_messages(const struct service *s)
{
	static const char *const keys[] = {"../../images/refs/x", "x", "/etc/passwd"};
	const uint32_t verbs[] = {KEEPER_CREATE, KEEPER_CODE, KEEPER_DEPS_ATTACH};
	struct keeper_request rq;

	for (size_t i = 0; i < NELEM(verbs) * NELEM(keys); i++) {
		rq = (struct keeper_request){.op = verbs[i / NELEM(keys)], .timeout_ms = 1000};
		strcpy(rq.id, "00000000-0000-4000-8000-000000000000");
		strcpy(rq.deps, keys[i % NELEM(keys)]);
		ok(message(s, &rq, 0) == 0,
			"operation %u with a key that is none ends the connection", rq.op);
		memset(rq.deps, 'a', sizeof rq.deps);
		ok(message(s, &rq, 0) == 0, "and so does one without an end");
		memset(rq.deps, 0, sizeof rq.deps);
		memset(rq.deps, 'a', DEPS_KEY_LEN);
		ok(message(s, &rq, 0) == 1, "a set that is not there is answered");
	}
	rq = (struct keeper_request){.op = KEEPER_DEPS, .name = "python", .deps_bytes = 3};
	ok(message(s, &rq, 1) == 1, "a set in a message");
	ok(message(s, &rq, 0) == 0, "not without its text");
	rq.deps_bytes = 0;
	ok(message(s, &rq, 1) == 0, "nor with none");
	rq.deps_bytes = 65537;
	ok(message(s, &rq, 1) == 0, "nor with too much");
	rq.deps_bytes = 3;
	memset(rq.name, 'a', sizeof rq.name);
	ok(message(s, &rq, 1) == 0, "nor with a name that has no end");
}

/* The keeper dies: the next one knows the sets, and what is half made goes. */
static void test_restart(struct service *s, char key[2][DEPS_KEY_LEN + 1])
{
	const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	struct deps_answer a;
	struct err e;
	char path[160];

	kill(s->keeper, SIGKILL);
	waitpid(s->keeper, NULL, 0);
	snprintf(path, sizeof path, "%s/layers/0123456789abcdef0123456789abcdef", s->dir);
	ok(mkdir(path, 0700) == 0, "a layer that was begun");
	snprintf(path, sizeof path, "%s/deps/%064d", s->dir, 7);
	OWN_FD fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ok(fd >= 0 && dprintf(fd, "layer 0123") > 0, "a record that was cut short");
	snprintf(path, sizeof path, "%s/deps/%s", s->dir, key[1]);
	ok(utimensat(AT_FDCWD, path, old, 0) == 0, "a set that nobody has used for deps_keep_s");
	start(s);
	for (int i = 0;
		i < PATIENCE_MS / 10 && (entries(s, "layers") != 1 || entries(s, "deps") != 1); i++)
		usleep(10000);
	ok(entries(s, "deps") == 1 && entries(s, "layers") == 1,
		"they are gone, the other set is not");
	ok(install(s, "http://127.0.0.1:9/x/", 0, &a, &e, REQS("a", "b>1")) == 0 && a.reused &&
			!strcmp(a.key, key[0]),
		"what was installed is there");
}

int main(void)
{
	const char *const extra[][2] = {
		{"network", "host"}, {"language_python_install", installer}, {NULL, NULL}};
	char key[2][DEPS_KEY_LEN + 1];
	struct service s;

	if (!open_service_keys(&s, extra))
		return 2;
	test_install(&s, key);
	test_failures(&s);
	test_attach(&s, key);
	ok(restart_with(&s, "session_lock_wait_ms", SHORT_LOCK_WAIT_MS), "a short wait");
	test_live(&s, key);
	test_restart(&s, key);
	test_messages(&s);
	close_service(&s);
	test_in_memory();
	return done();
}

/*
 * Directories that are links out of the tree half the time. First as a tenant could do it: its
 * processes swap until they are killed, and the host takes a patch, adds an archive, starts over it
 * and removes it. Then against the tree helpers directly, which never meet a live tenant, with a
 * swapper that nobody kills. Last, a session without openat2(2).
 */
#include <limits.h>
#include <signal.h>
#include <sys/inotify.h>
#include <time.h>

#include "fcgi/tree.h"
#include "tests/unit/keeper.h"
#include "tests/unit/no-openat2.h"

enum { ROUNDS = 100 /* of each form */, WATCHED = IN_ALL_EVENTS & ~IN_CLOSE_NOWRITE };

static char canary[64], probe[PATH_MAX];
static int watch;

static bool make_canary(const char *self)
{
	char command[6 * PATH_MAX];
	const char *slash = strrchr(self, '/');

	strcpy(canary, "/tmp/cgibox-canary-XXXXXX");
	if (!mkdtemp(canary))
		return false;
	snprintf(probe, sizeof probe, "%s.probe", canary);
	snprintf(command, sizeof command,
		"cp '%.*s/../root-probe' %s && chmod 755 %s && cd %s && mkdir d in && echo canary "
		"> f && "
		"echo canary > d/g && mkdir in/a in/d && echo x > in/a/f && echo y > in/d/g && "
		"tar -C in -cf %s.tar . && rm -r in",
		slash ? (int)(slash - self) : 1, slash ? self : ".", probe, probe, canary, canary);
	watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	return system(command) == 0 && inotify_add_watch(watch, canary, WATCHED) >= 0;
}

/* Whether nobody opened or changed anything in the canary since the last time. */
static bool untouched(void)
{
	char block[4096];

	return read(watch, block, sizeof block) < 0 && errno == EAGAIN;
}

static int open_archive(void)
{
	char path[80];

	snprintf(path, sizeof path, "%s.tar", canary);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool plant_probe(const struct service *s, const char *id)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/sessions/%s/root/upper/swap", s->dir, id);
	return linkat(AT_FDCWD, probe, AT_FDCWD, path, 0) == 0;
}

struct tally {
	unsigned swapped, patched, refused, bad;
};

/* One call: an archive, a swapper that outlives its command, a patch of what it leaves. */
static void one_call(struct service *s, const char *id, int round, struct tally *t)
{
	OWN_FD archive = open_archive(), patch = memfd_create("patch", MFD_CLOEXEC);
	char command[PATH_MAX], out[1000] = "";
	struct session_call *c;
	struct session_info info;
	struct err e = {0};
	struct result r;
	uint64_t bytes;

	c = ops->open(s->b, id, round % 3 ? archive : -1, &info, &e);
	if (!c) {
		t->refused++;
		t->bad += !e.msg[0];
		return;
	}
	/* the command ends when the swapper has begun; its processes are killed by what follows */
	snprintf(command, sizeof command,
		"/swap swap %s > /dev/shm/out & "
		"until [ -s /dev/shm/out ]; do :; done; cat /dev/shm/out",
		canary);
	if (run(c, command, PATIENCE_MS, &r, out, sizeof out) == 0)
		t->swapped += strtoul(out, NULL, 10) >= 1;
	if (round % 4 && info.has_baseline && ops->patch(c, patch, &bytes, &e) == 0)
		t->patched++;
	ops->close(c);
}

static void test_tenant(struct service *s, const char *plain_max)
{
	struct session_spec spec = {.extract_patch = true};
	char id[SESSION_ID_LEN + 1] = "";
	struct tally t = {0};
	struct err e;
	unsigned gone = 0;
	bool calm;

	for (int i = 0; i < ROUNDS; i++) {
		if (!id[0] && !(create(s, &spec, id) && plant_probe(s, id)))
			break;
		one_call(s, id, i, &t);
		if (i % 10 == 9) { /* at once: its processes may not have ended yet */
			int ret;

			while ((ret = ops->destroy(s->b, id, &e)) < 0 && e.kind == ERR_BUSY)
				; /* its sandbox has not ended yet */
			gone += ret == 0;
			id[0] = '\0';
		}
	}
	calm = untouched();
	ok(t.swapped > ROUNDS / 2 && t.patched > ROUNDS / 4 && !t.bad,
		"%s: of %d calls %u swapped, %u patched, %u refused", plain_max, ROUNDS, t.swapped,
		t.patched, t.refused);
	ok(gone == ROUNDS / 10, "%u sessions removed while they swapped", gone);
	ok(calm, "nobody touched what the links point at");
}

static pid_t swapper(int tree)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	for (;;) {
		renameat2(tree, "d", tree, "l", RENAME_EXCHANGE);
		renameat2(tree, "a", tree, "l", RENAME_EXCHANGE);
	}
}

/* 0: done, 1: an error that has a reason, -1: no answer. */
static int job(
	struct tree_server *t, uint32_t op, int dir, int data, struct ws_layout *lay, bool plain)
{
	struct tree_job j = {.op = op,
		.layout = *lay,
		.time_max_s = 120,
		.limits = {.archive_unpacked_max_bytes = 1 << 20,
			.archive_max_bytes = 1 << 20,
			.archive_ratio_max = 1000,
			.archive_entries_max = 1000,
			.plain_entries_max = plain ? 1000 : 0,
			.plain_max_bytes = 1 << 20,
			.patch_max_bytes = 1 << 20}};
	struct tree_result r;
	struct err e;
	OWN_FD fd = tree_start(t, &j, dir, data, &e);

	if (fd < 0 || tree_finish(fd, &r, &e) < 0)
		return -1;
	if (r.err.kind == ERR_NONE)
		*lay = r.layout;
	return r.err.kind == ERR_NONE ? 0 : r.err.msg[0] ? 1 : -1;
}

static bool one_tree(struct tree_server *t, const char *dir_path, bool plain, unsigned done_[3])
{
	static const uint32_t ops_[] = {TREE_PATCH, TREE_ADD, TREE_DELETE};
	struct ws_layout lay = {0};
	OWN_FD dir = mkdir(dir_path, 0700) < 0 ? -1 : open(dir_path, O_RDONLY | O_DIRECTORY);
	OWN_FD first = open_archive(), tree = -1;
	int ret[3];
	pid_t pid;

	if (dir < 0 || job(t, TREE_CREATE, dir, -1, &lay, plain) != 0 ||
		job(t, TREE_ADD, dir, first, &lay, plain) != 0)
		return false;
	tree = openat(dir, plain ? "tree" : "upper-1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tree < 0 ||
		(!plain && (mkdirat(tree, "d", 0755) < 0 || mkdirat(tree, "a", 0755) < 0)) ||
		symlinkat(canary, tree, "l") < 0)
		return false;
	pid = swapper(tree);
	for (int i = 0; i < 3; i++) {
		OWN_FD data = ops_[i] == TREE_ADD     ? open_archive()
			      : ops_[i] == TREE_PATCH ? memfd_create("patch", MFD_CLOEXEC)
						      : -1;

		ret[i] = job(t, ops_[i], dir, data, &lay, plain);
		done_[i] += ret[i] == 0;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return ret[0] >= 0 && ret[1] >= 0 && ret[2] >= 0 &&
	       job(t, TREE_DELETE, dir, -1, &lay, plain) == 0 && rmdir(dir_path) == 0;
}

static void test_trees(const struct service *s, bool plain)
{
	unsigned good = 0, done_[3] = {0};
	char path[100];
	struct err e;
	struct tree_server *t = tree_server_start(&e);

	snprintf(path, sizeof path, "%s/race", s->dir);
	for (int i = 0; t && i < ROUNDS; i++)
		if (one_tree(t, path, plain, done_))
			good++;
		else
			break;
	ok(good == ROUNDS, "%s: %u of %d live trees; %u patched, %u added to, %u removed at once",
		plain ? "plain" : "overlay", good, ROUNDS, done_[0], done_[1], done_[2]);
	ok(untouched(), "nobody touched what the links point at");
	tree_server_stop(t);
}

/* What a session is made of holds without links; a link in the way of a mount is refused. */
static void test_without_openat2(void)
{
	struct session_spec spec = {.extract_patch = true};
	OWN_FD archive = open_archive(), patch = memfd_create("patch", MFD_CLOEXEC);
	char id[SESSION_ID_LEN + 1] = "", out[1000] = "", path[PATH_MAX];
	struct session_info info;
	struct session_call *c;
	struct service s;
	struct result r;
	struct err e = {0};
	uint64_t bytes = 0;

	if (!ok(take_openat2(ENOSYS) && open_service(&s), "a service without openat2"))
		return;
	ok(create(&s, &spec, id), "a session is made");
	c = open_session(&s, id, archive, &info, &e);
	ok(c && run(c, "cat a/f && echo z > a/f", PATIENCE_MS, &r, out, sizeof out) == 0 &&
			!strcmp(out, "x\n"),
		"a command runs beside the archive");
	ok(c && ops->patch(c, patch, &bytes, &e) == 0 && bytes > 0, "its patch is made");
	ops->close(c);
	snprintf(path, sizeof path, "%s/sessions/%s/root/upper/repo", s.dir, id);
	ok(rmdir(path) == 0 && symlink(canary, path) == 0, "a link takes the place of /repo");
	c = open_session(&s, id, -1, &info, &e);
	ok(!c && e.errnum == ELOOP && strstr(e.msg, "/repo"), "which is refused: %s", e.msg);
	ops->close(c);
	ok(untouched(), "nobody touched what the link points at");
	ok(ops->destroy(s.b, id, &e) == 0, "and the session is deleted");
	close_service(&s);
}

int main(int argc, char **argv)
{
	static const char *const plain_max[] = {"20000", "0"};
	char self[PATH_MAX] = "", command[2 * PATH_MAX];
	struct service s;

	(void)argc;
	alarm(800); /* a hang is a failure */
	log_open("test", LOG_ERROR);
	for (size_t i = 0; i < NELEM(plain_max); i++) {
		if (!open_service_with(&s, "plain_entries_max", plain_max[i]) ||
			(!i && (!realpath(argv[0], self) || !make_canary(self))))
			return ok(false, "set up: %s", strerror(errno)), done();
		test_tenant(&s, plain_max[i]);
		test_trees(&s, i == 0);
		close_service(&s);
	}
	test_without_openat2();
	snprintf(command, sizeof command,
		"cat %s/f %s/d/g | sort -u | grep -x canary > /dev/null && "
		"rm -r %s %s.tar %s",
		canary, canary, canary, canary, probe);
	ok(system(command) == 0, "the canary can be removed");
	return done();
}

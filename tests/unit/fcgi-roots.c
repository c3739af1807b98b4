/*
 * Hostile roots through the real keeper: what a tenant could leave in its writable layer and its
 * workspace between two calls. The next call starts with a /dev and a /proc of its own, or says why
 * not; archive, patch and removal work on it; and nothing outside the session is opened or changed.
 */
#include <dirent.h>
#include <poll.h>
#include <sys/inotify.h>
#include <time.h>

#include "isolate/buf.h"
#include "tests/unit/keeper.h"
#include "tests/unit/roots.h"

enum {
	DEADLINE_S = 100, /* none hangs; 2 calls of TIMEOUT_MS are the longest */
	TIMEOUT_MS = 1500,
	SNAPSHOT_MAX = 1 << 20,
	WATCHED = IN_ALL_EVENTS & ~IN_CLOSE_NOWRITE
};

struct bench {
	struct service *s;
	char canary[64], probe[PATH_MAX];
	int watch;   /* inotify over the canary */
	int archive; /* one that changes files */
};

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int write_to(int at, const char *name, const char *text)
{
	OWN_FD fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

static bool make_canary(struct bench *b)
{
	OWN_FD dir = -1;

	strcpy(b->canary, "/tmp/cgibox-canary-XXXXXX");
	dir = mkdtemp(b->canary) ? open(b->canary, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	b->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	return dir >= 0 && mkdirat(dir, "d", 0700) == 0 && write_to(dir, "f", "canary") == 0 &&
	       write_to(dir, "d/g", "canary") == 0 && mkfifoat(dir, "pipe", 0600) == 0 &&
	       b->watch >= 0 && inotify_add_watch(b->watch, b->canary, WATCHED) >= 0;
}

/* One line for what name is, with all that a stranger's write would change. */
static void describe(struct buf *out, int dir, const char *name, const char *shown)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		buf_addf(out, "%s: %s\n", shown, strerror(errno));
		return;
	}
	/* a directory of the state has new times whenever a session is made; counters count */
	if (S_ISDIR(st.st_mode) || !strcmp(shown, "stats"))
		st.st_mtim = (struct timespec){0}, st.st_size = 0;
	buf_addf(out, "%s %o %d %d %lld %lld.%ld\n", shown, st.st_mode, (int)st.st_uid,
		(int)st.st_gid, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec);
}

static bool is_session(const char *path)
{
	return !strcmp(path, "sessions") || !strcmp(path, "trash");
}

/* Everything below dir but sessions and what is removed of them. */
static void list(struct buf *out, int dir, const char *prefix)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **names = NULL;
	int n = scandirat(dir, ".", &names, NULL, alphasort);

	own_close(&fd);
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		char path[PATH_MAX];
		OWN_FD sub = -1;

		snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "/" : "", name);
		if (strcmp(name, ".") && strcmp(name, "..")) {
			describe(out, dir, name, path);
			sub = is_session(path)
				      ? -1
				      : openat(dir, name,
						O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (sub >= 0)
				list(out, sub, path);
		}
		free(names[i]);
	}
	free(names);
}

/* The canary, the state directory outside of sessions, and names that a lost path would make. */
static void snapshot(const struct bench *b, struct buf *out)
{
	static const char *const lost[] = {"/mark", "/tmp/mark", "/tmp/f", "/repo", "/workdir",
		"/home/daiv-sandbox", "/etc/mark", "/no", "/inside", "/dev/mark", "/tmp/inside"};
	const char *const dirs[] = {b->canary, b->s->dir};

	for (size_t i = 0; i < NELEM(dirs); i++) {
		OWN_FD dir = open(dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		list(out, dir, "");
	}
	for (size_t i = 0; i < NELEM(lost); i++)
		describe(out, AT_FDCWD, lost[i], lost[i]);
	buf_add(out, "", 1);
}

/* Whether line is of an image "host" that text does not have: this machine's /etc changed since. */
static bool is_new_host(const char *line, const char *text)
{
	char name[64];

	return sscanf(line, "images/host/%40[0-9a-f]", name) == 1 && !strstr(text, name);
}

static bool same_outside(const char *before, const char *after)
{
	const char *at = before;

	while (*after) {
		size_t n = strcspn(after, "\n") + 1;

		if (!strncmp(at, after, n))
			at += n;
		else if (!is_new_host(after, before))
			return false;
		after += n;
	}
	return !*at;
}

/* How often the canary was touched since the last time; what we did ourselves is forgotten. */
static unsigned touched(const struct bench *b, bool links)
{
	_Alignas(struct inotify_event) char block[4096];
	unsigned n = 0;
	ssize_t got;

	while ((got = read(b->watch, block, sizeof block)) > 0)
		for (ssize_t at = 0; at < got;) {
			const struct inotify_event *ev = (const void *)(block + at);

			at += (ssize_t)sizeof *ev + ev->len;
			/* making and removing a hard link changes the file's count of links */
			if (!links || !(ev->mask & IN_ATTRIB))
				printf("# event %x on %s\n", ev->mask, ev->len ? ev->name : "."),
					n++;
		}
	return n;
}

static void forget(const struct bench *b)
{
	char block[4096];

	while (read(b->watch, block, sizeof block) > 0)
		;
}

static bool file_is(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX], buf[64] = "";
	OWN_FD fd = -1;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, buf, sizeof buf - 1) >= 0 && !strcmp(buf, text);
}

/* Plants root i in the writable layer, with the probe, and the same in the workspace. */
static bool plant(const struct bench *b, const char *id, size_t i)
{
	char path[PATH_MAX];
	OWN_FD upper = -1, tree = -1;

	snprintf(path, sizeof path, "%s/sessions/%s/root/upper", b->s->dir, id);
	upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof path, "%s/sessions/%s/ws/tree", b->s->dir, id);
	tree = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (upper < 0 || tree < 0 || linkat(AT_FDCWD, b->probe, upper, "probe", 0) < 0)
		return false;
	return roots_make(i, upper, b->canary) == 0 && roots_make(i, tree, b->canary) == 0;
}

/* The shell of the image runs the probe, or is not to be found any more. */
static const char *probe(const struct bench *b, struct session_call *c, char *out, size_t size)
{
	char command[PATH_MAX];
	struct result r;

	snprintf(command, sizeof command, "/probe %s", b->canary);
	out[0] = '\0';
	if (run(c, command, TIMEOUT_MS, &r, out, size) < 0)
		return "refused";
	if (r.exit_code == 0 && !strcmp(out, "private\n"))
		return "private";
	if (r.exit_code == 127 || r.exit_code == 126)
		return "no shell";
	if (r.verdict == VERDICT_TIMEOUT) /* bash waits for a FIFO in its own root */
		return "timeout";
	printf("# verdict %u, exit code %d: %s\n", r.verdict, r.exit_code, out);
	return "not private";
}

/* Opens with an archive, runs the probe, takes the patch. What became of it. */
static const char *call(const struct bench *b, const char *id, int archive, struct err *e)
{
	OWN_FD patch = memfd_create("patch", MFD_CLOEXEC);
	struct session_info info;
	struct session_call *c = ops->open(b->s->b, id, archive, &info, e);
	char out[1000];
	const char *how;
	uint64_t bytes;

	if (!c)
		return e->msg[0] ? "refused" : "refused without a reason";
	how = probe(b, c, out, sizeof out);
	if (info.has_baseline && ops->patch(c, patch, &bytes, e) < 0)
		printf("# patch: %s (%s)\n", e->msg, strerror(e->errnum));
	ops->close(c);
	return how;
}

static bool removed(const struct bench *b, const char *id)
{
	char path[200];
	struct err e;

	while (ops->destroy(b->s->b, id, &e) < 0)
		if (e.kind != ERR_BUSY) /* its sandbox has not ended yet */
			return false;
	snprintf(path, sizeof path, "%s/trash/%s", b->s->dir, id);
	for (int n = 0; n < PATIENCE_MS && access(path, F_OK) == 0; n++)
		usleep(1000); /* the keeper does not tell when a removal is done */
	return access(path, F_OK) < 0;
}

/* One root, and one line. NULL: the canary was touched, which is not yet a failure the first time. */
static const char *try_root(struct bench *b, size_t i, const struct buf *before, bool last)
{
	const char *what = roots_kinds[roots_kind(i)].what, *how = "not made", *again = "";
	struct session_spec spec = {.extract_patch = true};
	OWN_BUF after = BUF_INIT(SNAPSHOT_MAX);
	char id[SESSION_ID_LEN + 1] = "";
	struct err e = {0}, e2 = {0};
	double began = seconds();
	bool gone, same;
	unsigned n;

	if (create(b->s, &spec, id) && plant(b, id, i)) {
		forget(b);
		lseek(b->archive, 0, SEEK_SET);
		how = call(b, id, i % 2 ? b->archive : -1, &e);
		if (i % 4 == 0) {
			lseek(b->archive, 0, SEEK_SET);
			again = call(b, id, b->archive, &e2);
		}
	}
	gone = removed(b, id);
	n = touched(b, strstr(what, "hard link"));
	if (n && !last)
		return NULL;
	snapshot(b, &after);
	same = buf_ok(&after) && same_outside(before->p, after.p) &&
	       file_is(b->canary, "f", "canary") && file_is(b->canary, "d/g", "canary");
	forget(b);
	if (!ok(strncmp(how, "not ", 4) && strncmp(again, "not ", 4) && gone && same && n == 0 &&
			    seconds() - began < DEADLINE_S,
		    "/%s: %s: %s%s%s", roots_place(i), what, how, *again ? ", and again " : "",
		    again))
		printf("# removed %d, the same outside %d, touched %u times, %.1f s; %s; %s\n",
			gone, same, n, seconds() - began, e.msg, e2.msg);
	else if (e.msg[0])
		printf("# %s: %s\n", e.msg, strerror(e.errnum));
	if (!same)
		printf("# before:\n%s\n# after:\n%s\n", before->p, after.p);
	return how;
}

/* A control: the probe says so when it is not in a sandbox, and the watch sees an open. */
static void test_controls(struct bench *b)
{
	char command[3 * PATH_MAX];

	snprintf(command, sizeof command, "%s %s > /dev/null", b->probe, b->canary);
	ok(system(command) != 0, "control: the probe notices that it is not in a sandbox");
	forget(b);
	ok(file_is(b->canary, "f", "canary") && touched(b, false) > 0,
		"control: the watch sees a file of the host opened");
}

static bool open_bench(struct bench *b, struct service *s, const char *self)
{
	char command[5 * PATH_MAX];
	const char *slash = strrchr(self, '/');
	struct err e;

	snprintf(b->probe, sizeof b->probe, "%s/probe", s->dir);
	snprintf(command, sizeof command,
		"cp '%.*s/../root-probe' %s && chmod 755 %s && cd %s && mkdir -p in/a && echo x > "
		"in/f && "
		"echo y > in/a/g && tar -C in -cf archive.tar . && rm -r in",
		slash ? (int)(slash - self) : 1, slash ? self : ".", b->probe, b->probe, s->dir);
	b->s = s;
	b->archive = system(command) == 0 && chdir(s->dir) == 0
			     ? open("archive.tar", O_RDONLY | O_CLOEXEC)
			     : -1;
	return b->archive >= 0 && make_canary(b) && ops->health(s->b, &e) == 0;
}

static void test_roots(struct bench *b)
{
	OWN_BUF before = BUF_INIT(SNAPSHOT_MAX);
	unsigned private = 0, refused = 0, tried = 0;
	/* every nth only: where the same is run several times, or slowly */
	const char *text = getenv("CGIBOX_TEST_STRIDE");
	size_t stride = text && atoi(text) > 0 ? (size_t)atoi(text) : 1;
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1];

	/* the first session makes the image's directory */
	ok(create(b->s, &spec, id) && removed(b, id), "a session before all");
	snapshot(b, &before);
	for (size_t i = 0; i < ROOTS_COUNT; i += stride, tried++) {
		const char *how = try_root(b, i, &before, false);

		if (!how) /* by us, or by whoever reads all of /tmp: ours would be again */
			how = try_root(b, i, &before, true);

		private += !strcmp(how, "private");
		refused += !strcmp(how, "refused");
	}
	ok(private >= tried / 3 && refused >= tried / 10,
		"of %u roots %u started and %u were refused", tried, private, refused);
}

int main(int argc, char **argv)
{
	char self[PATH_MAX] = "";
	struct service s;
	struct bench b = {0};
	struct err e;

	(void)argc;
	alarm(850); /* a hang is a failure */
	log_open("test", LOG_ERROR);
	if (!realpath(argv[0], self) || !open_service(&s) || !open_bench(&b, &s, self))
		return ok(false, "set up: %s", strerror(errno)), done();
	test_controls(&b);
	test_roots(&b);
	close_service(&s);
	ok(rmtree_at(AT_FDCWD, b.canary, &e) == 0, "the canary can be removed");
	return done();
}

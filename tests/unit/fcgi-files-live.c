/*
 * File verbs beside a sandbox that runs: in its own mounts, with its /proc and /dev in the way and its
 * processes at work in the same directories.
 */
#include "tests/unit/keeper.h"

#include <dirent.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "fcgi/files.h"
#include "fcgi/files_view.h"
#include "fcgi/tree.h"

enum { SECONDS = 3 };

static struct tree_server *tree;
static int live = -1; /* pidfd of the sandbox */
static char back[1 << 16];

static bool read_proc(int pid, const char *name, char *out, size_t size)
{
	char path[64];
	OWN_FD fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, out, size - 1);
	out[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* The process 1 of the one sandbox of the keeper: its child in another pid namespace. */
static int find_init(pid_t keeper)
{
	char stat[512], status[4096], *at;
	DIR *d = opendir("/proc");
	struct dirent *e;
	int found = -1;

	while (d && (e = readdir(d)) && found < 0) {
		int pid = atoi(e->d_name), parent = 0;

		if (pid <= 0 || !read_proc(pid, "stat", stat, sizeof stat) ||
			!(at = strrchr(stat, ')')) || sscanf(at + 1, " %*c %d", &parent) != 1 ||
			parent != keeper || !read_proc(pid, "status", status, sizeof status))
			continue;
		at = strstr(status, "NSpid:");
		if (at && !strncmp(at + strcspn(at, "\n") - 2, "\t1\n", 3))
			found = pid;
	}
	if (d)
		closedir(d);
	return found;
}

/* The code; -1: an error. */
static int verb(struct files_order o, const char *path, const char *more, const char *data,
	struct files_result *out)
{
	struct tree_job job = {.time_max_s = 120, .memory_max_bytes = 1 << 28, .order = o};
	struct jail_view none = {.live = -1, .staging = "/none", .root = {.kind = PLAN_OVERLAY}};
	OWN_BUF texts = BUF_INIT(4096), view = BUF_INIT(4096);
	OWN_FD tfd = memfd_create("t", 0), vfd = memfd_create("v", 0), dfd = memfd_create("d", 0);
	struct tree_files f = {.texts = tfd, .data = dfd, .view = vfd, .live = live};
	struct tree_result r;
	struct err e = {0};
	OWN_FD fd = -1;
	ssize_t n;

	job.files = (struct files_limits){
		1 << 20, 1 << 24, 1 << 20, 1 << 24, 100, 1000, 10000, 1 << 20, 100, 100};
	files_put_text(&texts, path, strlen(path));
	for (int i = 0; more && i < 2; i++)
		files_put_text(&texts, more, strlen(more));
	job.order.text_bytes = (uint32_t)texts.len;
	files_view_put(&view, &none);
	job.view_bytes = (uint32_t)view.len;
	if (write(tfd, texts.p, texts.len) < 0 || write(vfd, view.p, view.len) < 0 ||
		(data && write(dfd, data, strlen(data)) < 0))
		return -1;
	fd = tree_start_files(tree, &job, &f, &e);
	if (fd < 0 || tree_finish(fd, &r, &e) < 0 || r.err.kind != ERR_NONE) {
		printf("# %s %s (%d)\n", e.msg, fd < 0 ? "" : r.err.msg, r.err.errnum);
		return -1;
	}
	n = pread(dfd, back, sizeof back - 1, 0);
	back[n > 0 ? n : 0] = '\0';
	*out = r.files;
	return (int)r.files.code;
}

static int fetch(const char *path)
{
	struct files_result r;

	return verb((struct files_order){.verb = FILES_FETCH}, path, NULL, NULL, &r);
}

static void test_verbs(struct session_call *c)
{
	static const char *const aliens[] = {"/proc/self/environ", "/proc/1/environ",
		"/proc/version", "/proc/self/root/etc/passwd", "/dev/pts/ptmx",
		"/proc/sys/kernel/hostname"};
	struct files_result r;
	struct result res;
	char out[256];

	ok(run(c, "echo live > a; echo t > /tmp/t; echo s > /dev/shm/s; ln -s /proc/1/environ env",
		   PATIENCE_MS, &res, out, sizeof out) == 0,
		"a command writes");
	ok(fetch("/repo/a") == FILES_OK && !strcmp(back, "live\n"), "its file is read");
	ok(fetch("/tmp/t") == FILES_OK && !strcmp(back, "t\n"), "and one in /tmp");
	ok(fetch("/dev/shm/s") == FILES_OK && !strcmp(back, "s\n"), "and one in memory");
	for (size_t i = 0; i < NELEM(aliens); i++)
		ok(fetch(aliens[i]) != FILES_OK, "%s is no file: %s", aliens[i], back);
	ok(fetch("/repo/env") == FILES_BAD_PATH, "nor by a link");
	ok(fetch("/dev/null") == FILES_NOT_FILE && fetch("/dev/zero") == FILES_NOT_FILE,
		"nor a device");
	ok(verb((struct files_order){.verb = FILES_WRITE}, "/repo/b", NULL, "written", &r) ==
				FILES_OK &&
			run(c, "cat b; stat -c %u b", PATIENCE_MS, &res, out, sizeof out) == 0 &&
			!strcmp(out, "written1000\n"),
		"what is written the command sees");
	ok(verb((struct files_order){.verb = FILES_WRITE}, "/proc/self/oom_score_adj", NULL, "1",
		   &r) != FILES_OK,
		"nothing is written to /proc");
	ok(verb((struct files_order){.verb = FILES_WRITE}, "/usr/bin/x", NULL, "1", &r) ==
			FILES_DENIED,
		"nor to what is read-only");
	ok(verb((struct files_order){.verb = FILES_GREP}, "/repo", "live", NULL, &r) == FILES_OK,
		"a search");
	ok(verb((struct files_order){.verb = FILES_GLOB}, "/", "zzz", NULL, &r) == FILES_OK,
		"a walk over everything comes to an end");
}

static void test_race(struct session_call *c)
{
	static const struct {
		uint32_t verb, flags;
		const char *path, *more;
	} tries[] = {{FILES_FETCH, 0, "/repo/d/w", NULL}, {FILES_LIST, 0, "/repo/d", NULL},
		{FILES_GREP, 0, "/repo", "root:"}, {FILES_WRITE, 0, "/repo/d/w", NULL},
		{FILES_DELETE, FILES_RECURSIVE, "/repo/d/w", NULL},
		{FILES_MKDIR, 0, "/repo/d/w/x", NULL}};
	unsigned n = 0, fine = 0, errors = 0;
	struct timespec begin, now;
	struct files_result r;
	struct result res;
	char out[64];

	ok(run(c,
		   "mkdir -p d; (cd d; while :; do ln -s /proc/self/fd w; mv -T w v; mkdir w; "
		   "rmdir w; mkfifo w; "
		   "rm -f w v; cd ..; mv d e; ln -s / d; rm d; mv e d; cd d; done) >/dev/null 2>&1 "
		   "&",
		   PATIENCE_MS, &res, out, sizeof out) == 0,
		"somebody is at work inside");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		for (size_t i = 0; i < NELEM(tries); i++, n++) {
			int code = verb((struct files_order){.verb = tries[i].verb,
						.flags = tries[i].flags},
				tries[i].path, tries[i].more, NULL, &r);

			errors += code < 0;
			fine += code == FILES_OK;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec < SECONDS);
	printf("# %u verbs, %u did what they were asked\n", n, fine);
	ok(errors == 0 && fine > 0, "every verb has a code");
	ok(fetch("/etc/passwd") == FILES_OK && strstr(back, "root:"),
		"and nothing else was removed");
}

int main(void)
{
	struct session_spec spec = {.extract_patch = false};
	char id[SESSION_ID_LEN + 1];
	struct session_info info;
	struct session_call *c;
	struct service s;
	struct err e = {0};
	int pid;

	if (!ok(open_service(&s), "a keeper"))
		return done();
	tree = tree_server_start(&e);
	c = create(&s, &spec, id) ? open_session(&s, id, -1, &info, &e) : NULL;
	pid = c ? find_init(s.keeper) : -1;
	live = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (ok(tree && c && live >= 0, "a sandbox that runs")) {
		test_verbs(c);
		test_race(c);
	}
	ops->close(c);
	tree_server_stop(tree);
	close_service(&s);
	return done();
}

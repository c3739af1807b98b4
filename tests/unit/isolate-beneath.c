/*
 * The helper itself, with openat2(2) and without: what it opens, what it makes, and what it refuses
 * with which errno. Then under a storm of renames, and against a path that is swapped all the time.
 */
#include "isolate/beneath.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "isolate/own.h"
#include "tests/unit/no-openat2.h"
#include "tests/unit/tap.h"

enum { PATIENCE_S = 60 }; /* until the other process has had its turn */

static char top[64];

static bool prepare(void)
{
	char command[600];

	strcpy(top, "/tmp/cgibox-beneath-XXXXXX");
	if (!mkdtemp(top))
		return false;
	snprintf(command, sizeof command,
		"cd %s && mkdir -p out root/a/b root/closed/c && echo x > out/f && echo y > "
		"root/a/f && "
		"mkfifo root/pipe && ln -s %s/out root/abs && ln -s ../out root/rel && "
		"ln -s a root/in && ln -s /a root/inabs && ln -s ../a root/a/up && "
		"ln -s self root/self && ln -s nothing root/none && ln -s /proc/self/cwd "
		"root/magic "
		"&& "
		"ln -s f root/a/last && chmod 711 root/closed",
		top, top);
	return system(command) == 0;
}

static int open_root(void)
{
	char path[80];

	snprintf(path, sizeof path, "%s/root", top);
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* The errno of opening, 0 for success. */
static int try_open(int root, const char *path, int flags, enum beneath how)
{
	OWN_FD fd = beneath_open(root, path, flags, how);

	return fd >= 0 ? 0 : errno;
}

/* want: with openat2; without: the walk. -1: no link may be followed, so ELOOP. */
static const struct {
	const char *path;
	int flags;
	enum beneath how;
	int want, without;
} opens[] = {
	{"", O_PATH | O_DIRECTORY, BENEATH_NO_LINKS, 0, 0},
	{"a", O_PATH | O_DIRECTORY, BENEATH_NO_LINKS, 0, 0},
	{"a/b/", O_PATH | O_DIRECTORY, BENEATH_NO_LINKS, 0, 0},
	{"./a/./f", O_RDONLY, BENEATH_NO_LINKS, 0, 0},
	{"a/f", O_PATH | O_DIRECTORY, BENEATH_NO_LINKS, ENOTDIR, ENOTDIR},
	{"a/f/x", O_PATH, BENEATH_NO_LINKS, ENOTDIR, ENOTDIR},
	{"a/x", O_PATH, BENEATH_NO_LINKS, ENOENT, ENOENT},
	{"/a", O_PATH, BENEATH_NO_LINKS, EXDEV, EXDEV},
	{"closed/c", O_PATH, BENEATH_NO_LINKS, 0, 0},
	{"..", O_PATH, BENEATH_NO_LINKS, EXDEV, ELOOP},
	{"a/../../out/f", O_PATH, BENEATH_NO_LINKS, EXDEV, ELOOP},
	{"abs", O_PATH, BENEATH_NO_LINKS, ELOOP, ELOOP},
	{"abs", O_PATH | O_NOFOLLOW, BENEATH_NO_LINKS, 0, 0}, /* the link itself */
	{"abs/f", O_PATH | O_NOFOLLOW, BENEATH_NO_LINKS, ELOOP, ELOOP},
	{"in/f", O_PATH, BENEATH_NO_LINKS, ELOOP, ELOOP},
	{"a/last", O_RDONLY, BENEATH_NO_LINKS, ELOOP, ELOOP},
	{"in/f", O_RDONLY, BENEATH_LINKS, 0, ELOOP},
	{"a/up/f", O_RDONLY, BENEATH_LINKS, 0, ELOOP},
	{"abs/f", O_RDONLY, BENEATH_LINKS, EXDEV, ELOOP},
	{"rel/f", O_RDONLY, BENEATH_LINKS, EXDEV, ELOOP},
	{"inabs/f", O_RDONLY, BENEATH_LINKS, EXDEV, ELOOP},
	{"/a/f", O_RDONLY, BENEATH_IN_ROOT, 0, 0},
	{"/", O_PATH | O_DIRECTORY, BENEATH_IN_ROOT, 0, 0},
	{"inabs/f", O_RDONLY, BENEATH_IN_ROOT, 0, ELOOP},
	{"in", O_PATH | O_DIRECTORY, BENEATH_IN_ROOT, 0, ELOOP},
	{"abs", O_PATH, BENEATH_IN_ROOT, ENOENT, ELOOP},
	{"rel", O_PATH, BENEATH_IN_ROOT, ENOENT, ELOOP},
	{"../../../a/f", O_RDONLY, BENEATH_IN_ROOT, 0, ELOOP},
	{"self", O_PATH, BENEATH_IN_ROOT, ELOOP, ELOOP},
	{"self/x", O_PATH, BENEATH_IN_ROOT, ELOOP, ELOOP},
	{"magic", O_PATH, BENEATH_IN_ROOT, ENOENT, ELOOP}, /* /proc is not in this root */
	{"/a/f", O_RDONLY, BENEATH_ONE_MOUNT, 0, 0},
	{"inabs/f", O_RDONLY, BENEATH_ONE_MOUNT, 0, ELOOP},
};

static void test_opens(int root, bool kernel)
{
	for (size_t i = 0; i < NELEM(opens); i++) {
		int want = kernel ? opens[i].want : opens[i].without;
		int got = try_open(root, opens[i].path, opens[i].flags, opens[i].how);

		ok(got == want, "%s: \"%s\" %s: %s", kernel ? "openat2" : "walk", opens[i].path,
			opens[i].how == BENEATH_IN_ROOT     ? "in the root"
			: opens[i].how == BENEATH_LINKS     ? "with links"
			: opens[i].how == BENEATH_ONE_MOUNT ? "on one mount"
							    : "without links",
			got ? strerror(got) : "opened");
	}
}

/* Through the root of this machine, where /proc is: a link of its own kind is never followed. */
static void test_magic(const char *with)
{
	OWN_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/root", (int)getpid());
	ok(try_open(root, path, O_PATH, BENEATH_IN_ROOT) == ELOOP, "%s: %s is a magic link", with,
		path);
	snprintf(path, sizeof path, "proc/%d/fd/%d", (int)getpid(), root);
	ok(try_open(root, path, O_PATH, BENEATH_LINKS) == ELOOP, "%s: so is %s", with, path);
	fd = beneath_open(root, path, O_PATH | O_NOFOLLOW, BENEATH_NO_LINKS);
	ok(fd >= 0, "%s: control: the link itself is there", with);
	ok(try_open(root, "/proc/version", O_PATH, BENEATH_IN_ROOT) == 0 &&
			(!beneath_has_links() || try_open(root, "/proc/version", O_PATH,
							 BENEATH_ONE_MOUNT) == EXDEV),
		"%s: another mount is entered, but not where it is to be one", with);
}

static int try_file(int root, const char *path)
{
	OWN_FD fd = beneath_open_file(root, path, O_RDONLY, BENEATH_NO_LINKS);

	return fd >= 0 ? 0 : errno;
}

static void test_files(int root, const char *with)
{
	ok(try_file(root, "a/f") == 0, "%s: a file is opened", with);
	ok(try_file(root, "pipe") == EINVAL, "%s: a FIFO is not, and nobody waits for it", with);
	ok(try_file(root, "a") == EINVAL, "%s: nor a directory", with);
	ok(try_file(root, "a/last") == ELOOP, "%s: nor a link", with);
}

static bool made(int root, const char *path, mode_t type, mode_t mode)
{
	struct stat st;

	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (st.st_mode & S_IFMT) == type && (st.st_mode & 0777) == mode;
}

static int make(int root, const char *path, bool dir)
{
	OWN_FD fd = (dir ? beneath_make_dir : beneath_make_file)(root, path, BENEATH_IN_ROOT);

	return fd >= 0 ? 0 : errno;
}

static void test_make(int root, bool kernel)
{
	const char *with = kernel ? "openat2" : "walk", *top_name = kernel ? "n1" : "n2";
	char path[64], long_path[PATH_MAX + 2];
	int links = kernel ? 0 : ELOOP;

	snprintf(path, sizeof path, "/%s//x/y", top_name);
	ok(make(root, path, true) == 0 && made(root, path + 1, S_IFDIR, 0755),
		"%s: directories are made", with);
	ok(make(root, path, true) == 0, "%s: or are there", with);
	snprintf(path, sizeof path, "/%s/f/g", top_name);
	ok(make(root, path, false) == 0 && made(root, path + 1, S_IFREG, 0644),
		"%s: and a file with its directory", with);
	ok(make(root, "pipe", false) == 0, "%s: a FIFO may be covered", with);
	ok(make(root, "a", false) == EISDIR, "%s: a directory is no target for a file", with);
	ok(make(root, "a/f", true) == ENOTDIR, "%s: nor the other way", with);
	ok(make(root, "inabs/n", true) == links, "%s: a link %s", with,
		kernel ? "within the root is followed" : "is refused");
	ok(make(root, "rel/new", true) == (kernel ? ENOENT : ELOOP), "%s: one out of it is not",
		with);
	ok(make(root, "none", true) == (kernel ? ENOENT : ELOOP) &&
			make(root, "none", false) == (kernel ? ENOENT : ELOOP),
		"%s: nothing is made through a link to nothing", with);
	memset(long_path, 'a', sizeof long_path - 1);
	long_path[sizeof long_path - 1] = '\0';
	ok(make(root, long_path, true) == ENAMETOOLONG && make(root, long_path, false),
		"%s: a path that is too long", with);
}

static bool out_is_clean(void)
{
	char command[200];

	snprintf(command, sizeof command, "[ \"$(ls -A %s/out)\" = f ] && [ ! -e %s/root/nothing ]",
		top, top);
	return system(command) == 0;
}

/* Renames beside the tree, without end: what openat2 says EAGAIN for is not for the caller. */
static pid_t storm(void)
{
	pid_t pid = fork();
	char a[100], b[100];

	if (pid)
		return pid;
	snprintf(a, sizeof a, "%s/r1", top);
	snprintf(b, sizeof b, "%s/r2", top);
	close(open(a, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	for (;;) {
		rename(a, b);
		rename(b, a);
	}
}

static void test_storm(void)
{
	const uint64_t in_root = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
	const char *path = "a/b/../../a/b/../../a/b/../../a/f";
	unsigned raw = 0, ours = 0, n;
	OWN_FD root = open_root();
	time_t end = time(NULL) + PATIENCE_S;
	pid_t pid = storm();

	for (n = 0; n < 5000 || (!raw && time(NULL) < end); n++) {
		OWN_FD fd = sys_openat2(root, path, O_PATH | O_CLOEXEC, 0, in_root);

		raw += fd < 0 && errno == EAGAIN;
		ours += try_open(root, path, O_PATH, BENEATH_IN_ROOT) != 0;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("# EAGAIN from openat2: %u of %u\n", raw, n);
	ok(raw > 0, "control: a storm of renames is felt by openat2");
	ok(ours == 0, "and not by its callers");
}

/* root/swap is a directory and a link out of the root in turns. */
static pid_t swapper(void)
{
	pid_t pid = fork();
	char a[100], b[100];

	if (pid)
		return pid;
	snprintf(a, sizeof a, "%s/root/swap", top);
	snprintf(b, sizeof b, "%s/root/other", top);
	for (;;)
		renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

static void test_swap(int root, const char *with)
{
	unsigned opened = 0, refused = 0;
	time_t end = time(NULL) + PATIENCE_S;
	pid_t pid;

	(void)!mkdirat(root, "swap", 0755);
	(void)!symlinkat("../out", root, "other");
	pid = swapper();
	for (int i = 0; i < 2000 || ((!opened || !refused) && time(NULL) < end); i++) {
		OWN_FD fd = beneath_make_dir(root, "swap/made", BENEATH_IN_ROOT);
		OWN_FD f = beneath_open(root, "swap/f", O_RDONLY, BENEATH_NO_LINKS);

		opened += fd >= 0;
		refused += fd < 0;
		if (f >= 0)
			break;
		if (i % 16 == 0)
			sched_yield();
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(opened && refused && out_is_clean(),
		"%s: a swapped directory: %u times made, %u refused", with, opened, refused);
}

static void test_all(bool kernel)
{
	const char *with = kernel ? "openat2" : "walk";
	OWN_FD root = open_root();

	ok(beneath_has_links() == kernel, "%s it is", with);
	test_opens(root, kernel);
	test_magic(with);
	test_files(root, with);
	test_make(root, kernel);
	ok(out_is_clean(), "%s: nothing is made outside", with);
	test_swap(root, with);
}

int main(void)
{
	char command[200];

	alarm(800); /* a hang is a failure */
	umask(022);
	if (!ok(prepare(), "a tree of links"))
		return done();
	test_all(true);
	test_storm();
	if (ok(take_openat2(ENOSYS), "without openat2: ENOSYS"))
		test_all(false);
	/* of two filters that say ERRNO the later one's number counts; seccomp(2) */
	if (ok(take_openat2(EPERM), "without openat2: EPERM"))
		test_all(false);
	snprintf(command, sizeof command, "chmod -R u+rwx %s && rm -r %s", top, top);
	ok(system(command) == 0, "and all of it can be removed");
	return done();
}

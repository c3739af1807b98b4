/* unpack() in the jail, as the tree helper runs it: what is left, what is told, what is refused. */
#include "images/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "isolate/buf.h"
#include "isolate/jail.h"
#include "tests/unit/tap.h"
#include "tests/unit/user.h"

static char top[64];  /* fresh directory of the test user */
static char tree[80]; /* the tree below it */

/* --- archives, written by hand so that hostile ones can be */

static void put_header(struct buf *b, const char *name, char type, const char *link, unsigned mode,
	unsigned long size)
{
	char h[512] = {0};
	unsigned sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", mode & 07777777);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011o", (unsigned)size & 07777777777);
	snprintf(h + 136, 12, "%011o", 1700000000);
	h[156] = type;
	snprintf(h + 157, 100, "%s", link);
	memcpy(h + 257, "ustar\00000", 8);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof h; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum & 0777777);
	buf_add(b, h, sizeof h);
}

static void put_file(struct buf *b, const char *name, unsigned mode, const char *text)
{
	static const char zeros[512];
	size_t n = strlen(text);

	put_header(b, name, '0', "", mode, n);
	buf_add(b, text, n);
	buf_add(b, zeros, (512 - n % 512) % 512);
}

static void put_dir(struct buf *b, const char *name, unsigned mode)
{
	put_header(b, name, '5', "", mode, 0);
}

static void put_link(struct buf *b, char type, const char *name, const char *to)
{
	put_header(b, name, type, to, 0777, 0);
}

static void put_end(struct buf *b)
{
	char zeros[1024] = {0};

	buf_add(b, zeros, sizeof zeros);
}

/* --- one run in a child */

static struct answer {
	struct err err;
	struct unpack_stats stats;
	char told[8192]; /* "mode size offset path\n" */
	int entries;
} answer;

static int raw_until; /* the entry after which contents are not wanted any more; 0: none */

static int tell(
	void *arg, const char *path, uint32_t mode, uint64_t size, int64_t at, struct err *e)
{
	struct answer *a = arg;
	size_t n = strlen(a->told);

	(void)e;
	snprintf(a->told + n, sizeof a->told - n, "%o %llu %lld %s\n", mode,
		(unsigned long long)size, (long long)at, path);
	return ++a->entries == raw_until ? UNPACK_NO_RAW : 0;
}

static struct unpack_policy policy(bool layer)
{
	return (struct unpack_policy){.layer = layer,
		.packed_max_bytes = 64 << 20,
		.unpacked_max_bytes = 64 << 20,
		.entries_max = 10000,
		.ratio_max = 250,
		.name_max_bytes = 4096,
		.depth_max = 128};
}

static int child(int in, int raw, struct unpack_policy pol, struct answer *a)
{
	const struct jail_limits lim = {.time_max_s = 60};
	struct unpack_plan plan = {
		.in_fd = in, .raw_fd = raw, .policy = pol, .entry = tell, .arg = a};
	const int keep[] = {in, raw};
	int root;

	become_user();
	root = open(tree, O_RDONLY | O_DIRECTORY);
	if (jail_enter(root, keep, raw < 0 ? 1 : 2, &lim, &a->err) < 0)
		return 97;
	plan.dir_fd = open(".", O_RDONLY | O_DIRECTORY);
	return unpack(&plan, &a->stats, &a->err) < 0 ? 1 : 0;
}

/* Unpacks n bytes over the tree; -1 with answer.err. raw may be -1. */
static int run(const void *p, size_t n, int raw, struct unpack_policy pol)
{
	struct answer *a = mmap(
		NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int in = memfd_create("archive", 0), status = 0;
	pid_t pid;

	if (write(in, p, n) != (ssize_t)n)
		abort();
	lseek(in, 0, SEEK_SET);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(child(in, raw, pol, a));
	waitpid(pid, &status, 0);
	answer = *a;
	munmap(a, sizeof *a);
	close(in);
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) {
		printf("# child: status %d, %s\n", status, answer.err.msg);
		return -2;
	}
	return WEXITSTATUS(status) ? -1 : 0;
}

static int run_buf(struct buf *b, int raw, struct unpack_policy pol)
{
	int r = run(b->p ? b->p : "", b->len, raw, pol);

	buf_clear(b);
	return r;
}

/* --- looking at the tree */

/* Runs a shell command as the owner of the tree, in it. */
static int sh(const char *line)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		become_user();
		if (chdir(tree) == 0)
			execl("/bin/sh", "sh", "-c", line, (char *)NULL);
		_exit(99);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void fresh(void)
{
	char line[400];

	snprintf(line, sizeof line, "chmod -R u+rwx %s 2>/dev/null; rm -rf %s; mkdir -m 755 %s",
		tree, tree, tree);
	if (system(line) != 0 || (geteuid() == 0 && chown(tree, TEST_UID, TEST_UID) < 0))
		abort();
}

static struct stat look(const char *name)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", tree, name);
	if (lstat(path, &st) < 0)
		memset(&st, 0, sizeof st);
	return st;
}

static bool holds(const char *name, const char *text)
{
	char path[300], got[200];
	int fd;
	ssize_t n;

	snprintf(path, sizeof path, "%s/%s", tree, name);
	fd = open(path, O_RDONLY | O_NOFOLLOW);
	n = fd < 0 ? -1 : read(fd, got, sizeof got);
	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) && !memcmp(got, text, (size_t)n);
}

static bool links_to(const char *name, const char *text)
{
	char path[300], got[200];
	ssize_t n;

	snprintf(path, sizeof path, "%s/%s", tree, name);
	n = readlink(path, got, sizeof got);
	return n == (ssize_t)strlen(text) && !memcmp(got, text, (size_t)n);
}

/* --- tests */

static void client_basics(void)
{
	struct buf b = BUF_INIT(1 << 20);
	int raw = memfd_create("raw", 0);
	char got[64] = {0};

	fresh();
	put_dir(&b, "./", 0700);
	put_dir(&b, "./closed/", 0);
	put_file(&b, "./closed/f", 0400, "first");
	put_file(&b, "run.sh", 06710, "#!");
	put_link(&b, '2', "in", "closed/f");
	put_link(&b, '2', "out", "/etc/passwd");
	put_link(&b, '2', "up", "../x");
	put_link(&b, '1', "hard", "closed/f");
	put_link(&b, '1', "nothing", "absent");
	put_link(&b, '6', "fifo", "");
	put_file(&b, "no/entry/for/this", 0644, "");
	put_end(&b);
	ok(run_buf(&b, raw, policy(false)) == 0, "a client's archive is taken: %s", answer.err.msg);
	is_str(answer.told,
		"40755 0 -1 closed\n100644 5 0 closed/f\n100755 2 5 run.sh\n"
		"120777 8 -1 in\n100644 5 0 hard\n100644 0 7 no/entry/for/this\n",
		"what exists is told, with the place of the contents");
	ok(pread(raw, got, sizeof got, 0) == 7 && !memcmp(got, "first#!", 7),
		"the contents are in the raw file");
	ok(answer.stats.skipped == 4 && answer.stats.hardlinks == 1 && answer.stats.files == 3,
		"unsafe links and the FIFO are skipped and counted");
	ok(holds("closed/f", "first") && look("closed").st_mode == (S_IFDIR | 0755),
		"a 000 directory is opened up, the file below it is there");
	ok(look("closed/f").st_mode == (S_IFREG | 0644) &&
			look("run.sh").st_mode == (S_IFREG | 0755),
		"modes a+rX,u+w without setid");
	ok(look("closed").st_mtime == 0 && look("run.sh").st_mtime == 0 && look("in").st_mtime == 0,
		"mtime 0");
	ok(look("hard").st_nlink == 2 && look("hard").st_ino == look("closed/f").st_ino,
		"the hard link is one");
	ok(links_to("in", "closed/f") && look("out").st_mode == 0 && look("up").st_mode == 0,
		"only the link that stays inside is kept");
	close(raw);
}

static void contents_until(void)
{
	struct buf b = BUF_INIT(1 << 20);
	int raw = memfd_create("raw", 0);
	char got[16] = {0};

	fresh();
	put_file(&b, "a", 0644, "one");
	put_file(&b, "b", 0644, "two");
	put_file(&b, "c", 0644, "three");
	put_link(&b, '1', "d", "a");
	put_end(&b);
	raw_until = 2;
	ok(run_buf(&b, raw, policy(false)) == 0, "contents until the second entry");
	raw_until = 0;
	is_str(answer.told, "100644 3 0 a\n100644 3 3 b\n100644 5 -1 c\n100644 3 0 d\n",
		"then none has a place");
	ok(pread(raw, got, sizeof got, 0) == 6 && !memcmp(got, "onetwo", 6), "nor contents");
	ok(holds("c", "three"), "the file itself has them");
	close(raw);
}

/* What a tenant may have left, and what an archive may say twice. */
static void client_over(void)
{
	struct buf b = BUF_INIT(1 << 20);

	fresh();
	ok(sh("mkdir -p real keep was/d/d locked && echo tenant > real/f && ln -s real dir &&"
	      " ln -s real/f file && mkfifo pipe && echo x > was/d/d/x && chmod 000 was/d && "
	      "echo t > keep/mine && chmod 000 locked && ln -s real l1 && ln -s l1 l2") == 0,
		"a tenant's tree");
	put_file(&b, "dir/f", 0644, "archive");
	put_file(&b, "file", 0644, "archive");
	put_file(&b, "pipe", 0644, "archive");
	put_file(&b, "was", 0644, "archive");
	put_file(&b, "keep/new", 0644, "archive");
	put_file(&b, "locked/f", 0644, "archive");
	put_file(&b, "l2/f", 0644, "archive");
	put_end(&b);
	ok(run_buf(&b, -1, policy(false)) == 0, "an archive over it: %s", answer.err.msg);
	ok(holds("real/f", "tenant\n"), "nothing was written through the tenant's links");
	ok(holds("dir/f", "archive") && holds("l2/f", "archive") && S_ISDIR(look("dir").st_mode),
		"a link in the way became a directory");
	ok(holds("file", "archive") && holds("pipe", "archive") && holds("was", "archive"),
		"a link, a FIFO and a locked tree gave way to files");
	ok(holds("keep/mine", "t\n") && holds("keep/new", "archive"), "what is not named stays");
	ok(sh("chmod 755 locked") == 0 && holds("locked/f", "archive"),
		"a 000 directory without an entry can be written to");

	fresh();
	put_file(&b, "d", 0644, "1");
	put_file(&b, "d", 0600, "22");
	put_dir(&b, "d", 0755);
	put_file(&b, "d/x", 0644, "x");
	put_link(&b, '2', "d", "e");
	put_file(&b, "d/y", 0644, "y");
	put_link(&b, '1', "d/y", "d/y");
	put_end(&b);
	ok(run_buf(&b, -1, policy(false)) == 0, "the same name five times: %s", answer.err.msg);
	ok(S_ISDIR(look("d").st_mode) && holds("d/y", "y") && look("d/x").st_mode == 0,
		"the later entry counts");
}

static void refused(struct buf *b, struct unpack_policy pol, int kind, const char *message)
{
	fresh();
	ok(run_buf(b, -1, pol) == -1 && answer.err.kind == kind && strstr(answer.err.msg, message),
		"refused: %s", message);
	if (!strstr(answer.err.msg, message))
		printf("# got: %d %s\n", answer.err.kind, answer.err.msg);
}

static void client_refused(void)
{
	struct unpack_policy pol = policy(false);
	struct buf b = BUF_INIT(64 << 20);

	put_file(&b, "../x", 0644, "x");
	put_end(&b);
	refused(&b, pol, ERR_REQUEST, "Archive contains a parent-directory traversal path: '../x'");
	put_file(&b, "/x", 0644, "x");
	put_end(&b);
	refused(&b, pol, ERR_REQUEST, "Archive contains an absolute path: '/x'");
	refused(&b, pol, ERR_REQUEST, "Invalid or truncated archive: ");
	buf_adds(&b, "PK\003\004 this is no tar archive at all, but long enough to be read");
	refused(&b, pol, ERR_REQUEST, "Invalid or truncated archive: ");
	buf_adds(&b, "#mtree\n./x type=file contents=/etc/passwd\n");
	refused(&b, pol, ERR_REQUEST, "Invalid or truncated archive: ");
	put_file(&b, "x", 0644, "some text that will be cut off in the middle of its block");
	b.len -= 480;
	refused(&b, pol, ERR_REQUEST, "Invalid or truncated archive: ");
	put_file(&b, "x", 0644, "");
	b.p[5] = 'y'; /* the checksum is wrong now */
	put_end(&b);
	refused(&b, pol, ERR_REQUEST, "Invalid or truncated archive: ");

	for (int i = 0; i < 4; i++)
		put_dir(&b, "d", 0755);
	put_end(&b);
	pol.entries_max = 3;
	refused(&b, pol, ERR_LIMIT, "archive_entries_max (3)");
	put_header(&b, "big", '0', "", 0644, 1 << 20);
	pol = policy(false);
	pol.unpacked_max_bytes = 1000000;
	refused(&b, pol, ERR_LIMIT, "archive_unpacked_max_bytes (1000000 bytes)");
	for (int i = 0; i < 700; i++)
		put_file(&b, "f", 0644, "x");
	put_end(&b);
	pol = policy(false);
	pol.packed_max_bytes = 300000;
	refused(&b, pol, ERR_LIMIT, "archive_max_bytes (300000 bytes)");
}

static void empty_ones(void)
{
	struct buf b = BUF_INIT(1 << 20);

	fresh();
	put_end(&b);
	ok(run_buf(&b, -1, policy(false)) == 0 && answer.stats.entries == 0,
		"two blocks of zeros are an empty archive");
	put_file(&b, "f", 0644, "x");
	put_end(&b);
	buf_adds(&b, "trailing garbage");
	ok(run_buf(&b, -1, policy(false)) == 0 && holds("f", "x"),
		"what follows the end marker means nothing");
}

static void layers(void)
{
	struct buf b = BUF_INIT(1 << 20);
	char path[300], value[4];
	struct stat st;

	fresh();
	put_link(&b, '2', "lib", "usr/lib");
	put_dir(&b, "usr/lib", 0755);
	put_file(&b, "lib/b", 04755, "b");
	put_file(&b, "/etc/shadow", 0, "s");
	put_link(&b, '2', "abs", "/etc");
	put_file(&b, "abs/through", 0644, "t");
	put_file(&b, "a/.wh.gone", 0644, "");
	put_file(&b, ".wh.again", 0644, "");
	put_dir(&b, "again", 0711);
	put_dir(&b, "kept", 0755);
	put_file(&b, ".wh.kept", 0644, "");
	put_file(&b, "new", 0644, "");
	put_file(&b, ".wh.new", 0644, "");
	put_file(&b, "abs/.wh.hidden", 0644, "");
	put_file(&b, "lib/.wh..wh..opq", 0644, "");
	put_file(&b, "new/.wh.below", 0644, "");
	put_dir(&b, "ro", 0555);
	put_file(&b, "ro/f", 0444, "f");
	put_header(&b, "null", '3', "", 0666, 0);
	put_end(&b);
	ok(run_buf(&b, -1, policy(true)) == 0, "a layer is taken: %s", answer.err.msg);
	ok(links_to("lib", "usr/lib") && holds("usr/lib/b", "b"),
		"lib stays a link, lib/b lands behind");
	ok(holds("etc/through", "t"), "an absolute link means the layer's own root");
	ok(look("usr/lib/b").st_mode == (S_IFREG | 0755), "setuid is gone");
	ok(look("etc/shadow").st_mode == S_IFREG && look("usr/lib/b").st_mtime == 1700000000,
		"mode 000 and the time are kept");
	st = look("a/gone");
	ok(S_ISCHR(st.st_mode) && st.st_rdev == 0, "a whiteout is a 0:0 device");
	snprintf(path, sizeof path, "%s/again", tree);
	ok(getxattr(path, "user.overlay.opaque", value, sizeof value) == 1 &&
			look("again").st_mode == (S_IFDIR | 0711),
		"deleted and made again: an opaque directory");
	snprintf(path, sizeof path, "%s/kept", tree);
	ok(getxattr(path, "user.overlay.opaque", value, sizeof value) == 1,
		"the same with the marker behind the directory");
	ok(S_ISREG(look("new").st_mode), "a marker does not delete what its own layer brings");
	ok(look("ro").st_mode == (S_IFDIR | 0555) && holds("ro/f", "f"), "a 0555 directory");
	ok(look("null").st_mode == 0 && answer.stats.skipped == 4,
		"devices are dropped and counted, and markers below links and files");
	snprintf(path, sizeof path, "%s/usr/lib", tree);
	ok(look("etc/hidden").st_mode == 0 && links_to("abs", "/etc") &&
			getxattr(path, "user.overlay.opaque", value, sizeof value) < 0,
		"such a marker hides nothing elsewhere, and the link stays");

	fresh();
	put_link(&b, '1', "h", "absent");
	put_end(&b);
	ok(run_buf(&b, -1, policy(true)) == -1 && answer.err.kind == ERR_REQUEST,
		"a hard link to nothing makes a layer invalid");
}

/* What GNU tar writes: long names, holes, compressions. */
static void from_tar(const char *make, const char *check, const char *what)
{
	char path[128], line[1200];
	char *bytes = malloc(64 << 20);
	int raw = memfd_create("raw", 0), fd;
	ssize_t n;

	fresh();
	snprintf(path, sizeof path, "%s/archive", top);
	snprintf(
		line, sizeof line, "cd %s && rm -rf s archive && mkdir s && cd s && %s", top, make);
	if (!ok(system(line) == 0, "made: %s", what))
		return;
	fd = open(path, O_RDONLY);
	n = fd < 0 ? -1 : read(fd, bytes, 64 << 20);
	close(fd);
	ok(n > 0 && run(bytes, (size_t)n, raw, policy(false)) == 0, "%s: %s", what, answer.err.msg);
	snprintf(line, sizeof line, "cd %s && %s", tree, check);
	ok(system(line) == 0, "%s: same contents", what);
	free(bytes);
	close(raw);
}

static void tar_forms(void)
{
	static const char *const zip[] = {"gzip", "bzip2", "xz", "zstd"};
	char make[200];

	from_tar("n=$(printf %0200d 7) && mkdir $n && echo x > $n/$n && ln -s $n/$n l && "
		 "tar -cf ../archive --format=gnu .",
		"diff -r . ../s", "GNU long names");
	from_tar("n=$(printf %0200d 7) && mkdir $n && echo x > $n/$n && ln -s $n/$n l && "
		 "printf x > \"$(printf 'caf\\303\\251')\" && printf y > \"$(printf 'bad\\377')\" "
		 "&& "
		 "tar -cf ../archive --format=posix .",
		"diff -r . ../s", "pax names, UTF-8 and not");
	from_tar("truncate -s 5000000 f && echo end >> f && truncate -s 6000000 f && "
		 "tar --sparse -cf ../archive --format=posix f",
		"cmp f ../s/f && test $(du -k f | cut -f1) -lt 1000", "a sparse file");
	for (size_t i = 0; i < sizeof zip / sizeof *zip; i++) {
		snprintf(make, sizeof make, "seq 1 20000 > f && tar -c . | %s -c > ../archive",
			zip[i]);
		if (access("/usr/bin/zstd", X_OK) < 0 && !strcmp(zip[i], "zstd") &&
			!getenv("MUST_WORK"))
			printf("ok %d - zstd # SKIP zstd is not installed\n", ++tap_count);
		else
			from_tar(make, "diff -r . ../s", zip[i]);
	}
}

static void from_tar_refused(const char *make, int kind, const char *message)
{
	char path[128], line[400];
	struct buf b = BUF_INIT(64 << 20);
	int fd;
	ssize_t n;

	snprintf(path, sizeof path, "%s/archive", top);
	snprintf(line, sizeof line, "cd %s && %s", top, make);
	ok(system(line) == 0, "made: %s", make);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? 0 : read(fd, buf_room(&b, 8 << 20), 8 << 20);
	b.len = n > 0 ? (size_t)n : 0;
	close(fd);
	refused(&b, policy(false), kind, message);
}

int main(void)
{
	char line[200];

	snprintf(top, sizeof top, "/tmp/images-unpack-XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0755) < 0)
		return 1;
	snprintf(tree, sizeof tree, "%s/tree", top);
	client_basics();
	contents_until();
	client_over();
	client_refused();
	empty_ones();
	layers();
	tar_forms();
	from_tar_refused("head -c 40000000 /dev/zero > z && tar -c z | gzip > archive && rm z",
		ERR_LIMIT, "archive_ratio_max (250)");
	from_tar_refused(
		"mkdir m && seq -f m/%06.0f 5000 | xargs touch && tar -c m | gzip > archive",
		ERR_LIMIT, "archive_ratio_max (250)");
	from_tar("n=0; while [ $n -lt 300 ]; do n=$((n+1)); printf '' > $n; done; "
		 "head -c 100000 /dev/urandom > r; tar -c . | gzip > ../archive",
		"diff -r . ../s", "fewer empty files");
	from_tar("seq -f m-%06.0f 5000 | xargs touch; head -c 200000 /dev/urandom > 0; "
		 "tar -c --sort=name . | gzip > ../archive",
		"diff -r . ../s", "as many, beside something");
	from_tar_refused(
		"tar -c s | gzip | gzip > archive", ERR_REQUEST, "compressed more than once");
	from_tar_refused("tar -c s | gzip | head -c 200 > archive", ERR_REQUEST,
		"Invalid or truncated archive: ");
	snprintf(line, sizeof line, "chmod -R u+rwx %s; rm -rf %s", top, top);
	return system(line) != 0 ? 1 : done();
}

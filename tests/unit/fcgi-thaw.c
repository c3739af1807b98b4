/* ws_thaw(): a session's own directories out of shared layers, whatever was left there, with the baseline beside. */
#include "fcgi/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct ws_limits limits = {.patch_max_bytes = 1 << 20};

static bool sh(const char *command)
{
	return system(command) == 0;
}

static int layer(const char *name)
{
	return open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static uint64_t patch_bytes(const struct ws_layout *lay)
{
	OWN_FD out = memfd_create("patch", MFD_CLOEXEC);
	uint64_t bytes = UINT64_MAX;
	struct err e = {0};

	return ws_patch(lay, NULL, out, &limits, &bytes, &e) == 0 ? bytes : UINT64_MAX;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_nlink == 2;
}

static const char make_layers[] =
	"mkdir -p s/ws/tree/old s/ws/new/old s/root/upper-3/old l/fs/d/e r/fs/home r/fs/tmp && cd "
	"l/fs && "
	"echo one >d/a && ln d/a b && ln -s d/a c && mkfifo p && truncate -s 64M holes && "
	"echo end >>holes && chmod 640 b && touch -d @981173106 d/a && : >empty && echo x >d/e/f "
	"&& "
	"touch -d @981173107 d && chmod 500 d && echo s >../../r/fs/home/h && chmod 1777 "
	"../../r/fs/tmp && "
	"chmod 751 .";

static void check_copy(void)
{
	struct stat st;

	ok(same_file("tree/b", "tree/d/a"), "names of one file stay that");
	ok(stat("tree/b", &st) == 0 && (st.st_mode & 07777) == 0640 && st.st_mtime == 981173106,
		"mode and time of a file");
	ok(stat("tree/d", &st) == 0 && (st.st_mode & 07777) == 0500 && st.st_mtime == 981173107,
		"of a directory");
	ok(stat("tree", &st) == 0 && (st.st_mode & 07777) == 0751, "of the tree's own");
	ok(stat("tree/holes", &st) == 0 && st.st_size == (64 << 20) + 4 && st.st_blocks < 2000,
		"holes stay holes");
	ok(sh("cmp -s tree/holes ../../l/fs/holes"), "around the same bytes");
	ok(lstat("tree/p", &st) == 0 && S_ISFIFO(st.st_mode), "a FIFO, which holds nobody up");
	ok(lstat("tree/c", &st) == 0 && S_ISLNK(st.st_mode) &&
			sh("test \"$(readlink tree/c)\" = d/a"),
		"a link");
	ok(access("tree/old", F_OK) < 0 && access("new", F_OK) < 0, "nothing of a crash is left");
	ok(access("../root/upper-3/old", F_OK) < 0 &&
			sh("test \"$(cat ../root/upper-3/home/h)\" = s"),
		"nor in the root's, which is there");
	ok(stat("../root/upper-3/tmp", &st) == 0 && (st.st_mode & 07777) == 01777,
		"with its modes");
}

static struct ws_layout of(uint32_t base)
{
	return (struct ws_layout){.form = WS_OVERLAY,
		.top = 4,
		.shared = {.n = 1},
		.base_kind = base,
		.base_at = base != WS_BASE_NONE,
		.root = {.n = 1},
		.root_top = 2,
		.entries = 7};
}

/* Leaves the current directory in ws/. */
static int thaw(struct ws_layout *lay, struct err *e)
{
	OWN_FD l = layer("../l"), r = layer("../r");

	return ws_thaw(lay, &l, &r, e);
}

static void test_commit(void)
{
	struct ws_layout lay = of(WS_BASE_STATE);
	struct err e = {0};

	if (!ok(thaw(&lay, &e) == 0, "a committed tree: %s", e.msg))
		return;
	ok(lay.form == WS_PLAIN && !lay.shared.n && !lay.root.n && lay.root_top == 3 &&
			lay.top == 4 && lay.entries == 7,
		"its layout has no layers");
	check_copy();
	ok(patch_bytes(&lay) == 0, "it is the baseline");
	ok(sh("echo two >tree/b") && patch_bytes(&lay) > 0, "control: a change is one");
	ok(sh("echo one >tree/b") && patch_bytes(&lay) == 0, "until it is undone");
}

static void test_archive(void)
{
	struct ws_layout lay = of(WS_BASE_INDEX), again;
	struct err e = {0};

	/* what the session before left is a tree with an archive's index beside it */
	if (!ok(sh("chmod 700 ../../l/fs/d && rm -rf ../../l/fs && echo 2 >tree/d/e/f && mv tree "
		   "base.idx base.raw rest.idx "
		   "../../l && "
		   "mv ../../l/tree ../../l/fs && mkdir tree") &&
			    chdir("..") == 0,
		    "the same, changed, as a layer with its index"))
		return;
	lay.root_top = 3;
	again = lay;
	if (!ok(thaw(&lay, &e) == 0 && lay.form == WS_PLAIN, "a tree and its archive: %s", e.msg))
		return;
	ok(patch_bytes(&lay) > 0 && sh("echo x >tree/d/e/f") && patch_bytes(&lay) == 0,
		"the baseline is still the archive");
	ok(chdir("..") == 0 && thaw(&again, &e) == 0 && patch_bytes(&again) > 0,
		"a crash before the layout is stored: once more");
}

static void test_none(void)
{
	struct ws_layout lay = of(WS_BASE_NONE);
	struct err e = {0};

	lay.root.n = 0;
	ok(chdir("..") == 0 && thaw(&lay, &e) == 0 && lay.form == WS_EMPTY && lay.root_top == 2,
		"no archive: %s", e.msg);
	ok(access("tree/d/e/f", F_OK) == 0, "its files are there");
}

static void test_refused(void)
{
	struct ws_layout lay = of(WS_BASE_NONE);
	struct err e = {0};

	lay.shared.n = 2;
	ok(thaw(&lay, &e) < 0 && e.kind == ERR_REQUEST, "two layers are refused");
	lay = of(WS_BASE_NONE);
	lay.root.n = 2;
	ok(thaw(&lay, &e) < 0 && e.kind == ERR_REQUEST, "two of the root");
	lay = of(WS_BASE_ARCHIVE);
	ok(thaw(&lay, &e) < 0 && e.kind == ERR_REQUEST, "an archive that is a layer");
	lay = of(WS_BASE_STATE);
	lay.top = 0;
	ok(thaw(&lay, &e) < 0 && e.kind == ERR_BUG, "a layout out of range");
}

static void test_too_long(void)
{
	struct ws_layout lay = of(WS_BASE_NONE);
	struct err e = {0};

	if (!ok(chdir("..") == 0 && sh("cd ../l/fs && n=$(printf %0200d 0) && i=0 && while [ $i "
				       "-lt 20 ]; do "
				       "mkdir $n && cd $n && i=$((i + 1)) || exit 1; done"),
		    "a path of 4,000 bytes"))
		return;
	ok(thaw(&lay, &e) < 0 && e.kind == ERR_LIMIT, "is an error, not left out: %s", e.msg);
}

int main(void)
{
	char dir[] = "/var/tmp/cgibox-thaw.XXXXXX";

	if (!mkdtemp(dir) || chdir(dir) < 0 || !sh(make_layers) || chdir("s") < 0)
		skip_all("no directory for it");
	git_libgit2_init();
	test_refused();
	test_commit();
	test_archive();
	test_none();
	test_too_long();
	if (chdir(dir) < 0 || !sh("chmod -R u+rwX . && rm -rf -- \"$PWD\""))
		printf("# left: %s\n", dir);
	return done();
}

#include "images/entry.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "isolate/buf.h"
#include "tests/unit/tap.h"

static struct entry out;
static struct err e;

static int decide(bool layer, const char *name, mode_t mode, const char *link, bool hardlink)
{
	const struct entry_rules rules = {layer, 4096, 128};
	const struct entry_source in = {name, link, hardlink, mode};

	memset(&e, 0, sizeof e);
	return entry_decide(&in, &rules, &out, &e);
}

static void taken(bool layer, const char *name, mode_t mode, const char *link, bool hardlink,
	enum entry_action action, const char *path)
{
	int r = decide(layer, name, mode, link, hardlink);

	ok(r == 0 && out.action == action, "%s %s%s%s: action %d", layer ? "layer" : "client", name,
		link ? " -> " : "", link ? link : "", action);
	is_str(out.path, path, "its path");
}

static void refused(bool layer, const char *name, int kind, const char *message)
{
	char shown[60];

	ok(decide(layer, name, S_IFREG | 0644, NULL, false) < 0 && e.kind == kind, "refused: %s",
		quote(name, strlen(name), shown, sizeof shown));
	is_str(e.msg, message, "its message");
}

static void mode(bool layer, mode_t in, mode_t want)
{
	decide(layer, "x", in, NULL, false);
	ok(out.mode == want, "%s mode %o becomes %o (got %o)", layer ? "layer" : "client", in, want,
		out.mode);
}

static void names(void)
{
	char deep[600] = "a", *big = malloc(5000);

	taken(false, "a/b", S_IFREG, NULL, false, ENTRY_FILE, "a/b");
	taken(false, "./a//b/./", S_IFDIR, NULL, false, ENTRY_DIRECTORY, "a/b");
	taken(false, "./", S_IFDIR, NULL, false, ENTRY_ROOT, "");
	taken(false, ".", S_IFLNK, "/etc", false, ENTRY_SKIP, "");
	taken(false, "..x/...", S_IFREG, NULL, false, ENTRY_FILE, "..x/...");
	taken(true, "/etc/passwd", S_IFREG, NULL, false, ENTRY_FILE, "etc/passwd");
	taken(false, "dev", S_IFCHR, NULL, false, ENTRY_SKIP, "dev");
	taken(true, "fifo", S_IFIFO, NULL, false, ENTRY_SKIP, "fifo");
	refused(false, "../x", ERR_REQUEST,
		"Archive contains a parent-directory traversal path: '../x'");
	refused(false, "a/../b", ERR_REQUEST,
		"Archive contains a parent-directory traversal path: 'a/../b'");
	refused(true, "a/..", ERR_REQUEST,
		"Archive contains a parent-directory traversal path: 'a/..'");
	refused(false, "/x", ERR_REQUEST, "Archive contains an absolute path: '/x'");
	refused(false, "/a\n'b", ERR_REQUEST, "Archive contains an absolute path: '/a\\x0a\\x27b'");
	refused(false, "", ERR_REQUEST,
		"Invalid or truncated archive: an entry has no usable name");
	for (int i = 0; i < 127; i++)
		strcat(deep, "/a");
	ok(decide(false, deep, S_IFREG, NULL, false) == 0, "128 components are accepted");
	strcat(deep, "/a");
	ok(decide(false, deep, S_IFREG, NULL, false) < 0 && e.kind == ERR_LIMIT &&
			strstr(e.msg, "more than 128 components: 'a/a/"),
		"129 are refused");
	memset(big, 'n', 4999);
	big[256] = '\0';
	ok(decide(false, big, S_IFREG, NULL, false) < 0 && e.kind == ERR_LIMIT,
		"a component of 256 bytes is refused");
	big[255] = '\0';
	ok(decide(false, big, S_IFREG, NULL, false) == 0, "one of 255 is accepted");
	big[255] = big[256] = 'n';
	for (int i = 100; i < 4999; i += 100)
		big[i] = '/';
	big[4096] = '\0';
	ok(decide(false, big, S_IFREG, NULL, false) == 0, "a path of 4096 bytes is accepted");
	big[4096] = 'n';
	big[4097] = '\0';
	ok(decide(false, big, S_IFREG, NULL, false) < 0 && e.kind == ERR_LIMIT,
		"one of 4097 is refused");
	free(big);
}

static void links(void)
{
	static const char *const inside[] = {
		"f", "../f", "./f", "../../f", "x/../..//f", "..", "../.."};
	static const char *const outside[] = {
		"/f", "../../../f", "x/../../../../f", "", "../..//../f"};

	for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
		taken(false, "a/b/l", S_IFLNK, inside[i], false, ENTRY_SYMLINK, "a/b/l");
	for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
		taken(false, "a/b/l", S_IFLNK, outside[i], false, ENTRY_SKIP, "a/b/l");
	taken(true, "l", S_IFLNK, "/etc/../..", false, ENTRY_SYMLINK, "l");
	taken(false, "h", S_IFREG, "./a//b", true, ENTRY_HARDLINK, "h");
	is_str(out.link, "a/b", "the target of a hard link is normalised");
	taken(false, "h", S_IFREG, "../a", true, ENTRY_SKIP, "h");
	taken(false, "h", S_IFREG, "/a", true, ENTRY_SKIP, "h");
	taken(false, "h", S_IFREG, ".", true, ENTRY_SKIP, "h");
	taken(true, "h", S_IFREG, "/a", true, ENTRY_HARDLINK, "h");
	is_str(out.link, "a", "a layer's loses its slash");
	ok(decide(true, "h", S_IFREG, "../a", true) < 0, "a layer's may not climb");
}

static void whiteouts(void)
{
	taken(true, "a/.wh.b", S_IFREG, NULL, false, ENTRY_WHITEOUT, "a/b");
	taken(true, ".wh.b", S_IFREG, NULL, false, ENTRY_WHITEOUT, "b");
	taken(true, "a/.wh..wh..opq", S_IFREG, NULL, false, ENTRY_OPAQUE, "a");
	taken(true, ".wh..wh..opq", S_IFREG, NULL, false, ENTRY_OPAQUE, "");
	taken(true, ".wh..", S_IFREG, NULL, false, ENTRY_SKIP, ".wh..");
	taken(true, ".wh...", S_IFREG, NULL, false, ENTRY_SKIP, ".wh...");
	taken(true, ".wh.", S_IFREG, NULL, false, ENTRY_SKIP, ".wh.");
	taken(true, "a/.wh..wh.plnk", S_IFREG, NULL, false, ENTRY_SKIP, "a/.wh..wh.plnk");
	taken(true, "a/.wh.b/c", S_IFREG, NULL, false, ENTRY_SKIP, "a/.wh.b/c");
	taken(true, "a.wh.b", S_IFREG, NULL, false, ENTRY_FILE, "a.wh.b");
	taken(false, "a/.wh.b", S_IFREG, NULL, false, ENTRY_FILE, "a/.wh.b");
}

int main(void)
{
	names();
	links();
	whiteouts();
	mode(false, S_IFREG | 0000, 0644);
	mode(false, S_IFREG | 06711, 0755);
	mode(false, S_IFREG | 0100, 0755);
	mode(false, S_IFREG | 0666, 0666);
	mode(false, S_IFDIR | 0000, 0755);
	mode(false, S_IFDIR | 01777, 0777);
	mode(true, S_IFREG | 06755, 0755);
	mode(true, S_IFREG | 0000, 0000);
	mode(true, S_IFDIR | 03555, 01555);
	return done();
}

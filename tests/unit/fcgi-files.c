/* File verbs on the trees of real sessions, through the keeper, and beside a hostile sandbox. */
#include "tests/unit/keeper.h"

#include <string.h>

#include "fcgi/files.h"

struct ask {
	uint32_t verb, flags, mode;
	int64_t offset, limit, total;
	const char *text[8];
	const char *data; /* what goes in */
	size_t data_bytes;
};

static struct service s;
static char id[SESSION_ID_LEN + 1];
static char back[1 << 20]; /* what came out */

/* The code, or -1. */
static int files_at(const char *session, struct ask a, struct files_result *r)
{
	struct files_order o = {a.verb, a.flags, a.mode, 0, a.offset, a.limit, a.total};
	OWN_BUF texts = BUF_INIT(1 << 20);
	OWN_FD data = memfd_create("data", MFD_CLOEXEC);
	struct err e = {0};
	ssize_t n;

	for (int i = 0; i < 8 && a.text[i]; i++)
		files_put_text(&texts, a.text[i], strlen(a.text[i]));
	if (a.data && !a.data_bytes)
		a.data_bytes = strlen(a.data);
	if (a.data && write(data, a.data, a.data_bytes) != (ssize_t)a.data_bytes)
		return -1;
	if (ops->files(s.b, session, &o, &texts, data, r, &e) < 0) {
		printf("# %s (%s)\n", e.msg, strerror(e.errnum));
		return -1;
	}
	n = pread(data, back, r->bytes < (int64_t)sizeof back ? (size_t)r->bytes : sizeof back - 1,
		0);
	back[n > 0 ? n : 0] = '\0';
	if (*r->text)
		printf("# %s\n", r->text);
	return (int)r->code;
}

static int files(struct ask a, struct files_result *r)
{
	return files_at(id, a, r);
}

static int write_file(const char *path, const char *text)
{
	struct files_result r;

	return files((struct ask){.verb = FILES_WRITE, .text = {path}, .data = text}, &r);
}

static int fetch(const char *path)
{
	struct files_result r;

	return files((struct ask){.verb = FILES_FETCH, .text = {path}}, &r);
}

static int shell(const char *command, char *out, size_t size)
{
	struct session_info info;
	struct result r = {0};
	struct err e;
	struct session_call *c = open_session(&s, id, -1, &info, &e);
	int ret = c ? run(c, command, 20000, &r, out, size) : -1;

	ops->close(c);
	return ret < 0 ? -1 : r.exit_code;
}

static void test_round_trip(void)
{
	struct files_result r;
	char out[256];

	ok(write_file("/repo/a.txt", "alpha\n") == FILES_OK, "a file is written");
	ok(shell("cat a.txt; stat -c '%a %u' a.txt", out, sizeof out) == 0 &&
			!strcmp(out, "alpha\n644 1000\n"),
		"and a command sees it, with its mode and owner");
	ok(shell("echo two > b; ln -s ../etc/passwd up; mkdir -p d/e; echo x > "
		 "/home/daiv-sandbox/h; "
		 "echo t > /tmp/t; mkfifo f; chmod 000 d; printf 'a\\r\\nb\\vc' > lines",
		   out, sizeof out) == 0,
		"a command writes");
	ok(fetch("/repo/b") == FILES_OK && !strcmp(back, "two\n"), "and it is read");
	ok(fetch("/home/daiv-sandbox/h") == FILES_OK && !strcmp(back, "x\n"), "also its home");
	ok(fetch("/tmp/t") == FILES_OK && !strcmp(back, "t\n"), "and /tmp");
	ok(fetch("/repo/up") == FILES_OK && strstr(back, "nobody") != NULL,
		"a link inside is followed");
	ok(fetch("/repo/f") == FILES_NOT_FILE, "a FIFO is refused, and nobody waits");
	ok(fetch("/repo/none") == FILES_NOT_FOUND, "what is not there");
	ok(fetch("/repo") == FILES_IS_DIR, "a directory");
	ok(fetch("/repo/b/c") == FILES_NOT_DIR, "below a file");
	ok(files((struct ask){.verb = FILES_LINES, .limit = 10, .text = {"/repo/lines"}}, &r) ==
				FILES_OK &&
			!strcmp(back, "a\nb\nc") && r.n[0] == 3 && r.n[1] == 3,
		"lines as Python parts them");
	ok(files(
		   (struct ask){
			   .verb = FILES_LINES, .offset = 1, .limit = 1, .text = {"/repo/lines"}},
		   &r) == FILES_OK &&
			!strcmp(back, "b") && r.n[1] == 2,
		"a window of them");
	ok(files(
		   (struct ask){
			   .verb = FILES_LINES, .offset = 3, .limit = 1, .text = {"/repo/lines"}},
		   &r) == FILES_BAD_OFFSET &&
			r.n[0] == 3,
		"beyond the end");
	ok(files((struct ask){.verb = FILES_STAT, .text = {"/repo/d"}}, &r) == FILES_OK &&
			r.mode == (S_IFDIR | 0000),
		"stat");
	ok(write_file("/repo/d/e/in", "deep") == FILES_OK && fetch("/repo/d/e/in") == FILES_OK,
		"below a directory of mode 000");
}

static void test_list(void)
{
	struct files_result r;
	struct files_record rec;
	OWN_BUF b = BUF_INIT(1 << 16);
	int64_t at = 0;
	struct err e = {0};
	OWN_FD data = memfd_create("copy", MFD_CLOEXEC);

	ok(files((struct ask){.verb = FILES_LIST, .text = {"/repo"}}, &r) == FILES_OK &&
			r.records == 6,
		"a list has all names");
	(void)!write(data, back, (size_t)r.bytes);
	ok(files_next(data, &at, r.bytes, &rec, &b, &e) == 1 && !strcmp(b.p, "a.txt") &&
			rec.size == 6,
		"in order");
	ok(files((struct ask){.verb = FILES_GLOB, .text = {"/repo", "**/in", "x"}}, &r) ==
				FILES_OK &&
			r.records == 1 && strstr(back + sizeof rec, "d/e/in"),
		"glob finds by path");
	ok(files((struct ask){.verb = FILES_GLOB, .text = {"/repo", "**/in", "e"}}, &r) ==
				FILES_OK &&
			r.records == 0,
		"but not below what is left out");
	ok(files((struct ask){.verb = FILES_GREP, .text = {"/repo", "^t[wx]o$", ""}}, &r) ==
				FILES_OK &&
			r.records == 1 && strstr(back + sizeof rec, "btwo"),
		"grep");
	ok(files((struct ask){.verb = FILES_GREP, .text = {"/repo", "(", ""}}, &r) ==
			FILES_BAD_PATTERN,
		"a bad pattern");
	ok(write_file("/repo/evil", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!") == FILES_OK &&
			files((struct ask){.verb = FILES_GREP,
				      .text = {"/repo/evil", "^(a+)+$", ""}},
				&r) == FILES_BAD_PATTERN,
		"a pattern that would take for ever");
}

/* To 16 MiB, the default of files_edit_max_bytes, and one byte more. */
static void test_edit_grows(void)
{
	static char many[4097], longer[4098];
	struct files_result r;
	struct ask a = {.verb = FILES_EDIT,
		.flags = FILES_REPLACE_ALL,
		.text = {"/repo/many", "a", longer}};

	memset(many, 'a', sizeof many - 1);
	memset(longer, 'b', sizeof longer - 1);
	ok(write_file("/repo/many", many) == FILES_OK && files(a, &r) == FILES_TOO_LARGE &&
			fetch("/repo/many") == FILES_OK && !strcmp(back, many),
		"an edit that would multiply the file over the limit changes nothing");
	longer[sizeof longer - 2] = '\0';
	ok(files(a, &r) == FILES_OK && r.size == 16 << 20, "up to the limit it is done");
	ok(files((struct ask){.verb = FILES_DELETE, .text = {"/repo/many"}}, &r) == FILES_OK,
		"and deleted");
}

static void test_change(void)
{
	struct files_result r;

	ok(files((struct ask){.verb = FILES_WRITE,
			 .flags = FILES_CREATE_ONLY,
			 .text = {"/repo/a.txt"},
			 .data = "no"},
		   &r) == FILES_EXISTS &&
			fetch("/repo/a.txt") == FILES_OK && !strcmp(back, "alpha\n"),
		"what exists stays");
	ok(files((struct ask){.verb = FILES_EDIT, .text = {"/repo/a.txt", "alpha", "beta"}}, &r) ==
				FILES_OK &&
			r.n[0] == 1 && fetch("/repo/a.txt") == FILES_OK && !strcmp(back, "beta\n"),
		"edit");
	ok(files((struct ask){.verb = FILES_EDIT, .text = {"/repo/a.txt", "zeta", "x"}}, &r) ==
			FILES_NO_MATCH,
		"edit of what is not there");
	ok(write_file("/repo/crlf", "a\r\nb\r\na\r\n") == FILES_OK &&
			files((struct ask){.verb = FILES_EDIT,
				      .text = {"/repo/crlf", "a\nb\n", "c\n"}},
				&r) == FILES_OK &&
			fetch("/repo/crlf") == FILES_OK && !strcmp(back, "c\r\na\r\n"),
		"line ends are the file's");
	test_edit_grows();
	ok(files((struct ask){.verb = FILES_MKDIR, .text = {"/repo/n/m"}}, &r) == FILES_OK,
		"mkdir with parents");
	ok(write_file("/repo/n/m/x", "1") == FILES_OK &&
			files((struct ask){.verb = FILES_DELETE, .text = {"/repo/n"}}, &r) ==
				FILES_IS_DIR &&
			files((struct ask){.verb = FILES_DELETE,
				      .flags = FILES_RECURSIVE,
				      .text = {"/repo/n"}},
				&r) == FILES_OK &&
			fetch("/repo/n/m/x") == FILES_NOT_FOUND,
		"delete, and delete of a tree");
	ok(files((struct ask){.verb = FILES_DELETE, .text = {"/repo/up"}}, &r) == FILES_OK &&
			(r.flags & FILES_MADE) && fetch("/etc/passwd") == FILES_OK,
		"delete of a link leaves what it names");
	ok(files((struct ask){.verb = FILES_DELETE, .flags = FILES_RECURSIVE, .text = {"/repo"}},
		   &r) == FILES_BUSY &&
			fetch("/repo/b") == FILES_OK,
		"the workspace itself stays, and all that is in it");
	ok(write_file("/usr/bin/new", "x") == FILES_DENIED, "the host's directories stay");
}

static void test_parts(void)
{
	struct files_result r;
	struct ask a = {.verb = FILES_APPEND,
		.limit = 5,
		.total = 10,
		.text = {"/repo/up/load"},
		.data = "01234"};

	ok(files(a, &r) == FILES_OK && r.n[0] == 5 && !(r.flags & FILES_COMPLETE),
		"half of an upload");
	ok(fetch("/repo/up/load") == FILES_NOT_FOUND, "is not there yet");
	a.offset = 3;
	ok(files(a, &r) == FILES_BAD_OFFSET && r.n[0] == 5, "a wrong offset is told the right one");
	a.flags = FILES_PROBE;
	ok(files(a, &r) == FILES_OK && r.n[0] == 5, "or is asked for it");
	a.flags = 0;
	a.offset = 5;
	a.data = "56789";
	ok(files(a, &r) == FILES_OK && (r.flags & FILES_COMPLETE) &&
			fetch("/repo/up/load") == FILES_OK && !strcmp(back, "0123456789"),
		"the other half completes it");
}

static void test_pack(void)
{
	struct files_result r;
	OWN_MEM char *tar = NULL;
	size_t n;

	ok(files((struct ask){.verb = FILES_PACK, .text = {"/repo"}}, &r) == FILES_OK &&
			r.bytes > 1024 && r.n[0] == 1,
		"a tar of the directory, without the FIFO");
	n = (size_t)r.bytes;
	tar = malloc(n);
	if (!tar)
		return;
	memcpy(tar, back, n);
	ok(files((struct ask){.verb = FILES_UNPACK,
			 .text = {"/tmp/copy/of"},
			 .data = tar,
			 .data_bytes = n},
		   &r) == FILES_OK &&
			fetch("/tmp/copy/of/b") == FILES_OK && !strcmp(back, "two\n"),
		"and unpacked elsewhere");
	ok(files((struct ask){.verb = FILES_UNPACK, .text = {"/tmp/copy"}, .data = "junk"}, &r) ==
			FILES_BAD_ARCHIVE,
		"junk is no archive");
}

/* Links and names that lead out, or in circles. */
static void test_hostile(void)
{
	static const char *const bad[] = {"/repo/out", "/repo/root", "/repo/self", "/repo/loop",
		"/repo/dev", "/proc/self/environ", "/repo/../../../../etc/shadow", "/repo/sock"};
	char other[SESSION_ID_LEN + 1], path[400], out[64];
	struct session_spec spec = {.extract_patch = false};
	struct files_result r;

	ok(create(&s, &spec, other) && files_at(other,
					       (struct ask){.verb = FILES_WRITE,
						       .text = {"/repo/secret"},
						       .data = "theirs"},
					       &r) == FILES_OK,
		"another session has a secret");
	snprintf(path, sizeof path,
		"ln -s %s/sessions/%s/ws/tree/secret out; ln -s /proc/1/root/ root; "
		"ln -s /proc/self/fd/0 self; ln -s loop loop; ln -s /dev/zero dev",
		s.dir, other);
	ok(shell(path, out, sizeof out) == 0, "links are laid");
	for (size_t i = 0; i < NELEM(bad); i++) {
		int code = fetch(bad[i]);

		ok(code != FILES_OK && code >= 0, "%s: %s", bad[i],
			code < 0 ? "an error" : files_code_text((uint32_t)code));
	}
	ok(files_at(other, (struct ask){.verb = FILES_FETCH, .text = {"/repo/secret"}}, &r) ==
				FILES_OK &&
			!strcmp(back, "theirs"),
		"the other session reads it");
}

static void test_seed(void)
{
	struct session_spec spec = {.extract_patch = false};
	char seeded[SESSION_ID_LEN + 1], out[256];
	OWN_FD tar = memfd_create("tar", MFD_CLOEXEC);
	struct files_result r;
	struct err e = {0};

	ok(files((struct ask){.verb = FILES_PACK, .text = {"/repo"}}, &r) == FILES_OK &&
			write(tar, back, (size_t)r.bytes) == r.bytes &&
			lseek(tar, 0, SEEK_SET) == 0,
		"an archive");
	ok(create(&s, &spec, seeded) && ops->seed(s.b, seeded, tar, -1, &r, &e) == 0 &&
			r.code == FILES_OK,
		"a seed");
	ok(ops->seed(s.b, seeded, tar, -1, &r, &e) == 0 && r.code == FILES_EXISTS, "only once");
	memcpy(id, seeded, sizeof id);
	ok(shell("pwd; cat b /repo/b", out, sizeof out) == 0 &&
			!strcmp(out, "/workspace/repo\ntwo\ntwo\n"),
		"commands run in /workspace/repo");
	ok(write_file("/workspace/repo/c", "c") == FILES_OK && fetch("/repo/c") == FILES_OK,
		"both names lead there");
}

/* No file verb makes a session larger than its limit, and each may make room. */
static void test_disk(void)
{
	struct session_spec spec = {.extract_patch = false};
	static char big[3 << 20];
	struct files_result r;
	struct ask a = {
		.verb = FILES_WRITE, .text = {"/repo/1"}, .data = big, .data_bytes = sizeof big};

	memset(big, 'x', sizeof big);
	if (!ok(create(&s, &spec, id), "a session with a limit of 2 MiB"))
		return;
	ok(files(a, &r) == FILES_NO_SPACE, "a file over the limit");
	a.data_bytes = sizeof big / 2;
	ok(files(a, &r) == FILES_OK, "one below it");
	a.text[0] = "/tmp/2";
	ok(files(a, &r) == FILES_NO_SPACE, "no second one: together they are over it");
	ok(fetch("/tmp/2") == FILES_NOT_FOUND, "and nothing was written");
	ok(files((struct ask){.verb = FILES_DELETE, .text = {"/repo/1"}}, &r) == FILES_OK &&
			files(a, &r) == FILES_OK,
		"when the first has gone there is room again");
	ok(files((struct ask){.verb = FILES_DELETE, .text = {"/tmp/2"}}, &r) == FILES_OK, "empty");
}

/* What is too small to be looked at each time adds up. */
static void test_disk_little(const char *what, struct ask a, bool make_live, int most)
{
	struct session_spec spec = {.extract_patch = false, .live = make_live};
	char path[64], out[64];
	struct files_result r;
	int code = FILES_OK, n = 0;

	if (!ok(create(&s, &spec, id), "a session for %s", what))
		return;
	if (make_live)
		ok(shell("echo live", out, sizeof out) == 0, "it lives");
	for (; code == FILES_OK && n < 3 * most; n++) {
		snprintf(path, sizeof path, "/opt/little/%d/a", n);
		a.text[0] = path;
		code = files(a, &r);
	}
	ok(code == FILES_NO_SPACE && n <= most, "%s until it is full: %d", what, n);
	ok(files(
		   (struct ask){
			   .verb = FILES_DELETE, .flags = FILES_RECURSIVE, .text = {"/opt/little"}},
		   &r) == FILES_OK &&
			files(a, &r) == FILES_OK,
		"and again when they have gone");
}

int main(void)
{
	struct session_spec spec = {.extract_patch = false};

	if (!ok(open_service(&s), "a keeper"))
		return done();
	if (ok(create(&s, &spec, id), "a session")) {
		test_round_trip();
		test_list();
		test_change();
		test_parts();
		test_pack();
		test_hostile();
		test_seed();
	}
	close_service(&s);
	if (ok(open_service_with(&s, "session_disk_max_bytes", "2097152"), "another keeper")) {
		static char some[100 << 10];
		struct ask a = {.verb = FILES_WRITE, .data = some, .data_bytes = sizeof some};

		test_disk();
		/* the limit, and what may come before it is looked at: 3 MiB */
		test_disk_little("little files", a, false, 31);
		test_disk_little("little files beside a sandbox", a, true, 31);
	}
	close_service(&s);
	if (ok(open_service_with(&s, "session_disk_max_inodes", "400"), "one more"))
		test_disk_little("directories", (struct ask){.verb = FILES_MKDIR}, false, 330);
	close_service(&s);
	return done();
}

/* What clients of the runtime may call a session, a file and a size. */
#include "fcgi/dialects/runtime.h"

#include <stdio.h>
#include <string.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

static void sizes(void)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} all[] = {{"0", 0}, {"1", 1}, {"100M", 100 << 20}, {"64k", 65536}, {"64K", 65536},
		{"1g", 1 << 30}, {"2T", 2LL << 40}, {"9223372036854775807", -1},
		{"922337203685477579", 922337203685477579}, {"8388607T", 8388607LL << 40},
		{"8388608T", -1}, {"99999999999999999999", -1}, {"", -1}, {"M", -1}, {"-1", -1},
		{"+1", -1}, {" 1", -1}, {"1 ", -1}, {"1MB", -1}, {"1x", -1}, {"1.5M", -1},
		{"0x10", -1}, {"50%", -1}, {"1\x0bM", -1}, {"1-", -1}, {"1K1", -1}};

	for (size_t i = 0; i < NELEM(all); i++)
		ok(rt_parse_size(all[i].text) == all[i].bytes, "size \"%s\" is %lld", all[i].text,
			(long long)rt_parse_size(all[i].text));
}

static void sids(void)
{
	static const char *const good[] = {"a", "0", "_", "a.b", "user@host:1", "A-Z_0.9"};
	static const char *const bad[] = {"", ".", "..", "-a", ".a", ":a", "@a", "a/b", "a b",
		"a\n", "a\\b", "a;b", "\xc3\xa4", "a\x7f", "a*", "a%2f"};
	char text[RT_SID_MAX + 2];

	for (size_t i = 0; i < NELEM(good); i++)
		ok(rt_sid_valid(good[i]), "a session may be called %s", good[i]);
	for (size_t i = 0; i < NELEM(bad); i++)
		ok(!rt_sid_valid(bad[i]), "but not so (%zu)", i);
	memset(text, 'x', sizeof text);
	text[RT_SID_MAX] = '\0';
	ok(rt_sid_valid(text), "128 characters");
	text[RT_SID_MAX] = 'x';
	text[RT_SID_MAX + 1] = '\0';
	ok(!rt_sid_valid(text), "129 are too many");
}

static void paths(void)
{
	static const struct {
		const char *name, *path; /* NULL: refused */
	} all[] = {{"a", "/workspace/a"}, {"a/b", "/workspace/a/b"}, {"/a", "/workspace/a"},
		{"//a///b/", "/workspace/a/b"}, {"./a/./b", "/workspace/a/b"},
		{"...", "/workspace/..."}, {"..a", "/workspace/..a"}, {"a b", "/workspace/a b"},
		{"workspace/a", "/workspace/workspace/a"}, {"..", NULL}, {"../a", NULL},
		{"a/..", NULL}, {"a/../b", NULL}, {"/..", NULL}, {"", NULL}, {"/", NULL},
		{".", NULL}, {"./", NULL}};
	char out[FILES_PATH_MAX + 1], text[FILES_PATH_MAX + 10];

	for (size_t i = 0; i < NELEM(all); i++) {
		const char *why = rt_path(all[i].name, strlen(all[i].name), false, out);

		ok(all[i].path ? !why && !strcmp(out, all[i].path) : why != NULL, "file \"%s\": %s",
			all[i].name, why ? why : out);
	}
	ok(!rt_path("/", 1, true, out) && !strcmp(out, "/workspace"), "/ is a directory");
	ok(rt_path("a\0b", 3, false, out) != NULL, "no NUL");
	memset(text, 'n', sizeof text);
	ok(!rt_path(text, 255, false, out), "255 bytes in a name");
	ok(rt_path(text, 256, false, out) != NULL, "256 are too many");
	for (size_t i = 1; i < sizeof text; i += 2)
		text[i] = '/';
	ok(!rt_path(text, FILES_PATH_MAX - strlen(RT_WORKSPACE) - 1, false, out) &&
			strlen(out) <= FILES_PATH_MAX,
		"a long path");
	ok(rt_path(text, FILES_PATH_MAX, false, out) != NULL, "one that is too long");
}

int main(void)
{
	sizes();
	sids();
	paths();
	return done();
}

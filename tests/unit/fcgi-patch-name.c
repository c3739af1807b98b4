#include "fcgi/patch_name.h"

#include "tests/unit/tap.h"

static void test_refused(void)
{
	static const char *const no[] = {"", "/a", "a//b", "a/", ".", "a/..", "../a", ".git",
		"a/.GiT/b", ".git.", ".git ", ".git . .", "git~1", "GIT~1.", ".git:x", ".git\\x",
		"x/git~1 "};
	static const char *const yes[] = {"a", "a/b", ".gitignore", ".gitmodules", "git", "git~2",
		".gi", "...", "a.git", ".git~1", "g", "G", ".g", ".git-x", "git~10"};
	char longest[PATCH_PATH_MAX + 2];

	for (unsigned i = 0; i < sizeof no / sizeof no[0]; i++)
		ok(patch_path_refused(no[i]), "\"%s\" is refused", no[i]);
	for (unsigned i = 0; i < sizeof yes / sizeof yes[0]; i++)
		ok(!patch_path_refused(yes[i]), "\"%s\" is accepted", yes[i]);
	memset(longest, 'a', sizeof longest);
	longest[PATCH_PATH_MAX + 1] = '\0';
	ok(patch_path_refused(longest), "%d bytes are too many", PATCH_PATH_MAX + 1);
	longest[PATCH_PATH_MAX] = '\0';
	ok(!patch_path_refused(longest), "%d are not", PATCH_PATH_MAX);
}

static void test_quote(void)
{
	static const char *const cases[][2] = {{"plain", "a/plain"}, {"sp ace", "a/sp ace"},
		{"end ", "\"a/end \""}, {"d /f", "\"a/d /f\""}, {"q\"b\\", "\"a/q\\\"b\\\\\""},
		{"\a\b\t\n\v\f\r", "\"a/\\a\\b\\t\\n\\v\\f\\r\""}, {"\x01\x7f", "\"a/\\001\\177\""},
		{"caf\xc3\xa9", "\"a/caf\\303\\251\""}, {"\xff", "\"a/\\377\""}, {"-x", "a/-x"}};

	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct buf b = BUF_INIT(1000);

		patch_name_quote(&b, "a/", cases[i][0]);
		is_str(b.p, cases[i][1], "quoting as git does");
		buf_clear(&b);
	}
}

static void test_text(void)
{
	static const struct {
		const char *p;
		size_t n;
		bool text;
	} cases[] = {{"", 0, true}, {"plain ascii, more than eight bytes", 34, true},
		{"\xc3\xa9", 2, true}, {"\xe4\xb8\x96", 3, true}, {"\xf0\x9f\x98\x80", 4, true},
		{"\xf4\x8f\xbf\xbf", 4, true}, {"a\0b", 3, false}, {"abcdefg\0", 8, false},
		{"\xe9", 1, false}, {"\xc3", 1, false}, {"\xc0\xaf", 2, false},
		{"\xe0\x9f\xbf", 3, false}, {"\xed\xa0\x80", 3, false},
		{"\xf0\x8f\xbf\xbf", 4, false}, {"\xf4\x90\x80\x80", 4, false},
		{"\xf5\x80\x80\x80", 4, false}, {"\x80", 1, false}, {"\xe4\xb8", 2, false},
		{"\xe4\xb8z", 3, false}, {"12345678\xff", 9, false}, {"\x7f\t\r\n", 4, true}};

	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ok(patch_is_text(cases[i].p, cases[i].n) == cases[i].text, "bytes %u are %s", i,
			cases[i].text ? "text" : "binary");
}

int main(void)
{
	test_refused();
	test_quote();
	test_text();
	return done();
}

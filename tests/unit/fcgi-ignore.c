#include "fcgi/ignore.h"

#include <time.h>

#include "fcgi/ignore_glob.h"
#include "tests/unit/tap.h"

static void test_glob(void)
{
	static const struct {
		const char *pattern, *name;
		bool match;
	} names[] = {{"a", "a", true}, {"a", "b", false}, {"*", "", true}, {"*.o", "x.o", true},
		{"*.o", "x.oo", false}, {"a*b*c", "aXbYbc", true}, {"a*b*c", "aXbY", false},
		{"?", "a", true}, {"?", "", false}, {"[a-c]", "b", true}, {"[!a-c]", "b", false},
		{"[^a-c]", "d", true}, {"[]]", "]", true}, {"[]-a]", "^", true},
		{"[a-]", "-", true}, {"[a", "[a", false}, {"[[:digit:]]x", "7x", true},
		{"[[:digit:]]", "a", false}, {"[[:nope:]]", "n", false}, {"\\*", "*", true},
		{"\\*", "a", false}, {"a\\", "a", false}, {"[\\]]", "]", true}, {"**", "abc", true},
		{"x**y", "xaby", true}};
	static const struct {
		const char *pattern, *path;
		bool match;
	} paths[] = {{"a/b", "a/b", true}, {"a/b", "a/b/c", false}, {"a/*", "a/b", true},
		{"a/*", "a/b/c", false}, {"**/b", "b", true}, {"**/b", "x/y/b", true},
		{"**/b", "x/y/c", false}, {"a/**", "a/x/y", true}, {"a/**", "a", false},
		{"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x/y", false},
		{"a/**/b/**/c", "a/b/x/b/c", true}, {"**/**/c", "c", true},
		{"a/**/**", "a/b", true}};

	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		ok(glob_name(names[i].pattern, names[i].name) == names[i].match, "name %s: %s",
			names[i].pattern, names[i].name);
	for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++)
		ok(glob_path(paths[i].pattern, paths[i].path) == paths[i].match, "path %s: %s",
			paths[i].pattern, paths[i].path);
}

static void test_hostile(void)
{
	char pattern[4001], name[4001];
	clock_t start = clock();

	for (unsigned i = 0; i < 4000; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[3999] = 'b';
	memset(name, 'a', 4000);
	pattern[4000] = name[4000] = '\0';
	ok(!glob_name(pattern, name), "2,000 stars do not match");
	for (unsigned i = 0; i < 3999; i += 3)
		memcpy(pattern + i, "**/", 3);
	for (unsigned i = 1; i < 4000; i += 2)
		name[i] = '/';
	pattern[3999] = 'b';
	ok(!glob_path(pattern, name), "1,333 double stars do not match");
	ok(clock() - start < CLOCKS_PER_SEC, "in less than a second");
}

static int read_fake(void *arg, const char *dir, struct buf *out, struct err *e)
{
	unsigned *reads = arg;

	(void)e;
	++*reads;
	if (!strcmp(dir, ""))
		return buf_adds(
			out, "\xef\xbb\xbf*.o\r\n# no\n\n/top\nboth/\n!keep.o\ntrail  \nlast");
	if (!strcmp(dir, "d"))
		return buf_adds(out, "!*.o\n/x\n");
	return 0;
}

static void test_set(void)
{
	static const struct {
		const char *path;
		bool dir;
		int want;
	} cases[] = {{"a.o", false, 1}, {"keep.o", false, 0}, {"q/a.o", false, 1},
		{"top", false, 1}, {"q/top", false, 0}, {"both", true, 1}, {"both", false, 0},
		{"q/both", true, 1}, {"both/keep.o", false, 1}, {"d/a.o", false, 0},
		{"d/x", false, 1}, {"d/e/x", false, 0}, {"trail", false, 1}, {"last", false, 1},
		{"# no", false, 0}, {"d/e/f/a.o", false, 0}};
	unsigned reads = 0;
	struct ignore_set *s = ignore_new(read_fake, &reads);
	struct err e;

	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ok(ignore_check(s, cases[i].path, cases[i].dir, &e) == cases[i].want, "%s%s: %d",
			cases[i].path, cases[i].dir ? "/" : "", cases[i].want);
	ok(reads == 5, "each directory is read once, an ignored one never (%u)", reads);
	ignore_free(s);
}

int main(void)
{
	test_glob();
	test_hostile();
	test_set();
	return done();
}

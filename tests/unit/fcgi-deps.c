/* Requirements are strangers' bytes: the grammar of each language, sets, indexes, keys. */
#include "fcgi/deps.h"

#include "isolate/own.h"
#include "tests/unit/tap.h"

static void good(const char *language, const char *in, const char *want)
{
	char out[DEPS_REQUIREMENT_MAX + 1], again[DEPS_REQUIREMENT_MAX + 1];
	const char *fault = deps_normalise(language, in, strlen(in), out);

	if (!ok(!fault, "%s takes \"%s\"", language, in)) {
		printf("# %s\n", fault);
		return;
	}
	is_str(out, want, "in its normal form");
	ok(!deps_normalise(language, out, strlen(out), again) && !strcmp(out, again),
		"which is its own normal form");
}

static void bad(const char *language, const char *in)
{
	char out[DEPS_REQUIREMENT_MAX + 1], shown[80];
	size_t n = strlen(in);

	for (size_t i = 0; i <= n; i++) /* one line, without what the protocol takes for its own */
		shown[i] = in[i] && ((unsigned char)in[i] < ' ' || in[i] == '#') ? '?' : in[i];
	ok(deps_normalise(language, in, n, out) != NULL, "%s refuses \"%s\"", language, shown);
}

static void test_python(void)
{
	static const char *const wrong[] = {"", " ", "-r", "-rrequirements.txt", "--index-url",
		"--index-url=http://x", "-e", ".", "./a", "/etc", "../a", "a/b", "a\\b",
		"file:///etc/passwd", "file:a", "git+ssh://x/y", "git+https://x", "http://x/a.whl",
		"a @ http://x/a.whl", "a@file:b", "a; python_version<'3'", "a;b", "a b",
		"a==", "a==1,", "a==1,,b", "a=1", "a===", "a=>1", "a[", "a[]", "a[b", "a[b,]", "a]",
		"a-", "a.", "_a", ".a", "a==1 2", "a==$(id)", "a`id`", "a'", "a\"",
		"a\n--index-url x", "a\nb", "a==1\n", "a\t#x", "a|b", "a&b", "a>1 <2", "\xc3\xa4",
		"a\x01", "a=={1}", "a==1;-r", "a --pre", "a==-r x", "a[--pre]", "a==1,--pre",
		"a @b"};

	good("python", "requests", "requests");
	good("python", " Requests\t", "requests");
	good("python", "Foo.Bar__baz-1", "foo-bar-baz-1");
	good("python", "a==1.0", "a==1.0");
	good("python", "a == 1.0", "a==1.0");
	good("python", "a>=1, <2 ,!=1.5.*", "a>=1,<2,!=1.5.*");
	good("python", "a~=1.4.2", "a~=1.4.2");
	good("python", "a===1!2.0+local.1", "a===1!2.0+local.1");
	good("python", "uvicorn[Standard]>=0.2", "uvicorn[standard]>=0.2");
	good("python", "a [ b , C_d ] < 3", "a[b,c-d]<3");
	good("python", "3to2", "3to2");
	for (size_t i = 0; i < NELEM(wrong); i++)
		bad("python", wrong[i]);
	ok(deps_normalise("python", "a\0b", 3, (char[DEPS_REQUIREMENT_MAX + 1]){0}) != NULL,
		"and a NUL");
}

static void test_javascript(void)
{
	static const char *const wrong[] = {"", "-g", "--registry", "--registry=http://x", "./a",
		"/a", "../a", "a/b", "file:a", "git+ssh://x", "git://x", "github:a/b", "http://x",
		"a@http://x", "a@file:b", "a@npm:b", "a@git+ssh://x", "@a", "@a/", "@/a", "@a/b/c",
		"a@", "a@ 1", "a b", "A", "a@1;id", "a@$(id)", "a@1 2", "a@1||2", "a@--x", "a@./b",
		"a@~/b", "a@1\n", "a#b", "_a", ".a", "~a", "a@1@2"};

	good("javascript", "left-pad", "left-pad");
	good("javascript", "left-pad@1.3.0", "left-pad@1.3.0");
	good("javascript", "@types/node@^20", "@types/node@^20");
	good("javascript", "a@>=1.0.0", "a@>=1.0.0");
	good("javascript", "a@latest", "a@latest");
	good("javascript", "a@1.x", "a@1.x");
	for (size_t i = 0; i < NELEM(wrong); i++)
		bad("javascript", wrong[i]);
}

static void test_other(void)
{
	static const char *const wrong[] = {"", "-v", "--source", "a/b", "file:a", "http://x",
		"a b", "a;b", "a$b", "a'b", "a=", "a=-/b", "a:b", "a|b", "a=b=c"};

	good("ruby", "rails", "rails");
	good("ruby", "Rails_x", "Rails_x");
	good("ruby", "rails=7.1", "rails=7.1");
	good("c++", "lib-2.0-dev", "lib-2.0-dev");
	for (size_t i = 0; i < NELEM(wrong); i++)
		bad("ruby", wrong[i]);
}

static void test_length(void)
{
	char name[DEPS_REQUIREMENT_MAX + 2], out[DEPS_REQUIREMENT_MAX + 1];

	memset(name, 'a', sizeof name);
	ok(!deps_normalise("python", name, DEPS_REQUIREMENT_MAX, out) &&
			strlen(out) == DEPS_REQUIREMENT_MAX,
		"%d bytes", DEPS_REQUIREMENT_MAX);
	ok(deps_normalise("python", name, DEPS_REQUIREMENT_MAX + 1, out) != NULL, "one more");
}

static void test_set(void)
{
	static const char *const in[] = {"b", "C>1", "a", "B", "c > 1", "A==1"};
	struct deps_set s = {.n = 0};
	char name[32];
	bool fine = true;

	for (size_t i = 0; i < NELEM(in); i++)
		fine = fine && !deps_add(&s, "python", in[i], strlen(in[i]));
	ok(fine && s.n == 4, "equal requirements are one");
	ok(!strcmp(s.req[0], "a") && !strcmp(s.req[1], "a==1") && !strcmp(s.req[2], "b") &&
			!strcmp(s.req[3], "c>1"),
		"sorted");
	ok(deps_add(&s, "python", "-r", 2) != NULL && s.n == 4, "a bad one changes nothing");
	for (int i = 0; s.n < DEPS_MAX; i++) {
		snprintf(name, sizeof name, "n%d", i);
		deps_add(&s, "python", name, strlen(name));
	}
	ok(!deps_add(&s, "python", "b", 1), "one that is there in a full set");
	ok(deps_add(&s, "python", "zz", 2) != NULL, "%d are the most", DEPS_MAX);
}

static void test_index(void)
{
	static const char *const right[] = {"", "https://pypi.example/simple/",
		"http://127.0.0.1:8000", "https://a-b.c/x/~y/%20"};
	static const char *const wrong[] = {"x", "ftp://a", "file:///a", "https://", "https:///x",
		"https://u@h/", "https://u:p@h/", "https://h:/", "https://h:123456/",
		"https://h/?q", "https://h/#f", "https://h/a b", "https://h/\n", "https://h\" --x",
		"https://-x", "https://h/$(id)", "https://[::1]/", "https://h'x"};
	char big[DEPS_INDEX_MAX + 2] = "https://h/";

	for (size_t i = 0; i < NELEM(right); i++)
		ok(!deps_index_fault(right[i]), "an index: \"%s\"", right[i]);
	for (size_t i = 0; i < NELEM(wrong); i++)
		ok(deps_index_fault(wrong[i]) != NULL, "none: number %zu", i);
	memset(big + 10, 'a', sizeof big - 11);
	ok(deps_index_fault(big) != NULL, "over %d bytes", DEPS_INDEX_MAX);
	big[DEPS_INDEX_MAX] = '\0';
	ok(!deps_index_fault(big), "%d bytes", DEPS_INDEX_MAX);
}

static void test_key(void)
{
	char key[DEPS_KEY_LEN + 2];

	memset(key, 'a', sizeof key);
	key[DEPS_KEY_LEN] = '\0';
	ok(deps_key_valid(key), "a key");
	key[3] = '/';
	ok(!deps_key_valid(key), "not with a slash");
	key[3] = 'A';
	ok(!deps_key_valid(key), "nor in capitals");
	memset(key, 'a', DEPS_KEY_LEN + 1);
	key[DEPS_KEY_LEN + 1] = '\0';
	ok(!deps_key_valid(key) && !deps_key_valid("") && !deps_key_valid("../x"),
		"nor of another length");
}

int main(void)
{
	test_python();
	test_javascript();
	test_other();
	test_length();
	test_set();
	test_index();
	test_key();
	return done();
}

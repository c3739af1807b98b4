/* Forms: the same parts come out however the bytes are cut, and nothing malformed passes. */
#include "fcgi/multipart.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/tap.h"

static char seen[4096]; /* name|filename=data; */

static void add(const char *p, size_t n)
{
	size_t have = strlen(seen);

	for (size_t i = 0; i < n && have + 2 < sizeof seen; i++)
		seen[have++] = p[i] ? p[i] : '0';
	seen[have] = '\0';
}

static int begin(void *arg, const char *name, const char *filename, struct err *e)
{
	(void)arg, (void)e;
	add(name, strlen(name));
	add("|", 1);
	add(filename, strlen(filename));
	add("=", 1);
	return 0;
}

static int data(void *arg, const void *p, size_t n, struct err *e)
{
	(void)arg, (void)e;
	add(p, n);
	return 0;
}

static int end(void *arg, struct err *e)
{
	(void)arg, (void)e;
	add(";", 1);
	return 0;
}

/* 0, or the kind of the error. step: bytes at once. */
static int parse(const char *type, const char *body, size_t n, size_t step)
{
	struct multipart m;
	struct err e = {0};

	seen[0] = '\0';
	if (!multipart_init(&m, type))
		return -1;
	m.begin = begin;
	m.data = data;
	m.end = end;
	for (size_t at = 0; at < n; at += step)
		if (multipart_feed(&m, body + at, n - at < step ? n - at : step, &e) < 0)
			return e.kind;
	return multipart_end(&m, &e) < 0 ? e.kind : 0;
}

#define TYPE       "multipart/form-data; boundary=XY"
#define HEAD(name) "Content-Disposition: form-data; name=\"" name "\"\r\n\r\n"

static const struct {
	const char *what, *body, *seen; /* seen NULL: refused */
} cases[] = {
	{"one part", "--XY\r\n" HEAD("a") "x\r\n--XY--\r\n", "a|=x;"},
	{"two parts", "--XY\r\n" HEAD("a") "x\r\n--XY\r\n" HEAD("b") "y\r\n--XY--", "a|=x;b|=y;"},
	{"an empty part", "--XY\r\n" HEAD("a") "\r\n--XY--\r\n", "a|=;"},
	{"a preamble and an epilogue", "hello\r\n--XY\r\n" HEAD("a") "x\r\n--XY--\r\nbye --XY",
		"a|=x;"},
	{"blanks behind the boundary", "--XY \t\r\n" HEAD("a") "x\r\n--XY--", "a|=x;"},
	{"what begins like a boundary", "--XY\r\n" HEAD("a") "\r\n--XZ\r\n-\r\r\n--X\r\n\r\n--XY--",
		"a|=\r\n--XZ\r\n-\r\r\n--X\r\n;"},
	{"a CR before the boundary", "--XY\r\n" HEAD("a") "x\r\r\n--XY--", "a|=x\r;"},
	{"a boundary without CR LF before it is data", "--XY\r\n" HEAD("a") "x--XY--\r\n--XY--",
		"a|=x--XY--;"},
	{"a file's name",
		"--XY\r\nContent-Type: x\r\ncontent-disposition:form-data; name=a; "
		"filename=\"b \\\"c\\\" ;d\"\r\n\r\n1\r\n--XY--",
		"a|b \"c\" ;d=1;"},
	{"a LF alone is no end", "--XY\n" HEAD("a") "x\r\n--XY--", NULL},
	{"a longer boundary is none", "--XYZ\r\n" HEAD("a") "x\r\n--XY--", NULL},
	{"no last boundary", "--XY\r\n" HEAD("a") "x\r\n--XY", NULL},
	{"half of its end", "--XY\r\n" HEAD("a") "x\r\n--XY-", NULL},
	{"no boundary at all", "hello", NULL},
	{"nothing", "", NULL},
	{"no name", "--XY\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XY--", NULL},
	{"no disposition", "--XY\r\nX: y\r\n\r\nx\r\n--XY--", NULL},
	{"no headers", "--XY\r\n\r\nx\r\n--XY--", NULL},
	{"another disposition",
		"--XY\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XY--", NULL},
};

static void test_case(size_t i)
{
	size_t n = strlen(cases[i].body);

	for (size_t step = 1; step <= n + 1; step++) {
		int kind = parse(TYPE, cases[i].body, n, step);
		bool good = cases[i].seen ? kind == 0 && !strcmp(seen, cases[i].seen)
					  : kind == ERR_REQUEST;

		if (good)
			continue;
		ok(false, "%s, %zu bytes at once", cases[i].what, step);
		printf("# %d: %s\n", kind, seen);
		return;
	}
	ok(true, "%s, however it is cut", cases[i].what);
}

static void test_types(void)
{
	static const char long_one[] =
		"multipart/form-data; "
		"boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaa";
	static const char *const good[] = {"multipart/form-data; boundary=x",
		"Multipart/Form-Data;charset=utf-8; Boundary=\"x y\"",
		"multipart/form-data ;boundary=x"};
	static const char *const bad[] = {"multipart/form-data", "multipart/mixed; boundary=x",
		"multipart/form-data; boundary=", "multipart/form-data; boundary=\"x\r\"",
		"multipart/form-data; boundary=\"x \"", "multipart/form-datas; boundary=x",
		long_one, ""};
	struct multipart m;

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ok(multipart_init(&m, good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!multipart_init(&m, bad[i]), "refused: %.40s", bad[i]);
	ok(!multipart_init(&m, NULL), "refused: none");
}

static void test_limits(void)
{
	static const char nul[] = "--XY\r\n" HEAD("a\0b") "x\r\n--XY--";
	static char body[MULTIPART_HEADERS_MAX + 200];
	int n = snprintf(body, sizeof body, "--XY\r\nX: ");

	memset(body + n, 'a', MULTIPART_HEADERS_MAX);
	ok(parse(TYPE, body, sizeof body - 1, 100) == ERR_LIMIT, "headers have a limit");
	ok(parse(TYPE, nul, sizeof nul - 1, 100) == ERR_REQUEST, "no NUL in headers");
}

int main(void)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		test_case(i);
	test_types();
	test_limits();
	return done();
}

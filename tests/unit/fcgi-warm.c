/* What a waiting interpreter gets and says, how many are kept: the pure parts. */
#include <string.h>

#include "fcgi/keeper_demand.h"
#include "fcgi/warm.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

static void test_document(void)
{
	static const char *const args[] = {"a b", "", NULL};
	static const char env[] = "A=1\0B=\0";
	struct code_spec s = {.language = CODE_PYTHON,
		.code = "print(1)",
		.code_bytes = 8,
		.args = args,
		.env = env,
		.env_bytes = 7,
		.input = "in\0put",
		.input_bytes = 6};
	OWN_BUF b = BUF_INIT(1000);
	OWN_BUF none = BUF_INIT(1000);

	warm_document(&s, &b);
	ok(b.len == 64 + 5 + 7 + 8 + 6, "as long as its parts");
	ok(!strncmp(b.p, "2 2 12 8 6 ", 11) && b.p[63] == ' ', "numbers, padded to 64 bytes");
	ok(!memcmp(b.p + 64, "a b\0\0A=1\0B=\0print(1)in\0put", 26), "strings, code, input");
	s = (struct code_spec){.code = "", .code_bytes = 0};
	warm_document(&s, &none);
	ok(none.len == 64 && !strncmp(none.p, "0 0 0 0 -1 ", 11), "nothing at all, no input");
}

static void test_env(void)
{
	static const char good[] = "A=1\0PYTHO=1\0XTZ=1\0HOMES=1\0";
	static const char *const bad[] = {"PYTHONHASHSEED=0", "TZ=UTC", "LC_ALL=C", "LANG=C",
		"LD_PRELOAD=", "NODE_OPTIONS=", "HOME=/x", "PATH=/x", "MALLOC_ARENA_MAX=1",
		"SSL_CERT_FILE=x", "GLIBC_TUNABLES=", "TZDIR=/x"};

	ok(warm_env_fits(NULL, 0), "no variable");
	ok(warm_env_fits(good, sizeof good - 1), "variables that nobody reads at the start");
	for (size_t i = 0; i < NELEM(bad); i++) {
		char env[100] = "A=1";

		strcpy(env + 4, bad[i]);
		ok(!warm_env_fits(env, 4 + strlen(bad[i]) + 1), "%s", bad[i]);
	}
}

static void test_ready(void)
{
	static const struct {
		const char *text;
		long want;
	} cases[] = {{"ready 0\n", 0}, {"ready 12345\n", 12345}, {"noise\nready 7\n", 7},
		{"ready 999999999\n", 999999999}, {"", -1}, {"\n", -1}, {"ready \n", -1},
		{"ready 7", -1}, {"7\n", -1}, {"eady 7\n", -1}, {"ready -7\n", -1},
		{"ready 7 \n", -1}, {"ready 9999999999\n", -1}, {"ready 7\nmore\n", -1}};

	for (size_t i = 0; i < NELEM(cases); i++)
		ok(warm_ready(cases[i].text, strlen(cases[i].text)) == cases[i].want, "case %zu",
			i);
}

static void test_names(void)
{
	ok(code_language_of("python") == CODE_PYTHON && code_language_of("node") == CODE_NODE,
		"languages by name");
	ok(code_language_of("") == CODE_NONE && code_language_of("perl") == CODE_NONE,
		"none of ours");
	ok(strstr(warm_source(CODE_PYTHON), "def warm") && strstr(warm_source(CODE_NODE), "=>"),
		"their programs are in this one");
	ok(strlen(warm_source(CODE_PYTHON)) < 131072, "and fit into one argument");
}

static void test_demand(void)
{
	struct demand d;

	demand_open(&d, 2, 1, 5000, 1000);
	ok(d.want == 1, "one at first");
	demand_missed(&d);
	ok(d.want == 1, "no more while that one was never ready");
	demand_ready(&d, 1);
	demand_missed(&d);
	ok(d.want == 2, "one more when all were ready and one was missed");
	demand_ready(&d, 2);
	demand_missed(&d);
	ok(d.want == 2, "not more than the maximum");
	demand_asked(&d, 10000);
	demand_shrink(&d, 2, 11000);
	ok(d.want == 2, "none is given up at the first look");
	demand_asked(&d, 20000);
	demand_taken(&d, 1);
	demand_shrink(&d, 2, 21000);
	ok(d.want == 1, "one that was never taken is");
	demand_shrink(&d, 1, 24999);
	ok(d.want == 1 && demand_next(&d, 24999) == 1, "just before the idle time");
	demand_shrink(&d, 1, 25000);
	ok(d.want == 0, "none when nobody came");
	demand_missed(&d);
	ok(d.want == 1, "one again when somebody does");
}

int main(void)
{
	test_document();
	test_env();
	test_ready();
	test_names();
	test_demand();
	return done();
}

/* What a waiting interpreter gets and says, how many are kept: the pure parts. */
#include <string.h>

#include "fcgi/keeper_demand.h"
#include "fcgi/warm.h"
#include "isolate/conf.h"
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
	ok(b.len == 64 + 5 + 7 + 8, "as long as its parts but the input");
	ok(!strncmp(b.p, "2 2 12 8 6 ", 11) && b.p[63] == ' ', "numbers, padded to 64 bytes");
	ok(!memcmp(b.p + 64, "a b\0\0A=1\0B=\0print(1)", 20), "strings, code");
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

static void test_program(void)
{
	static const char *const modules[] = {"json", "a'\"]\\", NULL}, *const none[] = {NULL};
	OWN_BUF text = BUF_INIT(100000), file = BUF_INIT(100000), handler = BUF_INIT(100000);
	OWN_BUF node = BUF_INIT(100000), command = BUF_INIT(200000);

	warm_program(CODE_PYTHON, CODE_TEXT, modules, &text);
	warm_program(CODE_PYTHON, CODE_FILE, none, &file);
	warm_program(CODE_PYTHON, CODE_HANDLER, none, &handler);
	warm_program(CODE_NODE, CODE_FILE, none, &node);
	buf_addc(&text, '\0');
	buf_addc(&file, '\0');
	buf_addc(&handler, '\0');
	buf_addc(&node, '\0');
	ok(strstr(text.p, "\nwarm(\"text\", [\"json\",\"a'\\\"]\\\\\"])()\n"),
		"modules are literals");
	ok(strstr(file.p, "\nwarm(\"file\", [])()\n"), "a file");
	ok(strstr(handler.p, "\nwarm(\"handler\", [],\"def main():\\n"), "a handler's program");
	ok(strstr(node.p, "})(\"file\", [])()\n"), "a script");
	ok(handler.len < 131072, "it fits into one argument");
	warm_file_command(CODE_NODE, "main.js", "a'b", &command);
	buf_addc(&command, '\0');
	ok(!strcmp(command.p, "printf %s 'a'\\''b' >main.js; [ \"$BASH_VERSION\" ] || exec node "
			      "main.js; node main.js"),
		"the shell's command");
	ok(!warm_can(CODE_NODE, CODE_HANDLER) && warm_can(CODE_NODE, CODE_FILE) &&
			!warm_can(CODE_NONE, CODE_TEXT),
		"what there is");
}

static struct language row(const char *name, const char *command)
{
	return (struct language){.name = (char *)(uintptr_t)name,
		.file = (char *)(uintptr_t) "main.py",
		.command = (char *)(uintptr_t)command};
}

static void test_rows(void)
{
	const struct language python = row("python", "python3 main.py"),
			      own = row("python", "python3 -B main.py"),
			      other = row("ruby", "python3 main.py");

	ok(warm_file_language(&python) == CODE_PYTHON, "the usual command");
	ok(warm_file_language(&own) == CODE_NONE && warm_row_language(&own) == CODE_PYTHON,
		"another one of the same language");
	ok(warm_file_language(&other) == CODE_NONE && warm_row_language(&other) == CODE_NONE,
		"another language");
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
	test_program();
	test_rows();
	test_demand();
	return done();
}

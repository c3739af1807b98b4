/* The table of languages: built-in rows, rows and changes of the operator's, what is refused. */
#include "fcgi/languages.h"

#include <stdlib.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

static int parse(struct conf *c, const char *text, struct err *e)
{
	return conf_parse(c, "f.conf", text, strlen(text), e);
}

static void test_built_in(void)
{
	static const char *const want[][4] = {{"python", "host", "main.py", "python3 main.py"},
		{"javascript", "host", "main.js", "node main.js"},
		{"shell", "host", "main.sh", "sh main.sh"}};
	char names[LANGUAGES_TEXT_MAX];
	struct conf c;

	conf_init(&c);
	for (size_t i = 0; i < NELEM(want); i++) {
		const struct language *l = language_find(&c, want[i][0]);

		if (!ok(l != NULL, "%s is there", want[i][0]))
			continue;
		is_str(l->image, want[i][1], "its image");
		is_str(l->file, want[i][2], "its file");
		is_str(l->command, want[i][3], "its command");
		ok(!l->install[0] == !strcmp(l->name, "shell"), "shell alone has no installer");
	}
	ok(c.languages.n == 3 && !language_find(&c, "ruby") && !language_find(&c, "") &&
			!language_find(&c, "Python"),
		"and no others");
	is_str(language_names(&c, names, sizeof names), "'python', 'javascript' or 'shell'",
		"they are named");
	conf_clear(&c);
}

static void test_added(void)
{
	char names[LANGUAGES_TEXT_MAX];
	const struct language *l;
	struct conf c;
	struct err e = {0};

	conf_init(&c);
	ok(parse(&c,
		   "language_c++_image = debian:12\nlanguage_c++_file = main.cc\n"
		   "language_c++_command = g++ main.cc && ./a.out\n"
		   "language_python_image = python:3.12\nlanguage_python_install =\n",
		   &e) == 0 &&
			conf_languages_check(&c.languages, &e) == 0,
		"three lines add a language; a line changes one");
	l = language_find(&c, "c++");
	ok(l && !strcmp(l->image, "debian:12") && !strcmp(l->file, "main.cc") &&
			!strcmp(l->command, "g++ main.cc && ./a.out") && !l->install,
		"as they say");
	l = language_find(&c, "python");
	ok(l && !strcmp(l->image, "python:3.12") && !strcmp(l->file, "main.py") && !*l->install,
		"what is not named stays, an installer can be taken away");
	is_str(language_names(&c, names, sizeof names), "'python', 'javascript', 'shell' or 'c++'",
		"it is named as well");
	conf_clear(&c);
	ok(!c.languages.n, "clear forgets them");
}

static void refused(const char *line, const char *with)
{
	struct conf c;
	struct err e = {0};

	conf_init(&c);
	ok(parse(&c, line, &e) == -1 && e.kind == ERR_CONF, "refused: %.60s", line);
	if (!ok(strstr(e.msg, with) != NULL, "and says: %s", with))
		printf("# got: %s\n", e.msg);
	ok(c.languages.n == 3, "nothing is added");
	conf_clear(&c);
}

static void test_refused(void)
{
	char line[200];

	refused("language_Ruby_file = x", "unknown key \"language_Ruby_file\"");
	refused("language_9_file = x", "with a NAME of");
	refused("language__file = x", "with a NAME of");
	refused("language_file = x", "with a NAME of");
	refused("language_ = x", "with a NAME of");
	refused("language_a_b_file = x", "with a NAME of");
	refused("language_a/b_file = x", "with a NAME of");
	refused("language_ruby_files = x", "a language has image, file, command and install");
	refused("language_ruby_ = x", "a language has image");
	refused("language_ruby_file =", "language_ruby_file: \"\" is not a file name");
	refused("language_ruby_file = a/b", "is not a file name");
	refused("language_ruby_file = ..", "is not a file name");
	refused("language_ruby_file = -rf", "is not a file name");
	refused("language_ruby_file = a b", "is not a file name");
	refused("language_ruby_image =", "is not an image");
	refused("language_ruby_image = a b", "is not an image");
	refused("language_ruby_command =", "is not a command");
	refused("language_ruby_command = a\033", "holds a control byte");
	snprintf(line, sizeof line, "language_ruby_file = %065d", 0);
	refused(line, "at most 64");
	snprintf(line, sizeof line, "language_a%032d_file = x", 0);
	refused(line, "with a NAME of");
}

static void test_edges(void)
{
	char line[200], name[LANGUAGE_NAME_MAX + 1];
	struct conf c;
	struct err e = {0};

	conf_init(&c);
	snprintf(name, sizeof name, "a%031d", 0);
	snprintf(line, sizeof line, "language_%s_file = %064d", name, 1);
	ok(parse(&c, line, &e) == 0 && language_find(&c, name), "the longest names");
	ok(conf_languages_check(&c.languages, &e) == -1 && e.kind == ERR_CONF &&
			strstr(e.msg, "_image is missing"),
		"a language without an image is refused at the end");
	for (int i = 4; i < LANGUAGES_MAX; i++) {
		snprintf(line, sizeof line, "language_l%d_file = x", i);
		if (parse(&c, line, &e) < 0)
			ok(false, "%s: %s", line, e.msg);
	}
	ok(c.languages.n == LANGUAGES_MAX, "%d languages", LANGUAGES_MAX);
	ok(parse(&c, "language_more_file = x", &e) == -1 && strstr(e.msg, "there are 32 already"),
		"one more is refused");
	ok(parse(&c, "language_l9_file = y", &e) == 0, "and changing one is not");
	conf_clear(&c);
}

static void test_dump(void)
{
	struct conf c, again;
	struct err e = {0};
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	conf_init(&c);
	conf_init(&again);
	parse(&c,
		"language_ruby_image = ruby:3\nlanguage_ruby_file = main.rb\n"
		"language_ruby_command = ruby main.rb\nlanguage_shell_command = bash main.sh\n",
		&e);
	conf_dump(&c, f);
	fclose(f);
	ok(strstr(text, "# default \"\"\nlanguage_ruby_command = ruby main.rb\n") &&
			strstr(text, "# default \"sh main.sh\"\nlanguage_shell_command = bash "
				     "main.sh\n"),
		"the dump shows them, and what they would be");
	ok(parse(&again, text, &e) == 0 && language_find(&again, "ruby") &&
			!strcmp(language_find(&again, "shell")->command, "bash main.sh"),
		"and is a file of the language");
	free(text);
	conf_clear(&c);
	conf_clear(&again);
}

static void test_environment(void)
{
	const char *const env[] = {"CGIBOX_LANGUAGE_RUBY_IMAGE=host",
		"CGIBOX_LANGUAGE_RUBY_FILE=main.rb", "CGIBOX_LANGUAGE_RUBY_COMMAND=ruby main.rb",
		NULL};
	struct conf c;
	struct err e = {0};

	ok(conf_load(&c, NULL, (char *const *)(const void *)env, &e) == 0 &&
			language_find(&c, "ruby"),
		"the environment adds one, too");
	conf_clear(&c);
	ok(conf_load(&c, NULL, (char *const *)(const void *)(env + 1), &e) == -1 &&
			!strcmp(e.msg, "language_ruby_image is missing"),
		"not in part");
}

int main(void)
{
	test_built_in();
	test_added();
	test_refused();
	test_edges();
	test_dump();
	test_environment();
	return done();
}

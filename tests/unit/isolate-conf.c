/* isolate/conf: every rule of the language, every bound of every key, the environment, secrets. */
#include "isolate/conf.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/log.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/cgibox-conf-XXXXXX";

static int parse(struct conf *c, const char *text, struct err *e)
{
	return conf_parse(c, "f.conf", text, strlen(text), e);
}

/* text is refused as ERR_CONF with a message that begins with `with`, and c can be cleared. */
static void refused(const char *text, size_t n, const char *with, const char *what)
{
	struct conf c;
	struct err e = {0};

	if (!ok(conf_init(&c) == 0, "defaults"))
		return;
	ok(conf_parse(&c, "f.conf", text, n, &e) == -1 && e.kind == ERR_CONF, "refused: %s", what);
	if (!ok(!strncmp(e.msg, with, strlen(with)), "and named: %s", with))
		printf("# got: %s\n", e.msg);
	conf_clear(&c);
}

static void refused_text(const char *text, const char *with, const char *what)
{
	refused(text, strlen(text), with, what);
}

static void test_lines(void)
{
	struct conf c;
	struct err e;

	conf_init(&c);
	ok(parse(&c, "", &e) == 0 && conf_parse(&c, "x", NULL, 0, &e) == 0, "nothing is fine");
	ok(parse(&c,
		   "# a comment = 1\n"
		   "\n \t \n"
		   "   # indented\n"
		   "pids_are_no_key_in_a_comment\n",
		   &e) == -1 &&
			!strcmp(e.msg, "f.conf, line 5: \"pids_are_no_key_in_a_comment\" is not "
				       "\"key = value\""),
		"comments and blank lines count as lines");
	ok(parse(&c, "workers_min=7\n\tworkers_max  =\t 9 \t\nrun_home = /a b", &e) == 0,
		"blanks around key and value, no newline at the end");
	ok(c.workers_min == 7 && c.workers_max == 9 && !strcmp(c.run_home, "/a b"),
		"values are read, blanks inside stay");
	ok(parse(&c, "workers_min = 5\r\n\r\n# x\r\nrun_home = /c\r\n", &e) == 0 &&
			c.workers_min == 5 && !strcmp(c.run_home, "/c"),
		"lines may end in CRLF, empty ones too");
	ok(parse(&c, "api_prefix =\napi_key_file = a=b", &e) == 0 && !*c.api_prefix &&
			!strcmp(c.api_key_file, "a=b"),
		"an empty string; a value with =");
	ok(parse(&c, "workers_min = 5\nworkers_min = 6\n", &e) == 0 && c.workers_min == 6,
		"the later of two counts");
	conf_clear(&c);
	ok(c.run_home == NULL && c.api_key == NULL, "clear forgets the strings");
	conf_clear(&c);
	ok(true, "and may be called again");
}

static void test_network(void)
{
	struct conf c;
	struct err e;

	refused_text("engine_network = host\n", "f.conf, line 1: engine_network: \"host\" is",
		"this machine's own network");
	refused_text("engine_network = container:x\n",
		"f.conf, line 1: engine_network: \"container", "another container's");
	refused_text("engine_network = none\n", "f.conf, line 1: engine_network: \"none\"", "none");
	refused_text(
		"engine_network = a b\n", "f.conf, line 1: engine_network: \"a b\"", "no name");
	conf_init(&c);
	ok(parse(&c, "engine_network = host-2.x\n", &e) == 0 &&
			!strcmp(c.engine_network, "host-2.x"),
		"control: a name");
	ok(parse(&c, "engine_network =\n", &e) == 0 && !*c.engine_network, "control: no network");
	conf_clear(&c);
}

static void test_junk(void)
{
	char big[1200];

	refused_text("worker_min = 1\n", "f.conf, line 1: unknown key \"worker_min\"", "a typo");
	refused_text("\nWORKERS_MIN = 1\n", "f.conf, line 2: unknown key \"WORKERS_MIN\"", "case");
	refused_text(" = 1\n", "f.conf, line 1: unknown key \"\"", "no key");
	refused_text("workers_min 4\n", "f.conf, line 1: \"workers_min 4\" is not", "no =");
	refused_text(
		"workers_min = 4 5", "f.conf, line 1: workers_min: \"4 5\" is not", "two values");
	refused_text("workers_min = 4x", "f.conf, line 1: workers_min: \"4x\" is not", "a letter");
	refused_text(
		"workers_min = 4;", "f.conf, line 1: workers_min: \"4;\" is not", "a semicolon");
	refused_text(
		"workers_min = 4.0", "f.conf, line 1: workers_min: \"4.0\" is not", "a fraction");
	refused_text(
		"workers_min = 0x4", "f.conf, line 1: workers_min: \"0x4\" is not", "hexadecimal");
	refused_text("workers_min = +4", "f.conf, line 1: workers_min: \"+4\" is not", "a plus");
	refused_text("workers_min = 4k", "f.conf, line 1: workers_min: \"4k\" is not", "a unit");
	refused_text(
		"workers_min =", "f.conf, line 1: workers_min: \"\" is not", "an empty number");
	refused_text(
		"workers_min = -", "f.conf, line 1: workers_min: \"-\" is not", "a lone minus");
	refused_text("workers_min = 4 # four", "f.conf, line 1: workers_min: a comment",
		"a comment behind a number");
	refused_text("run_home = /x # why", "f.conf, line 1: run_home: a comment",
		"a comment behind a string");
	refused_text("run_home = /x\t# why", "f.conf, line 1: run_home: a comment", "behind a tab");
	refused_text(
		"run_home = /x\033[2J", "f.conf, line 1: run_home holds a control byte", "escape");
	refused_text("workers_min = 99999999999999999999",
		"f.conf, line 1: workers_min: \"99999999999999999999\" is not", "over 64 bits");
	refused("a\0 = 1\n", 7, "f.conf, line 1: holds a NUL byte", "NUL in a key");
	refused("workers_min = 4\0\n", 17, "f.conf, line 1: holds a NUL byte",
		"NUL behind a value");
	refused("\n#\0\n", 4, "f.conf, line 2: holds a NUL byte", "NUL in a comment");
	memset(big, '#', sizeof big);
	refused(big, 1024, "f.conf, line 1: longer than 1023 bytes", "a line of 1024 bytes");
	big[1024] = '\n';
	refused(big, 1025, "f.conf, line 1: longer than 1023 bytes", "the same with its newline");
}

static void test_longest_line(void)
{
	char big[1200];
	struct conf c;
	struct err e;

	conf_init(&c);
	memset(big, '#', sizeof big);
	ok(conf_parse(&c, "x", big, 1023, &e) == 0, "a line of 1023 bytes");
	big[1023] = '\n';
	ok(conf_parse(&c, "x", big, 1024, &e) == 0, "and its newline");
	memset(big, '/', sizeof big);
	memcpy(big, "run_home = ", 11);
	ok(conf_parse(&c, "x", big, 1023, &e) == 0 && strlen(c.run_home) == 1023 - 11,
		"a string as long as the line");
	conf_clear(&c);
}

/* -- every key, as the dump tells them -- */

struct shown {
	char kind; /* i: number, o: octal, e: enum, s: string */
	char key[64], value[256], dflt[256], words[256];
	long long lo, hi;
};

/* Reads one block of the dump: comment lines, then "key = value", then an empty line. */
static bool next_key(FILE *f, struct shown *k)
{
	char line[512];

	memset(k, 0, sizeof *k);
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "# %lld to %lld, default %255s", &k->lo, &k->hi, k->dflt) == 3)
			k->kind = 'i';
		else if (sscanf(line, "# octal, default %255s", k->dflt) == 1)
			k->kind = 'o';
		else if (sscanf(line, "# one of: %255[^;]; default %255s", k->words, k->dflt) == 2)
			k->kind = 'e';
		else if (!strncmp(line, "# default \"", 11)) {
			k->kind = 's';
			sscanf(line + 11, "%255[^\"]", k->dflt);
		} else if (line[0] != '#' && line[0] != '\n') {
			sscanf(line, "%63s = %255[^\n]", k->key, k->value);
			return true;
		}
	}
	return false;
}

static char *dump(const struct conf *c)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	conf_dump(c, f);
	fclose(f); /* may move the text */
	return text;
}

/* The value that the dump shows for key, in a buffer of the caller. */
static const char *shown_value(const struct conf *c, const char *key, char *out, size_t size)
{
	OWN_MEM char *text = dump(c);
	OWN_FILE f = fmemopen(text, strlen(text), "r");
	struct shown k;

	out[0] = '\0';
	while (next_key(f, &k))
		if (!strcmp(k.key, key))
			snprintf(out, size, "%s", k.value);
	return out;
}

static bool takes(struct conf *c, const char *key, long long v)
{
	char text[32], got[256];
	struct err e = {0};

	snprintf(text, sizeof text, "%lld", v);
	if (conf_set(c, key, text, &e) < 0)
		return e.kind != ERR_CONF || strncmp(e.msg, key, strlen(key)) != 0;
	return !strcmp(shown_value(c, key, got, sizeof got), text);
}

static void check_number(struct conf *c, const struct shown *k)
{
	ok(takes(c, k->key, k->lo), "%s takes its least value %lld", k->key, k->lo);
	ok(takes(c, k->key, k->hi), "%s takes its greatest value %lld", k->key, k->hi);
	ok(!takes(c, k->key, k->lo - 1), "%s refuses %lld", k->key, k->lo - 1);
	ok(!takes(c, k->key, k->hi + 1), "%s refuses %lld", k->key, k->hi + 1);
	ok(takes(c, k->key, k->hi), "%s keeps what it had", k->key);
}

static void check_words(struct conf *c, const struct shown *k)
{
	char words[256], got[256], wrong[300];
	struct err e;

	snprintf(words, sizeof words, "%s", k->words);
	for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		ok(conf_set(c, k->key, w, &e) == 0, "%s takes %s", k->key, w);
		is_str(shown_value(c, k->key, got, sizeof got), w, "and shows it");
		snprintf(wrong, sizeof wrong, "%.*s", (int)strlen(w) - 1, w);
		ok(conf_set(c, k->key, wrong, &e) == -1, "%s refuses %s", k->key, wrong);
		snprintf(wrong, sizeof wrong, "%sx", w);
		ok(conf_set(c, k->key, wrong, &e) == -1, "%s refuses %s", k->key, wrong);
	}
	ok(conf_set(c, k->key, "", &e) == -1 && conf_set(c, k->key, "0", &e) == -1 &&
			conf_set(c, k->key, k->words, &e) == -1,
		"%s refuses nothing, a number, and all words together", k->key);
}

static void test_every_key(void)
{
	struct conf c, other;
	struct shown k;
	struct err e;
	int keys = 0, numbers = 0;

	conf_init(&c);
	conf_init(&other);
	OWN_MEM char *text = dump(&c);
	OWN_FILE f = fmemopen(text, strlen(text), "r");
	while (next_key(f, &k)) {
		keys++;
		if (!ok(k.kind != 0, "%s: the dump says what it takes", k.key))
			continue;
		if (strcmp(k.value, k.dflt) != 0)
			ok(false, "%s: default \"%s\", but \"%s\"", k.key, k.dflt, k.value);
		numbers += k.kind == 'i';
		if (k.kind == 'i')
			check_number(&other, &k);
		else if (k.kind == 'e')
			check_words(&other, &k);
	}
	ok(keys > 50 && numbers > 30, "%d keys, %d numbers", keys, numbers);
	ok(parse(&other, text, &e) == 0, "the dump is a file of the language");
	OWN_MEM char *again = dump(&other);
	is_str(again, text, "and brings every key back to what it says");
	conf_clear(&c);
	conf_clear(&other);
}

/* Bits, not a range: 0607 lies between 0600 and 0660 and lets everybody in. */
static void test_mode(void)
{
	struct conf c;
	struct err e;
	int good = 0;

	conf_init(&c);
	for (int m = 0; m <= 07777; m++) {
		char text[16];

		snprintf(text, sizeof text, "%o", (unsigned)m);
		if (conf_set(&c, "socket_mode", text, &e) == 0) {
			good++;
			if (c.socket_mode != m || (m & 07) || (m & 0600) != 0600 || (m & ~0660))
				ok(false, "socket_mode takes %04o", (unsigned)m);
		}
	}
	ok(good == 4, "socket_mode takes 0600, 0620, 0640 and 0660 alone (%d)", good);
	ok(conf_set(&c, "socket_mode", "0668", &e) == -1 &&
			conf_set(&c, "socket_mode", "rw", &e) == -1 &&
			conf_set(&c, "socket_mode", "-0600", &e) == -1,
		"and octal digits alone");
	conf_clear(&c);
}

static void test_enum_order(void)
{
	struct conf c;
	struct err e;

	conf_init(&c);
	ok(parse(&c,
		   "backend = docker\nnetwork = host\npull = missing\nunenforceable_limits = "
		   "report\n"
		   "log_level = quiet\n",
		   &e) == 0 &&
			c.backend == BACKEND_DOCKER && c.network == NETWORK_HOST &&
			c.pull == PULL_MISSING && c.unenforceable_limits == UNENFORCEABLE_REPORT &&
			c.log_level == LOG_QUIET,
		"words and enums are in the same order");
	ok(conf_set(&c, "log_level", "warning", &e) == 0 && c.log_level == LOG_WARN,
		"in the middle too");
	conf_clear(&c);
}

/* -- files and the environment -- */

static const char *path(const char *name)
{
	static char p[4][128];
	static int i;

	i = (i + 1) % 4;
	snprintf(p[i], sizeof p[i], "%s/%s", dir, name);
	return p[i];
}

static const char *file(const char *name, const void *text, size_t n, mode_t mode)
{
	const char *p = path(name);

	unlink(p); /* it may be one that only root could write to */
	OWN_FD fd = open(p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, text, n) != (ssize_t)n || fchmod(fd, mode) < 0) {
		printf("Bail out! cannot write %s\n", p);
		exit(1);
	}
	return p;
}

static const char *text_file(const char *name, const char *text)
{
	return file(name, text, strlen(text), 0600);
}

/* Loads and wants a refusal of `kind` whose message holds `with`. */
static void load_refused(const char *f, char *const *env, const char *with, const char *what)
{
	struct conf c;
	struct err e = {0};

	ok(conf_load(&c, f, env, &e) == -1 && e.kind == ERR_CONF, "refused: %s", what);
	if (!ok(strstr(e.msg, with) != NULL, "and named: %s", with))
		printf("# got: %s\n", e.msg);
	ok(c.state_dir == NULL, "nothing is left to clear");
}

static void test_files(void)
{
	OWN_MEM char *big = malloc(1 << 20);
	struct conf c;
	struct err e;
	char text[512];

	ok(conf_load(&c, NULL, NULL, &e) == 0 && c.workers_min == 4, "no file, no environment");
	conf_clear(&c);
	ok(conf_load(&c, text_file("a", "workers_min = 3\n"), NULL, &e) == 0 && c.workers_min == 3,
		"a file");
	conf_clear(&c);
	ok(conf_load(&c, text_file("a", ""), NULL, &e) == 0, "an empty file");
	conf_clear(&c);
	snprintf(text, sizeof text, "%s, line 2: unknown key \"x\"", path("a"));
	load_refused(text_file("a", "\nx = 1\n"), NULL, text, "a bad line, with file and line");
	load_refused(path("none"), NULL, "open ", "a missing file");
	load_refused(dir, NULL, "is not a regular file", "a directory");
	mkfifo(path("fifo"), 0600);
	load_refused(path("fifo"), NULL, "is not a regular file",
		"a FIFO, without waiting for a writer");
	if (!big)
		return;
	for (size_t i = 0; i < 1 << 20; i++)
		big[i] = i % 64 == 63 ? '\n' : '#';
	ok(conf_load(&c, file("big", big, (1 << 20) - 4096, 0600), NULL, &e) == 0,
		"a file of the greatest size");
	conf_clear(&c);
	load_refused(file("big", big, (1 << 20) - 4095, 0600), NULL, "is larger than 1044480 bytes",
		"one byte more");
}

/* Environments are arrays of literals; none of them is written to. */
#define ENV(...) ((char *const *)(const void *)(const char *const[]){__VA_ARGS__, NULL})

static void test_environment(void)
{
	struct conf c;
	struct err e;
	const char *f = text_file("a", "workers_min = 3\nrun_uid = 5\n");

	ok(conf_load(&c, f, ENV("CGIBOX_WORKERS_MIN=2", "PATH=/x", "CGIBOX_RUN_HOME=/h"), &e) ==
				0 &&
			c.workers_min == 2 && c.run_uid == 5 && !strcmp(c.run_home, "/h"),
		"the environment wins over the file, which wins over the default");
	conf_clear(&c);
	ok(conf_load(&c, f, ENV("CGIBOX_WORKERS_MIN="), &e) == 0 && c.workers_min == 3,
		"an empty variable is none");
	conf_clear(&c);
	ok(conf_load(&c, f, ENV("CGIBOX_", "CGIBOX_=1", "CGIBOX_TEST_STATE=/x", "NOEQUALS", "=x"),
		   &e) == 0,
		"variables that name no key are not ours");
	conf_clear(&c);
	ok(conf_load(&c, NULL,
		   ENV("CGIBOX_AN_EXTREMELY_LONG_NAME_THAT_NO_KEY_OF_OURS_WILL_EVER_HAVE_I_THINK="
		       "1"),
		   &e) == 0,
		"however long they are");
	conf_clear(&c);
	load_refused(NULL, ENV("CGIBOX_WORKERS_MIN=0"),
		"environment variable CGIBOX_WORKERS_MIN: workers",
		"a value out of range, by its variable");
	load_refused(NULL, ENV("CGIBOX_BACKEND=podman"), "environment variable CGIBOX_BACKEND",
		"an unknown word");
	load_refused(NULL, ENV("CGIBOX_RUN_HOME=/a\nworkers_max = 1"), "holds a control byte",
		"a newline, which would forge lines of the dump");
}

static void test_near(void)
{
	static const struct {
		const char *key, *near;
	} rows[] = {{"worker_min", "workers_min"}, {"workers_mni", "workers_min"},
		{"wrokers_imn", "workers_min"}, {"workers_minn", "workers_min"},
		{"workers_m", "workers_min"}, {"workers", NULL}, {"workers_min", "workers_min"},
		{"statedir", "state_dir"}, {"STATE_DIR", NULL}, {"pul", NULL}, {"pukl", "pull"},
		{"plul", "pull"}, {"puuull", NULL}, {"url", NULL}, {"conf", NULL}, {"", NULL},
		{"this_is_a_name_that_is_longer_than_any_of_the_keys", NULL}};
	struct err e = {0};

	for (size_t i = 0; i < NELEM(rows); i++) {
		const char *near = conf_near(rows[i].key);

		is_str(near ? near : "none", rows[i].near ? rows[i].near : "none", rows[i].key);
	}
	ok(conf_unknown("pukl", &e) == -1 && e.kind == ERR_CONF, "an error");
	is_str(e.msg, "unknown key \"pukl\", is \"pull\" meant?", "that names the key meant");
	conf_unknown("pudding", &e);
	is_str(e.msg, "unknown key \"pudding\"", "or none");
}

static void test_aliases(void)
{
	struct conf c;
	struct err e;

	ok(conf_load(&c, NULL,
		   ENV("DAIV_SANDBOX_API_KEY=k", "DAIV_SANDBOX_API_V1_STR=/v9",
			   "DAIV_SANDBOX_COMMAND_TIMEOUT=77", "DAIV_SANDBOX_RUN_UID=11",
			   "DAIV_SANDBOX_RUN_GID=12", "DAIV_SANDBOX_HOST=x", "DAIV_SANDBOX_PORT=y"),
		   &e) == 0 &&
			!strcmp(c.api_key, "k") && !strcmp(c.api_prefix, "/v9") &&
			c.command_timeout_s == 77 && c.run_uid == 11 && c.run_gid == 12,
		"daiv's names set our keys; HOST and PORT are the web server's");
	conf_clear(&c);
	for (int i = 0; i < 2; i++) {
		char *const *env = i ? ENV("CGIBOX_RUN_UID=2", "DAIV_SANDBOX_RUN_UID=1")
				     : ENV("DAIV_SANDBOX_RUN_UID=1", "CGIBOX_RUN_UID=2");

		ok(conf_load(&c, NULL, env, &e) == 0 && c.run_uid == 2,
			"our own name wins, in either order");
		conf_clear(&c);
	}
	load_refused(NULL, ENV("DAIV_SANDBOX_COMMAND_TIMEOUT=soon"),
		"environment variable DAIV_SANDBOX_COMMAND_TIMEOUT: command_timeout_s",
		"a bad alias, by its own name");
}

/* -- secrets -- */

static void secret(const void *key, size_t n, mode_t mode, const char *want, const char *what)
{
	char var[200];
	struct conf c;
	struct err e;

	snprintf(var, sizeof var, "CGIBOX_API_KEY_FILE=%s", file("key", key, n, mode));
	if (!want[0]) {
		load_refused(NULL, ENV(var), "/key", what);
		return;
	}
	if (ok(conf_load(&c, NULL, ENV(var), &e) == 0, "%s", what)) {
		is_str(c.api_key, want, "and read");
		conf_clear(&c);
	}
}

static void test_secret_file(void)
{
	char big[4200];

	memset(big, 'k', sizeof big);
	secret("top", 3, 0600, "top", "a key without a newline");
	secret("top\n", 4, 0400, "top", "with one");
	secret("top\r\n\n", 6, 0640, "top", "with some, and a group that may read it");
	secret("top", 3, 0604, "", "a file that everybody may read");
	secret("top", 3, 0602, "", "or write");
	secret("top", 3, 0601, "", "or execute");
	secret("", 0, 0600, "", "an empty file");
	secret("\n\r\n", 3, 0600, "", "a file of newlines");
	secret("\ntop\n", 5, 0600, "", "a key behind an empty line");
	secret("top\nsecret\n", 11, 0600, "", "two lines");
	secret("to\0p", 4, 0600, "", "a NUL");
	secret(big, 4097, 0600, "", "a key over 4096 bytes");
	big[4096] = '\0';
	secret(big, 4096, 0600, big, "one of 4096 bytes");
	load_refused(NULL, ENV("CGIBOX_API_KEY_FILE=/nonexistent/key"), "/nonexistent/key",
		"no such file");
	load_refused(NULL, ENV("CGIBOX_API_KEY_FILE=/tmp"), "not a regular file", "a directory");
}

static void test_secret_shown(void)
{
	char var[200];
	struct conf c;
	struct err e;

	snprintf(var, sizeof var, "CGIBOX_API_KEY_FILE=%s", file("key", "fromfile", 8, 0600));
	ok(conf_load(&c, NULL, ENV(var, "CGIBOX_API_KEY=Zq7given"), &e) == 0 &&
			!strcmp(c.api_key, "Zq7given"),
		"a key given directly wins over the file");
	OWN_MEM char *text = dump(&c);
	ok(!strstr(text, "Zq7given"), "the dump does not show it");
	ok(parse(&c, text, &e) == 0 && !strcmp(c.api_key, "Zq7given"),
		"and, read back as a file, does not replace it by its mask");
	conf_clear(&c);
}

static void test_pairs(void)
{
	struct conf c;
	struct err e;

	load_refused(text_file("a", "workers_min = 9\nworkers_max = 8\n"), NULL,
		"workers_min (9) is over workers_max (8)", "more at least than at most");
	ok(conf_load(&c, text_file("a", "workers_min = 8\nworkers_max = 8\n"), NULL, &e) == 0,
		"as many is fine");
	conf_clear(&c);
	load_refused(text_file("a", "command_timeout_s = 61\ncommand_timeout_max_s = 60\n"), NULL,
		"command_timeout_s (61) is over", "a default over the maximum");
	ok(conf_load(&c, text_file("a", "command_timeout_s = 0\ncommand_timeout_max_s = 1\n"), NULL,
		   &e) == 0,
		"0 is the maximum, whatever that is");
	conf_clear(&c);
	load_refused(text_file("a", "state_dir = var/lib\n"), NULL, "state_dir: \"var/lib\" is not",
		"a relative state directory");
	load_refused(text_file("a", "run_home =\n"), NULL, "run_home: \"\" is not", "no home");
	load_refused(text_file("a", "api_prefix = api\n"), NULL, "api_prefix: \"api\" does not",
		"a prefix without /");
	load_refused(text_file("a", "api_prefix = /api/\n"), NULL, "api_prefix: \"/api/\" does not",
		"a prefix that ends with /");
	ok(conf_load(&c, text_file("a", "api_prefix =\n"), NULL, &e) == 0, "no prefix");
	conf_clear(&c);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 2;
	test_lines();
	test_network();
	test_junk();
	test_longest_line();
	test_every_key();
	test_mode();
	test_enum_order();
	test_files();
	test_environment();
	test_near();
	test_aliases();
	test_secret_file();
	test_secret_shown();
	test_pairs();
	unlink(path("a"));
	unlink(path("big"));
	unlink(path("fifo"));
	unlink(path("key"));
	rmdir(dir);
	return done();
}

/* Code with handler(event): the wrappers in the machine's own interpreters, and the parser. */
#include "fcgi/handler.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

extern char **environ;

struct ran {
	int status;
	char out[65536], err[65536];
	enum handler_outcome outcome;
	char value[8192], text[65536]; /* what it returned, and what it printed besides */
};

static void slurp(int fd, char *to, size_t size)
{
	ssize_t n = pread(fd, to, size - 1, 0);

	to[n < 0 ? 0 : n] = '\0';
}

static void split(struct ran *r, const char *nonce)
{
	struct handler_output o;
	struct err e = {0};

	r->outcome = handler_parse(r->out, strlen(r->out), nonce, &o, &e);
	snprintf(r->value, sizeof r->value, "%.*s", (int)o.value_bytes, o.value ? o.value : "");
	snprintf(r->text, sizeof r->text, "%.*s%.*s", (int)o.before, r->out, (int)o.after_bytes,
		o.after);
}

static bool run(const struct handler_job *job, struct ran *r)
{
	OWN_FD out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
	posix_spawn_file_actions_t fa;
	struct handler h;
	struct err e = {0};
	pid_t pid;
	int st = 0;

	memset(r, 0, sizeof *r);
	if (handler_prepare(job, &h, &e) < 0) {
		printf("# %s\n", e.msg);
		return false;
	}
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, h.stdin_fd, 0);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_adddup2(&fa, err, 2);
	st = posix_spawnp(&pid, h.argv[0], &fa, NULL, (char *const *)(uintptr_t)h.argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(h.stdin_fd);
	if (st != 0 || waitpid(pid, &st, 0) != pid)
		return false;
	r->status = WIFEXITED(st) ? WEXITSTATUS(st) : -1;
	slurp(out, r->out, sizeof r->out);
	slurp(err, r->err, sizeof r->err);
	split(r, h.nonce);
	return true;
}

struct sample {
	enum handler_language language;
	const char *what, *code, *event;
	int status;
	const char *value; /* NULL: none */
	const char *text;
	const char *error; /* a part of standard error */
};

#define PY HANDLER_PYTHON
#define JS HANDLER_JAVASCRIPT
#define SH HANDLER_SHELL

static const struct sample samples[] = {
	{PY, "a value", "def handler(event):\n return {'n': event['n'] + 1}", "{\"n\":41}", 0,
		"{\"n\": 42}", "", ""},
	{PY, "zero", "def handler(event): return 0", NULL, 0, "0", "", ""},
	{PY, "an empty text", "def handler(event): return ''", NULL, 0, "\"\"", "", ""},
	{PY, "an empty list", "def handler(event): return []", NULL, 0, "[]", "", ""},
	{PY, "false", "def handler(event): return False", NULL, 0, "false", "", ""},
	{PY, "None", "def handler(event): pass", NULL, 0, "null", "", ""},
	{PY, "no event is an empty object", "def handler(e): return e", NULL, 0, "{}", "", ""},
	{PY, "NaN", "def handler(e): return {'a': [float('nan'), 1.5, -float('inf')], 'b': (1,)}",
		NULL, 0, "{\"a\": [null, 1.5, null], \"b\": [1]}", "", ""},
	{PY, "a large number", "def handler(e): return 2**100", NULL, 0,
		"1267650600228229401496703205376", "", ""},
	{PY, "half a character", "def handler(e): return 'a\\ud800b'", NULL, 0,
		"\"a\xef\xbf\xbd"
		"b\"",
		"", ""},
	{PY, "text is kept",
		"print('one')\nimport sys\nsys.stdout.write('two')\ndef handler(e): return 1", NULL,
		0, "1", "one\ntwo", ""},
	{PY, "and what atexit prints",
		"import atexit\natexit.register(print, 'bye')\ndef handler(e): print('hi'); return "
		"1",
		NULL, 0, "1", "hi\nbye\n", ""},
	{PY, "a closed standard output",
		"import sys, os\ndef handler(e):\n sys.stdout.close(); os.close(1) if 0 else None; "
		"return 5",
		NULL, 0, "5", "", ""},
	{PY, "an exception", "print('before')\ndef handler(e):\n return e['none']", NULL, 1, NULL,
		"before\n", "File \"<code>\", line 3, in handler\n    return e['none']"},
	{PY, "of what cannot be compiled", "def handler(:", NULL, 1, NULL, "", "SyntaxError"},
	{PY, "no handler", "x = 1", NULL, 1, NULL, "", "handler"},
	{PY, "no JSON", "def handler(e): return {1, 2}", NULL, 1, NULL, "",
		"not JSON serializable"},
	{PY, "too long a value", "def handler(e): return 'x' * 5000", NULL, 1, NULL, "",
		"5002 bytes"},
	{PY, "a circle", "def handler(e):\n a = []; a.append(a); return a", NULL, 1, NULL, "",
		"Error"},
	{PY, "sys.exit", "import sys\nprint('x')\ndef handler(e): sys.exit(7)", NULL, 7, NULL,
		"x\n", ""},
	{PY, "its input is empty", "import sys\ndef handler(e): return sys.stdin.read()", NULL, 0,
		"\"\"", "", ""},
	{PY, "names",
		"def handler(e): return [__name__, sorted(k for k in globals() if k[0] != '_')]",
		NULL, 0, "[\"__main__\", [\"handler\"]]", "", ""},
	{PY, "pickle finds a class",
		"import pickle\nclass A: pass\ndef handler(e): return "
		"type(pickle.loads(pickle.dumps(A()))).__name__",
		NULL, 0, "\"A\"", "", ""},
	{PY, "a traceback shows no wrapper", "def handler(e): 1/0", NULL, 1, NULL, "",
		"Traceback (most recent call last):\n  File \"<code>\", line 1, in handler"},
	{JS, "a value", "function handler(event) { return {n: event.n + 1}; }", "{\"n\":41}", 0,
		"{\"n\":42}", "", ""},
	{JS, "a constant", "const handler = (e) => 0;", NULL, 0, "0", "", ""},
	{JS, "an export", "exports.handler = () => [];", NULL, 0, "[]", "", ""},
	{JS, "a promise", "async function handler(e) { await 1; return false; }", NULL, 0, "false",
		"", ""},
	{JS, "undefined", "function handler() {}", NULL, 0, "null", "", ""},
	{JS, "NaN", "function handler() { return [NaN, Infinity]; }", NULL, 0, "[null,null]", "",
		""},
	{JS, "text",
		"console.log('a'); function handler() { process.stdout.write('b'); return 1; }",
		NULL, 0, "1", "a\nb", ""},
	{JS, "a module under its usual name",
		"const fs = require('fs'); const vm = 1; function handler() { return typeof "
		"fs.readFileSync; }",
		NULL, 0, "\"function\"", "", ""},
	{JS, "an exception", "console.log('a'); function handler() { throw new Error('bad'); }",
		NULL, 1, NULL, "a\n", "Error: bad"},
	{JS, "a rejection", "const handler = () => Promise.reject(new Error('no'));", NULL, 1, NULL,
		"", "Error: no"},
	{JS, "of what cannot be compiled", "function handler( {", NULL, 1, NULL, "", "SyntaxError"},
	{JS, "no handler", "1", NULL, 1, NULL, "", "handler"},
	{JS, "no JSON", "const handler = () => 10n;", NULL, 1, NULL, "", "BigInt"},
	{JS, "a promise that nobody settles", "const handler = () => new Promise(() => 0);", NULL,
		1, NULL, "", "never settled"},
	{JS, "process.exit", "function handler() { process.exit(7); }", NULL, 7, NULL, "", ""},
	{JS, "process.exit of success", "function handler() { process.exit(0); }", NULL, 0, NULL,
		"", ""},
	{SH, "a script", "#!/bin/sh\necho \"$0 $#\"\nexit 3", NULL, 3, NULL, "sh 0\n", ""},
	{SH, "its input is empty", "cat; echo end", NULL, 0, NULL, "end\n", ""},
	{SH, "JSON is no value", "echo '{\"a\":1}'", NULL, 0, NULL, "{\"a\":1}\n", ""},
	{SH, "standard error", "echo no >&2; false", NULL, 1, NULL, "", "no\n"},
};

static void try_samples(void)
{
	static struct ran r;

	for (size_t i = 0; i < NELEM(samples); i++) {
		const struct sample *s = &samples[i];
		struct handler_job job = {.language = s->language,
			.code = s->code,
			.code_bytes = strlen(s->code),
			.event = s->event,
			.value_max_bytes = 4096};
		bool good = run(&job, &r) && r.status == s->status &&
			    (r.outcome == HANDLER_VALUE) == (s->value != NULL) &&
			    (!s->value || !strcmp(r.value, s->value)) && !strcmp(r.text, s->text) &&
			    strstr(r.err, s->error) && (*s->error || !*r.err);

		ok(good, "%s: %s",
			s->language == PY   ? "python"
			: s->language == JS ? "javascript"
					    : "shell",
			s->what);
		if (!good)
			printf("# status %d value %s text \"%s\"\n# %s\n", r.status, r.value,
				r.text, r.err);
	}
}

/* Code and event far over what an argument list may hold. */
static void try_large(void)
{
	static char code[400000], event[2000000];
	static struct ran r;
	int n = snprintf(code, sizeof code, "def handler(e): return [len(e['t']), len(S)]\nS = '");
	struct handler_job job = {.code = code,
		.event = event,
		.code_bytes = sizeof code - 1,
		.value_max_bytes = 4096};
	int m = snprintf(event, sizeof event, "{\"t\":\"");

	memset(code + n, 'x', sizeof code - (size_t)n - 2);
	code[sizeof code - 2] = '\'';
	memset(event + m, 'y', sizeof event - (size_t)m - 3);
	strcpy(event + sizeof event - 3, "\"}");
	ok(run(&job, &r) && !strcmp(r.value, "[1999991, 399948]"), "an event of 2 MB: %s", r.value);
}

static void try_phases(void)
{
	static const char *const codes[] = {"x", "def handler(e): 1/0",
		"def handler(e): return {1}", "function (", "function handler() { throw 1; }",
		"const handler = () => 1n;"};
	static struct ran r;

	for (int i = 0; i < 6; i++) {
		struct handler_job job = {.language = i < 3 ? PY : JS,
			.code = codes[i],
			.code_bytes = strlen(codes[i]),
			.value_max_bytes = 4096,
			.phases = true};

		ok(run(&job, &r) && r.status == 1 + i % 3, "phase %d of %d: exit status %d",
			1 + i % 3, i / 3, r.status);
	}
}

static void try_place(void)
{
	static const char code[] =
		"import os\ndef handler(e): return [os.getcwd(), os.environ['CGIBOX_T']]";
	static const char script[] =
		"function handler() { return [process.cwd(), process.env.CGIBOX_T]; }";
	static struct ran r;
	struct handler_job job = {.code = code,
		.code_bytes = sizeof code - 1,
		.env = "{\"CGIBOX_T\":\"a b\"}",
		.cwd = "/usr",
		.value_max_bytes = 4096};

	ok(run(&job, &r) && !strcmp(r.value, "[\"/usr\", \"a b\"]"), "python: variables and place");
	job.language = JS;
	job.code = script;
	job.code_bytes = sizeof script - 1;
	ok(run(&job, &r) && !strcmp(r.value, "[\"/usr\",\"a b\"]"), "javascript: the same");
}

#define NONCE "0123456789abcdef0123456789abcdef"
#define MARK                                                                                       \
	"\x1e"                                                                                     \
	"cgibox-value " NONCE " "

static const struct {
	const char *text;
	enum handler_outcome outcome;
	const char *value, *before, *after;
} texts[] = {
	{"", HANDLER_NO_VALUE, "", "", ""},
	{"plain\n", HANDLER_NO_VALUE, "", "plain\n", ""},
	{MARK "1\n", HANDLER_VALUE, "1", "", ""},
	{"a" MARK "{\"x\":[]}\nb", HANDLER_VALUE, "{\"x\":[]}", "a", "b"},
	{MARK "1\n" MARK "2\n", HANDLER_VALUE, "2", MARK "1\n", ""},
	{MARK "1\n" MARK "2", HANDLER_VALUE, "1", "", MARK "2"},
	{MARK "1", HANDLER_NO_VALUE, "", MARK "1", ""},
	{MARK "\n", HANDLER_BAD_VALUE, "", "", ""},
	{MARK "1,2\n", HANDLER_BAD_VALUE, "", "", ""},
	{MARK "NaN\n", HANDLER_BAD_VALUE, "", "", ""},
	{MARK "{\"a\":1,\"a\":2}\n", HANDLER_BAD_VALUE, "", "", ""},
	{MARK "\"\xff\"\n", HANDLER_BAD_VALUE, "", "", ""},
	{MARK "{\"archive\":\"\xff\"}\n", HANDLER_BAD_VALUE, "", "", ""},
	{MARK "{\"archive\":\"no base64!\"}\n", HANDLER_VALUE, "{\"archive\":\"no base64!\"}", "",
		""},
	{"\x1e"
	 "cgibox-value ffffffffffffffffffffffffffffffff 1\n",
		HANDLER_NO_VALUE, "",
		"\x1e"
		"cgibox-value ffffffffffffffffffffffffffffffff 1\n",
		""},
	{"\x1e\x1e" MARK "null\n\x1e", HANDLER_VALUE, "null", "\x1e\x1e", "\x1e"},
};

static void try_parser(void)
{
	for (size_t i = 0; i < NELEM(texts); i++) {
		size_t n = strlen(texts[i].text);
		struct handler_output o;
		struct err e = {0};
		enum handler_outcome got = handler_parse(texts[i].text, n, NONCE, &o, &e);

		ok(got == texts[i].outcome && o.value_bytes == strlen(texts[i].value) &&
				!memcmp(o.value ? o.value : "", texts[i].value, o.value_bytes) &&
				o.before == strlen(texts[i].before) &&
				!memcmp(texts[i].text, texts[i].before, o.before) &&
				o.after_bytes == strlen(texts[i].after) &&
				!memcmp(o.after, texts[i].after, o.after_bytes) &&
				(got == HANDLER_BAD_VALUE) == (e.kind != ERR_NONE),
			"parse %zu: %s", i, e.msg);
	}
}

static void try_refusals(void)
{
	struct handler_job job = {.code = "a\0b", .code_bytes = 3, .value_max_bytes = 1};
	enum handler_language l;
	struct handler h;
	struct err e = {0};

	ok(handler_prepare(&job, &h, &e) < 0 && e.kind == ERR_REQUEST && h.stdin_fd < 0,
		"a NUL character in the code is refused");
	ok(handler_language_find("python", &l) && l == PY && handler_language_find("shell", &l) &&
			l == SH && !handler_language_find("perl", &l),
		"names of languages");
	job = (struct handler_job){.code = "1", .code_bytes = 1, .value_max_bytes = 1};
	ok(handler_prepare(&job, &h, &e) == 0 && write(h.stdin_fd, "x", 1) < 0 &&
			ftruncate(h.stdin_fd, 0) < 0,
		"what is its input cannot be changed");
	close(h.stdin_fd);
}

int main(void)
{
	try_samples();
	try_large();
	try_phases();
	try_place();
	try_parser();
	try_refusals();
	return done();
}

/*
 * The program `doctor`, reached as `cgibox doctor`: what this machine lets cgibox promise. It
 * only looks: what the probes make is in a scratch directory that is removed at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "images/rmtree.h"
#include "isolate/buf.h"
#include "isolate/ended.h"
#include "isolate/files.h"
#include "isolate/own.h"
#include "isolate/probe.h"

extern char **environ;

enum { EXIT_BLOCKED = 1, EXIT_USAGE = 64, SANDBOX_MS = 60000, SWEEP_MS = 30000, NAME_WIDTH = 13 };

static const char usage[] =
	"usage: cgibox doctor [--conf FILE] [--state DIR] [--json]\n"
	"What this machine allows, one line a fact: ok, weaker, or blocked with what fixes it.\n";

struct options {
	const char *conf, *state;
	bool json;
};

/* cgibox itself: above us in a build tree, or where `make install` puts it. */
static bool find_cgibox(char *out, size_t size)
{
	static const char *const places[] = {"../cgibox", "../../bin/cgibox"};
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	struct stat st;
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < NELEM(places); i++) {
		snprintf(out, size, "%.*s/%s", (int)(slash - self), self, places[i]);
		if (stat(out, &st) == 0 && S_ISREG(st.st_mode)) /* PREFIX/libexec/cgibox is not */
			return true;
	}
	return false;
}

/* Runs /bin/true in a sandbox; what cgibox complains of goes to text. Returns the wait status. */
static int run_true(
	const char *program, const char *conf, const char *state, char *text, size_t size)
{
	OWN_FD from = -1, to = -1;
	int pair[2], status = -1;
	sigset_t none;
	ssize_t n;
	pid_t pid;

	*text = '\0';
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -1;
	from = pair[0];
	to = pair[1];
	pid = fork();
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (dup2(to, 2) == 2 && dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 0) == 0 &&
			dup2(0, 1) == 1)
			execl(program, "cgibox", "--state", state, conf ? "--conf" : "run",
				conf ? conf : "--", conf ? "run" : "/bin/true",
				conf ? "/bin/true" : NULL, (char *)NULL);
		_exit(127);
	}
	own_close(&to);
	for (size_t at = 0; (n = read(from, text + at, size - 1 - at)) > 0;) {
		at += (size_t)n;
		text[at] = '\0';
	}
	own_close(&from);
	if (pid > 0)
		waitpid(pid, &status, 0);
	text[strcspn(text, "\n")] = '\0';
	return status;
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A whole sandbox. Twice: the first start makes the image's skeleton, the second is timed. */
static void probe_sandbox(const struct probe_env *env, struct fact *f)
{
	char program[PATH_MAX + 32], state[PATH_MAX + 8], why[300], how[64];
	double begin = 0;
	int status = -1;

	if (!*env->scratch) {
		probe_say(f, PROBE_BLOCKED, "cannot be tried without a state directory");
		probe_fix(f, "see the fact \"state-dir\"");
		return;
	}
	snprintf(state, sizeof state, "%s/state", env->scratch);
	if (!find_cgibox(program, sizeof program)) {
		probe_say(f, PROBE_BLOCKED, "the program cgibox is not beside this one");
		probe_fix(f, "make install");
		return;
	}
	for (int i = 0; i < 2; i++) {
		begin = now_ms();
		status = run_true(program, env->conf_file, state, why, sizeof why);
		if (status)
			break;
	}
	if (status == 0) {
		probe_say(f, PROBE_OK, "/bin/true in a sandbox of image host: %.1f ms",
			now_ms() - begin);
		return;
	}
	probe_say(f, PROBE_BLOCKED, "/bin/true in a sandbox: %s: %s",
		ended_text(status, how, sizeof how), why);
	probe_fix(f, "the other facts first");
}

static void remove_scratch(const struct probe_env *env, struct fact *f)
{
	struct err e = {0};
	char why[400];

	if (rmtree_at(AT_FDCWD, env->scratch, &e) == 0)
		probe_say(f, PROBE_OK, "removed");
	else
		probe_say(f, PROBE_BLOCKED, "%s", err_text(&e, why, sizeof why));
}

/* Printable ASCII in, so only two characters need an escape. */
static void add_json(struct buf *b, const char *key, const char *text)
{
	buf_addf(b, "\"%s\": \"", key);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			buf_addc(b, '\\');
		buf_addc(b, *text);
	}
	buf_addc(b, '"');
}

static void add_fact(struct buf *b, const struct fact *f, bool json)
{
	if (!json) {
		buf_addf(b, "%-7s  %-*s  %s%s%s\n", probe_state_name(f->state), NAME_WIDTH, f->name,
			f->text, *f->fix ? "; fix: " : "", f->fix);
		return;
	}
	buf_adds(b, b->len ? ",\n " : "[");
	buf_addc(b, '{');
	add_json(b, "name", f->name);
	buf_adds(b, ", ");
	add_json(b, "state", probe_state_name(f->state));
	buf_adds(b, ", ");
	add_json(b, "text", f->text);
	buf_adds(b, ", ");
	add_json(b, "fix", f->fix);
	buf_addc(b, '}');
}

/* A signal to end is taken between two facts, so that the scratch is removed. */
static bool interrupted(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
		       sigismember(&pending, SIGHUP));
}

/* Finds all facts into out. Returns whether one is blocked. */
static bool examine(struct probe_env *env, bool json, struct buf *out)
{
	static const struct probe last = {"sandbox", probe_sandbox, SANDBOX_MS},
				  sweep = {"scratch", remove_scratch, SWEEP_MS};
	char scratch[PATH_MAX];
	bool blocked = false;
	struct fact f;

	for (const struct probe *p = probe_table; p && !interrupted(); p = p == &last     ? NULL
									   : (p + 1)->run ? p + 1
											  : &last) {
		probe_run(p, env, &f);
		if (f.site >= 0 && probe_site_path(env->state_dir, f.site, (int)getpid(), scratch,
					   sizeof scratch))
			env->scratch = scratch;
		blocked = blocked || f.state == PROBE_BLOCKED;
		add_fact(out, &f, json);
	}
	if (*env->scratch) {
		probe_run(&sweep, env, &f);
		if (f.state != PROBE_OK) {
			blocked = true;
			add_fact(out, &f, json);
		}
	}
	env->scratch = "";
	return blocked;
}

static void hold_signals(bool hold)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static int report(const struct conf *c, const struct options *o)
{
	struct probe_env env = {.conf = c,
		.conf_file = o->conf,
		.state_dir = o->state ? o->state : c->state_dir,
		.scratch = ""};
	OWN_BUF out = BUF_INIT(1 << 17);
	bool blocked;

	hold_signals(true);
	blocked = examine(&env, o->json, &out);
	hold_signals(false);
	if (o->json)
		buf_adds(&out, "]\n");
	if (!buf_ok(&out) || fputs(out.p, stdout) < 0 || fflush(stdout) != 0) {
		perror("cgibox: print the facts");
		return 74; /* EX_IOERR */
	}
	return blocked ? EXIT_BLOCKED : 0;
}

static int refuse(const char *word, const char *why)
{
	fprintf(stderr, "cgibox doctor: \"%.100s\" %s\n", word, why);
	return -1;
}

/* 0, or 1 after --help, or -1 when it has told what is wrong. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"conf", required_argument, NULL, 'c'},
		{"state", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int opt;

	while ((opt = getopt_long(argc, argv, "+:", longs, NULL)) != -1) {
		if (opt == 'c')
			o->conf = optarg;
		else if (opt == 's')
			o->state = optarg;
		else if (opt == 'j')
			o->json = true;
		else if (opt == 'h')
			return 1;
		else
			return refuse(
				argv[optind - 1], opt == ':' ? "needs a value" : "is no option");
	}
	if (optind < argc)
		return refuse(argv[optind], "is too much: there are no arguments");
	return o->state && *o->state != '/' ? refuse(o->state, "is not an absolute path") : 0;
}

int main(int argc, char **argv)
{
	struct options o = {.conf = getenv("CGIBOX_CONF")};
	int ret = parse_options(argc, argv, &o);
	struct err e = {0};
	struct conf c;
	char why[400];

	if (ret) {
		fputs(usage, ret < 0 ? stderr : stdout);
		return ret < 0 ? EXIT_USAGE : 0;
	}
	if (conf_load(&c, o.conf, environ, &e) < 0) {
		fprintf(stderr, "cgibox: %s\n", err_text(&e, why, sizeof why));
		return err_exit_code(e.kind);
	}
	files_raise();
	if (!o.state && conf_person(&c, &e) < 0) {
		fprintf(stderr, "cgibox: %s\n", err_text(&e, why, sizeof why));
		ret = err_exit_code(e.kind);
	} else {
		ret = report(&c, &o);
	}
	conf_clear(&c);
	return ret;
}

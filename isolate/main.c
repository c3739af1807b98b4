/*
 * cgibox, the person's command. It links libc only, statically where musl is there, because 50
 * shared objects cost 8 ms a start; what needs more lives in programs of its own that it executes.
 */
#include "isolate/main.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isolate/log.h"
#include "isolate/own.h"

enum { EXIT_USAGE = 64 };

static const char usage[] =
	"usage: cgibox [--conf FILE] [--state DIR] COMMAND ...\n"
	"  run [options] [--] PROGRAM [ARGUMENT...]   run a program in a sandbox\n"
	"  image import|pull|ls|rm ...                the image store\n"
	"  doctor [--json]                            what this machine allows\n"
	"  config                                     print every setting\n"
	"  bench [--quick] [SECTION...]               what things cost here, against others\n"
	"  remote run|session|files|images ...        the sandboxes of a service elsewhere\n"
	"  version\n"
	"See cgibox(1), sandbox.conf(5).\n";

extern char **environ;

/* The programs beside us in a build tree (libexec/), or where `make install` put them. */
static int exec_helper(const char *name, char **argv)
{
	static const char *const places[] = {"libexec", "../libexec/cgibox"};
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < NELEM(places); i++) {
		snprintf(path, sizeof path, "%.*s/%s/%s", (int)(slash - self), self, places[i],
			name);
		execv(path, argv);
	}
	fprintf(stderr, "cgibox: cannot execute the program \"%s\": %s%s\n", name, strerror(errno),
		strcmp(name, "bench") ? "" : " (`make install-bench` installs it)");
	return 71;
}

/* Hands our own --conf and --state on through the environment, which every program reads. */
static int run_helper(const char *name, const char *conf, const char *state, char **argv)
{
	if ((conf && setenv("CGIBOX_CONF", conf, 1) < 0) ||
		(state && setenv("CGIBOX_STATE_DIR", state, 1) < 0)) {
		perror("cgibox: environment");
		return 71;
	}
	return exec_helper(name, argv);
}

static int print_config(const struct conf *c)
{
	conf_dump(c, stdout);
	if (fflush(stdout) == 0)
		return 0;
	perror("cgibox: print the configuration");
	return 74;
}

static int with_conf(const char *file, const char *state, int argc, char **argv)
{
	struct conf c;
	struct err e = {0};
	char why[400];
	int ret;

	if (state && setenv("CGIBOX_STATE_DIR", state, 1) < 0)
		return 71;
	if (conf_load(&c, file, environ, &e) < 0) {
		fprintf(stderr, "cgibox: %s\n", err_text(&e, why, sizeof why));
		return err_exit_code(e.kind);
	}
	if (conf_person(&c, &e) < 0) {
		fprintf(stderr, "cgibox: %s\n", err_text(&e, why, sizeof why));
		conf_clear(&c);
		return err_exit_code(e.kind);
	}
	log_open("cgibox", (enum log_level)c.log_level);
	ret = strcmp(argv[0], "run") ? print_config(&c) : main_run(&c, argc, argv);
	conf_clear(&c);
	return ret;
}

/* The usage: because it was asked for, or behind what is wrong. */
static int explain(const char *verb, const char *argument)
{
	bool takes_none = !strcmp(verb, "config") || !strcmp(verb, "version");

	if (!strcmp(verb, "help") || (takes_none && !strcmp(argument, "--help"))) {
		fputs(usage, stdout);
		return 0;
	}
	if (takes_none)
		fprintf(stderr, "cgibox: %s takes no arguments\n", verb);
	else if (*verb)
		fprintf(stderr, "cgibox: unknown command \"%.60s\"\n", verb);
	fputs(usage, stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"conf", required_argument, NULL, 'c'},
		{"state", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'}, {0}};
	const char *conf = NULL, *state = NULL, *verb;
	int o;

	while ((o = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (o) {
		case 'c':
			conf = optarg;
			break;
		case 's':
			state = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'V':
			puts("cgibox " VERSION);
			return 0;
		default:
			fprintf(stderr, "cgibox: %s \"%.60s\"\n",
				o == ':' ? "a value is missing behind" : "unknown option",
				argv[optind - 1]);
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	argc -= optind;
	argv += optind;
	optind = 0; /* a fresh scan for the verb's own options */
	verb = argc ? argv[0] : "";
	if (!strcmp(verb, "version") && argc == 1) {
		puts("cgibox " VERSION);
		return 0;
	}
	if (!strcmp(verb, "image") || !strcmp(verb, "doctor") || !strcmp(verb, "bench") ||
		!strcmp(verb, "remote"))
		return run_helper(verb, conf, state, argv);
	if (!strcmp(verb, "run") || (!strcmp(verb, "config") && argc == 1))
		return with_conf(conf, state, argc, argv);
	return explain(verb, argc == 2 ? argv[1] : "");
}

/*
 * cgibox.fcgi. Three ways to start it:
 *   by hand or by scripts/serve   it makes the socket, supervises, and runs itself as main;
 *   by itself (supervisor)        main of the whole service: keeper and workers;
 *   by a web server, socket on 0  one copy of several: one worker, the keeper is shared.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/front.h"
#include "fcgi/listen.h"
#include "fcgi/routes.h"
#include "fcgi/session_dir.h"
#include "fcgi/supervise.h"
#include "isolate/cgroup.h"
#include "isolate/conf.h"
#include "isolate/files.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { EXIT_USAGE = 64 };

extern char **environ;

static const char usage[] = "usage: cgibox.fcgi [--conf FILE] [--state DIR] [--listen SOCKET]\n"
			    "       cgibox.fcgi --routes\n"
			    "See cgibox.fcgi(8), sandbox.conf(5).\n";

struct options {
	const char *conf, *state, *listen;
};

/* Every route: method, template and what its table says of it; "**" is one segment or more. */
static int print_routes(void)
{
	static const struct {
		unsigned flag;
		const char *word;
	} words[] = {{ROUTE_OPEN, "open"}, {ROUTE_JSON, "json"}, {ROUTE_EMPTY, "empty"},
		{ROUTE_ARCHIVE, "archive"}, {ROUTE_RAW, "raw"}, {ROUTE_METRICS, "metrics"}};

	for (unsigned i = 1; i < routes_count(); i++) {
		const struct route *r = routes_at(i);

		printf("%s /%s%s", routes_method(r->method), r->path,
			r->flags & ROUTE_SLASH ? "/" : "");
		for (size_t k = 0; k < NELEM(words); k++)
			if (r->flags & words[k].flag)
				printf(" %s", words[k].word);
		putchar('\n');
	}
	return fflush(stdout) ? 74 : 0;
}

/* Returns -1 to go on, else the exit code. */
static int parse(int argc, char **argv, struct options *o)
{
	static const struct option options[] = {{"conf", required_argument, NULL, 'c'},
		{"state", required_argument, NULL, 's'}, {"listen", required_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'}, {"routes", no_argument, NULL, 'R'},
		{"version", no_argument, NULL, 'V'}, {0}};
	int opt;

	o->conf = getenv("CGIBOX_CONF");
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			o->conf = optarg;
			break;
		case 's':
			o->state = optarg;
			break;
		case 'l':
			o->listen = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'R':
			return print_routes();
		case 'V':
			puts("cgibox.fcgi " VERSION);
			return 0;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc)
		return -1;
	fputs(usage, stderr);
	return EXIT_USAGE;
}

/* What a service needs beyond what conf_load() checks. */
static int check(const struct conf *c, struct err *e)
{
	if (!*c->api_key)
		return err_set(e, ERR_CONF, 0,
			"api_key: no key is set (CGIBOX_API_KEY, api_key or api_key_file)");
	if (geteuid() == 0)
		log_line(LOG_WARN, "runs as root: sandboxes would too, from the host's point of "
				   "view; use an ordinary user");
	return 0;
}

/* Before anything else runs here: the group it is started in must be empty of processes. A path
 * that does not work is an error; what auto does not find, the keeper tells. */
static int prepare_groups(const struct conf *c, struct err *e)
{
	struct cgroup g;
	struct err why = {0};
	int ret = cgroup_open(c->cgroup, &g, &why);

	cgroup_close(&g);
	if (ret < 0 && why.kind != ERR_NOTFOUND) {
		*e = why;
		return -1;
	}
	return 0;
}

static int run_service(const struct conf *c, const struct options *o, const struct session_dirs *d,
	char **argv, struct err *e)
{
	OWN_MEM char *path = NULL;
	OWN_FD lock = session_dirs_lock(d, e), s = -1;
	const char *name = o->listen ? o->listen : *c->listen_socket ? c->listen_socket : NULL;
	int ret;

	if (lock < 0)
		return -1;
	if (!name && asprintf(&path, "%s/cgibox.sock", c->state_dir) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "socket name");
	name = name ? name : path;
	if (prepare_groups(c, e) < 0)
		return -1;
	s = listen_open(c, name, e);
	if (s < 0)
		return -1;
	log_line(LOG_INFO, "listens on %s", name);
	ret = supervise_run(s, argv, e);
	listen_remove(name);
	return ret;
}

static int serve(const struct conf *c, const struct options *o, char **argv, struct err *e)
{
	struct front_args front = {.conf = c, .listener = 0, .lifeline = supervise_lifeline()};
	struct session_dirs dirs;

	if (check(c, e) < 0)
		return -1;
	/* workers lock themselves into tmp/, so it must be there before the first */
	if (session_dirs_open(&dirs, c->state_dir, e) < 0)
		return -1;
	if (!listen_inherited()) {
		int ret = run_service(c, o, &dirs, argv, e);

		session_dirs_close(&dirs);
		return ret;
	}
	session_dirs_close(&dirs);
	prctl(PR_SET_NAME, "cgibox-main", 0, 0, 0); /* else "exe", as it was executed */
	front.own = front.lifeline >= 0;
	return front_run(&front, e);
}

/* Standard descriptors must be there: a file opened as 1 or 2 would get our messages. */
static void open_standard(void)
{
	struct stat st;

	for (int fd = 0; fd <= 2; fd++)
		if (fstat(fd, &st) < 0 && open("/dev/null", O_RDWR) != fd)
			exit(71);
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct conf c;
	struct err e = {0};
	char why[400];
	int code;

	open_standard();
	code = parse(argc, argv, &o);
	if (code >= 0)
		return code;
	if (o.state && setenv("CGIBOX_STATE_DIR", o.state, 1) < 0)
		return 71;
	if (conf_load(&c, o.conf, environ, &e) < 0) {
		fprintf(stderr, "cgibox.fcgi: %s\n", err_text(&e, why, sizeof why));
		return err_exit_code(e.kind);
	}
	log_open("cgibox", (enum log_level)c.log_level);
	umask(022);
	files_raise(); /* workers and keeper inherit it; with few, connections wait in the backlog */
	if (serve(&c, &o, argv, &e) < 0) {
		log_err(LOG_ERROR, &e, "start");
		code = err_exit_code(e.kind);
	}
	conf_clear(&c);
	return code < 0 ? 0 : code;
}

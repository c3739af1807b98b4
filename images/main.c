/* The program `image`, reached as `cgibox image ...`: the image store from the command line. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/import.h"
#include "images/listing.h"
#include "images/pull.h"
#include "isolate/conf.h"
#include "isolate/log.h"
#include "isolate/own.h"

struct options {
	const char *conf, *state;
	enum progress_form form;
	bool for_client;
	bool platform_given;
	struct platform platform;
};

struct context {
	struct store *store;
	const struct conf *conf;
	const struct options *options;
	char **args;
};

static const char usage_text[] =
	"usage: cgibox image [--conf FILE] [--state DIR] [--quiet | --json] VERB ...\n"
	"  import NAME FILE|DIR  root file system (tar or directory), docker save, OCI layout\n"
	"  pull [--platform OS/ARCH[/VARIANT]] [--quiet | --json] [--for-client] REF\n"
	"                        an image from a registry\n"
	"  ls                    list references\n"
	"  inspect REF           what a sandbox would get\n"
	"  rm REF                remove a reference, and what nothing else uses\n"
	"  prune                 remove layers that failed pulls left for the next try\n";

static int verb_add(struct context *c, bool pull, struct err *e)
{
	OWN_MEM struct progress *progress = malloc(sizeof *progress);
	const struct options *o = c->options;
	struct ingest in;
	char id[65], text[400];
	int r;

	if (!progress)
		return err_set(e, ERR_SETUP, ENOMEM, "show progress");
	progress_init(progress, o->form);
	if (ingest_open(&in, c->store, c->conf, progress, e) < 0)
		return -1;
	if (o->platform_given)
		in.platform = o->platform;
	r = pull ? pull_image(&in, c->args[0], o->for_client, id, e)
		 : import_image(&in, c->args[0], c->args[1], id, e);
	if (r < 0)
		ingest_abandon(&in, e);
	else
		ingest_close(&in);
	if (r < 0)
		progress_event(progress, "error", "message", err_text(e, text, sizeof text));
	else if (o->form == PROGRESS_JSON)
		progress_event(progress, "done", "id", id);
	else
		printf("%s\n", id);
	return r;
}

static int verb_import(struct context *c, struct err *e)
{
	return verb_add(c, false, e);
}

static int verb_pull(struct context *c, struct err *e)
{
	return verb_add(c, true, e);
}

static int verb_ls(struct context *c, struct err *e)
{
	return listing_print(c->store, stdout, e);
}

static int verb_inspect(struct context *c, struct err *e)
{
	return listing_inspect(c->store, c->args[0], stdout, e);
}

static int verb_rm(struct context *c, struct err *e)
{
	return listing_remove(c->store, c->args[0], e);
}

static int verb_prune(struct context *c, struct err *e)
{
	return listing_prune(c->store, NULL, 0, e);
}

static const struct verb {
	const char *name;
	int args;
	int (*run)(struct context *, struct err *);
} verbs[] = {{"import", 2, verb_import}, {"pull", 1, verb_pull}, {"ls", 0, verb_ls},
	{"inspect", 1, verb_inspect}, {"rm", 1, verb_rm}, {"prune", 0, verb_prune}};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < NELEM(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* Takes options up to the first word, whose index is returned; 0 after --help, -1. */
static int parse_options(int argc, char **argv, bool pull, struct options *o)
{
	static const struct option longs[] = {{"conf", required_argument, NULL, 'c'},
		{"state", required_argument, NULL, 's'}, {"quiet", no_argument, NULL, 'q'},
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'},
		{"platform", required_argument, NULL, 'p'}, {"for-client", no_argument, NULL, 'f'},
		{NULL, 0, NULL, 0}};
	int opt;

	optind = 0; /* GNU: from the beginning */
	while ((opt = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		if (opt == 'c')
			o->conf = optarg;
		else if (opt == 's')
			o->state = optarg;
		else if (opt == 'q')
			o->form = PROGRESS_QUIET;
		else if (opt == 'j')
			o->form = PROGRESS_JSON;
		else if (pull && opt == 'f')
			o->for_client = true;
		else if (pull && opt == 'p' && platform_parse(optarg, &o->platform))
			o->platform_given = true;
		else
			return opt == 'h' ? 0 : -1;
	}
	return optind < argc ? optind : -1;
}

static int run_verb(const struct verb *v, const struct options *o, char **args, struct err *e)
{
	struct conf conf;
	struct context c = {.conf = &conf, .options = o, .args = args};
	int r = -1;

	if (conf_load(&conf, o->conf, environ, e) < 0)
		return -1;
	c.store = store_open(o->state ? o->state : conf.state_dir, e);
	if (c.store)
		r = v->run(&c, e);
	store_close(c.store);
	conf_clear(&conf);
	if (r == 0 && fflush(stdout) != 0)
		r = err_set(e, ERR_SETUP, errno, "write the output");
	return r;
}

int main(int argc, char **argv)
{
	struct options o = {.conf = getenv("CGIBOX_CONF")};
	const struct verb *v;
	struct err e = {0};
	char text[400];
	int at = parse_options(argc, argv, false, &o), more = 0;

	v = at > 0 ? find_verb(argv[at]) : NULL;
	if (v && v->run == verb_pull) {
		more = parse_options(argc - at, argv + at, true, &o);
		at += more > 0 ? more - 1 : 0;
	}
	if (at == 0 || (v && v->run == verb_pull && more == 0)) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (!v || more < 0 || argc - at - 1 != v->args) {
		fputs(usage_text, stderr);
		return 64; /* EX_USAGE */
	}
	signal(SIGPIPE, SIG_IGN); /* an unpacker that gives up is an error, not our end */
	if (run_verb(v, &o, argv + at + 1, &e) == 0)
		return 0;
	fprintf(stderr, "cgibox image: %s\n", err_text(&e, text, sizeof text));
	return err_exit_code(e.kind);
}

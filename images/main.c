/* The program `image`, reached as `cgibox image ...`: the image store from the command line. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/collect.h"
#include "images/export.h"
#include "images/import.h"
#include "images/listing.h"
#include "images/pull.h"
#include "images/shed.h"
#include "images/tag.h"
#include "images/verify.h"
#include "isolate/conf.h"
#include "isolate/log.h"
#include "isolate/own.h"

struct options {
	const char *conf, *state;
	enum progress_form form;
	bool for_client, dry_run, repair;
	bool platform_given;
	struct platform platform;
};

struct context {
	struct store *store;
	const struct conf *conf;
	const struct options *options;
	char **args;
	int nargs;
	struct progress *progress; /* for events: the form alone counts */
};

static const char usage_text[] =
	"usage: cgibox image [--conf FILE] [--state DIR] [--quiet | --json] VERB ...\n"
	"  import NAME FILE|DIR|-  root file system (tar or directory), docker save, OCI layout\n"
	"  pull [--platform OS/ARCH[/VARIANT]] [--for-client] REF\n"
	"                          an image from a registry\n"
	"  export REF FILE|DIR|-   an image as an OCI layout: archive or directory\n"
	"  ls                      list references\n"
	"  inspect REF             what a sandbox would get\n"
	"  history REF             how it was made\n"
	"  tag REF NAME            one more name\n"
	"  rm REF...               remove names, and what nothing else uses\n"
	"  gc [--dry-run]          remove what no name, no session and no sandbox uses; also: "
	"prune\n"
	"  df                      disk space of layers\n"
	"  verify [--repair] [REF] whether the store holds what came in; pull again what is "
	"damaged\n";

static int verb_add(struct context *c, bool pull, struct err *e)
{
	const struct options *o = c->options;
	struct ingest in;
	char id[65];
	int r;

	if (ingest_open(&in, c->store, c->conf, c->progress, e) < 0)
		return -1;
	if (o->platform_given)
		in.platform = o->platform;
	in.platform_asked = o->platform_given;
	r = pull ? pull_image(&in, c->args[0], o->for_client, id, e)
		 : import_image(&in, c->args[0], c->args[1], id, e);
	if (r < 0)
		ingest_abandon(&in, e);
	else
		ingest_close(&in);
	if (r == 0 && o->form == PROGRESS_JSON)
		progress_event(c->progress, "done", "id", id);
	else if (r == 0)
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

static enum listing_form form_of(const struct context *c)
{
	if (c->options->form == PROGRESS_JSON)
		return LISTING_JSON;
	return isatty(STDOUT_FILENO) == 1 ? LISTING_ALIGNED : LISTING_TABS;
}

static int verb_ls(struct context *c, struct err *e)
{
	return listing_print(c->store, form_of(c), stdout, e);
}

static int verb_inspect(struct context *c, struct err *e)
{
	return listing_inspect(c->store, c->args[0], form_of(c), stdout, e);
}

static int verb_history(struct context *c, struct err *e)
{
	return listing_history(c->store, c->args[0], form_of(c), stdout, e);
}

static int verb_df(struct context *c, struct err *e)
{
	return listing_disk(c->store, form_of(c), stdout, e);
}

static int verb_tag(struct context *c, struct err *e)
{
	return tag_image(c->store, c->args[0], c->args[1], e);
}

static int verb_export(struct context *c, struct err *e)
{
	return export_image(c->store, c->conf, c->args[0], c->args[1], e);
}

/* "+" stands for "/" in the names of files below refs/. */
static void tell_collected(void *arg, const struct collect_event *ev)
{
	const struct context *c = arg;
	char name[300];

	snprintf(name, sizeof name, "%s", ev->name);
	for (char *p = name; *p; p++)
		if (*p == '+')
			*p = '/';
	if (c->options->form == PROGRESS_JSON) {
		progress_collected(ev->what, name, ev->bytes, ev->kept_by, ev->who);
	} else if (c->options->form == PROGRESS_LINES) {
		printf("%s %s %s",
			ev->kept_by           ? "kept"
			: c->options->dry_run ? "would remove"
					      : "removed",
			ev->what, name);
		if (ev->kept_by)
			printf(" used by %s%s%s", ev->kept_by, *ev->who ? " " : "", ev->who);
		putchar('\n');
	}
}

/* Each of them is tried; the last error is the result. */
static int verb_rm(struct context *c, struct err *e)
{
	const struct collect k = {.store = c->store, .tell = tell_collected, .arg = c};
	char text[400];
	int r = 0;

	for (int i = 0; i < c->nargs; i++) {
		struct err own = {0};

		if (collect_remove(&k, c->args[i], &own) == 0)
			continue;
		if (r < 0)
			fprintf(stderr, "cgibox image: %s\n", err_text(e, text, sizeof text));
		*e = own;
		r = -1;
	}
	return r;
}

static int verb_gc(struct context *c, struct err *e)
{
	const struct collect k = {
		.store = c->store, .dry = c->options->dry_run, .tell = tell_collected, .arg = c};

	return collect_all(&k, e);
}

static void tell_damage(
	void *arg, const char *what, const char *name, const char *path, const char *why)
{
	const struct context *c = arg;

	if (c->options->form == PROGRESS_JSON)
		progress_damage("damaged", what, name, path, why);
	else if (c->options->form == PROGRESS_LINES)
		printf("damaged %s %s%s%s: %s\n", what, name, *path ? " " : "", path, why);
}

static void tell_repair(void *arg, const char *id, const char *why)
{
	const struct context *c = arg;

	if (c->options->form == PROGRESS_JSON)
		progress_damage(why ? "unrepaired" : "repaired", "image", id, "", why ? why : "");
	else if (c->options->form == PROGRESS_LINES)
		printf("%s image %s%s%s\n", why ? "could not repair" : "repaired", id,
			why ? ": " : "", why ? why : "");
}

static int verb_verify(struct context *c, struct err *e)
{
	struct ingest in;
	struct verify v = {.in = &in,
		.repair = c->options->repair,
		.damaged = tell_damage,
		.repaired = tell_repair,
		.arg = c};
	int r;

	if (ingest_open(&in, c->store, c->conf, c->progress, e) < 0)
		return -1;
	r = verify_store(&v, c->nargs ? c->args[0] : NULL, e);
	ingest_close(&in);
	if (r == 0 && v.left)
		return err_set(
			e, ERR_SETUP, 0, "%lu of the store's images and names are damaged", v.left);
	return r;
}

enum accept { A_PULL = 1, A_DRY = 2, A_REPAIR = 4 };

static const struct verb {
	const char *name;
	int least, most;
	unsigned accept; /* enum accept: options of its own */
	int (*run)(struct context *, struct err *);
} verbs[] = {{"import", 2, 2, 0, verb_import}, {"pull", 1, 1, A_PULL, verb_pull},
	{"export", 2, 2, 0, verb_export}, {"ls", 0, 0, 0, verb_ls},
	{"inspect", 1, 1, 0, verb_inspect}, {"history", 1, 1, 0, verb_history},
	{"tag", 2, 2, 0, verb_tag}, {"rm", 1, 1000, 0, verb_rm}, {"gc", 0, 0, A_DRY, verb_gc},
	{"prune", 0, 0, A_DRY, verb_gc}, {"df", 0, 0, 0, verb_df},
	{"verify", 0, 1, A_REPAIR, verb_verify}};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < NELEM(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static bool take_own(int opt, unsigned accept, struct options *o)
{
	if (opt == 'f' && accept & A_PULL)
		return o->for_client = true;
	if (opt == 'p' && accept & A_PULL)
		return o->platform_given = platform_parse(optarg, &o->platform);
	if (opt == 'n' && accept & A_DRY)
		return o->dry_run = true;
	return opt == 'r' && accept & A_REPAIR && (o->repair = true);
}

/* Tells what is wrong with the option that getopt_long(3) has just looked at, the word before optind. */
static int refuse_option(int opt, unsigned accept, const char *word)
{
	if (opt == 'p' && accept & A_PULL)
		fprintf(stderr, "cgibox image: --platform: \"%.60s\" is not OS/ARCH[/VARIANT]\n",
			optarg);
	else if (opt == ':')
		fprintf(stderr, "cgibox image: %.60s needs a value\n", word);
	else
		fprintf(stderr, "cgibox image: \"%.60s\" is no option here\n", word);
	return -1;
}

/* Takes options up to the first word, whose index is returned (argc: none); 0: --help, -1: told. */
static int parse_options(int argc, char **argv, unsigned accept, struct options *o)
{
	static const struct option longs[] = {{"conf", required_argument, NULL, 'c'},
		{"state", required_argument, NULL, 's'}, {"quiet", no_argument, NULL, 'q'},
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'},
		{"platform", required_argument, NULL, 'p'}, {"for-client", no_argument, NULL, 'f'},
		{"dry-run", no_argument, NULL, 'n'}, {"repair", no_argument, NULL, 'r'},
		{NULL, 0, NULL, 0}};
	int opt;

	optind = 0; /* GNU: from the beginning */
	while ((opt = getopt_long(argc, argv, "+:", longs, NULL)) != -1) {
		if (opt == 'c')
			o->conf = optarg;
		else if (opt == 's')
			o->state = optarg;
		else if (opt == 'q')
			o->form = PROGRESS_QUIET;
		else if (opt == 'j')
			o->form = PROGRESS_JSON;
		else if (opt == 'h')
			return 0;
		else if (!take_own(opt, accept, o))
			return refuse_option(opt, accept, argv[optind - 1]);
	}
	return optind;
}

static int run_verb(
	const struct verb *v, const struct options *o, int nargs, char **args, struct err *e)
{
	OWN_MEM struct progress *progress = malloc(sizeof *progress);
	struct conf conf;
	struct context c = {
		.conf = &conf, .options = o, .args = args, .nargs = nargs, .progress = progress};
	char text[400];
	int r = -1;

	if (!progress)
		return err_set(e, ERR_SETUP, ENOMEM, "show progress");
	progress_init(progress, o->form);
	if (conf_load(&conf, o->conf, environ, e) < 0)
		return -1;
	if (o->state || conf_person(&conf, e) == 0)
		c.store = store_open(o->state ? o->state : conf.state_dir, e);
	if (c.store)
		r = v->run(&c, e);
	store_close(c.store);
	conf_clear(&conf);
	if (r < 0)
		progress_event(progress, "error", "message", err_text(e, text, sizeof text));
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
	int at = parse_options(argc, argv, 0, &o), more = 0, nargs;

	v = at > 0 && at < argc ? find_verb(argv[at]) : NULL;
	if (v)
		more = parse_options(argc - at, argv + at, v->accept, &o);
	if (at == 0 || (v && more == 0)) {
		fputs(usage_text, stdout);
		return 0;
	}
	nargs = argc - at - more;
	if (!v && at > 0 && at < argc)
		fprintf(stderr, "cgibox image: unknown verb \"%.60s\"\n", argv[at]);
	else if (v && more > 0 && (nargs < v->least || nargs > v->most))
		fprintf(stderr, "cgibox image: too %s arguments for %s\n",
			nargs < v->least ? "few" : "many", v->name);
	if (!v || more < 0 || nargs < v->least || nargs > v->most) {
		fputs(usage_text, stderr);
		return 64; /* EX_USAGE */
	}
	shed_startup();
	signal(SIGPIPE, SIG_IGN); /* an unpacker that gives up is an error, not our end */
	if (run_verb(v, &o, nargs, argv + at + more, &e) == 0)
		return 0;
	fprintf(stderr, "cgibox image: %s\n", err_text(&e, text, sizeof text));
	return err_exit_code(e.kind);
}

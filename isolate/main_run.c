/* cgibox run: one program in one fresh sandbox, on the caller's terminal or pipes. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "images/store.h"
#include "isolate/buf.h"
#include "isolate/client.h"
#include "isolate/launch_pasta.h"
#include "isolate/main.h"
#include "isolate/main_upper.h"
#include "isolate/own.h"

enum {
	EXIT_USAGE = 64,
	EXIT_NO_EXEC = 126,
	EXIT_NOT_FOUND = 127,
	BINDS_MAX = 64,
	ENV_MAX = 1 << 20,
	READY_MS = 30000
};

struct run_opts {
	const char *image, *dir, *hostname;
	struct launch_mount mount[BINDS_MAX];
	size_t nmounts;
	struct buf env;
	long uid, gid; /* -1: the image's */
	long long timeout_s;
	bool host_network, pasta;
	char **argv;
};

static const char usage[] =
	"usage: cgibox run [options] [--] PROGRAM [ARGUMENT...]\n"
	"  --image REF            image of the store; default host, the machine's own /usr\n"
	"  --bind SRC:DST[:rw]    show a file or directory, read-only unless :rw\n"
	"  --env NAME=VALUE       set a variable; nothing of the caller's environment is passed\n"
	"  --cwd DIR              directory inside\n"
	"  --uid N, --gid N       ids inside; default the image's user, or 0\n"
	"  --hostname NAME        default sandbox\n"
	"  --network WORD         none, host or pasta; default none; sandbox.conf must allow it\n"
	"  --timeout SECONDS      kill everything then; exit code 124\n";

static int fail(const struct err *e)
{
	char why[400];

	fprintf(stderr, "cgibox: %s\n", err_text(e, why, sizeof why));
	return err_exit_code(e->kind);
}

static int parse_number(
	const char *name, const char *text, long long max, long long *out, struct err *e)
{
	char *end;

	errno = 0;
	*out = strtoll(text, &end, 10);
	if (errno || end == text || *end || *out < 0 || *out > max)
		return err_set(e, ERR_CONF, 0, "--%s: \"%.60s\" is not a number from 0 to %lld",
			name, text, max);
	return 0;
}

/* SRC:DST[:rw], split in place. */
static int parse_bind(struct run_opts *o, char *text, struct err *e)
{
	char *dst = strchr(text, ':'), *mode = dst ? strchr(dst + 1, ':') : NULL;
	struct launch_mount *m = &o->mount[o->nmounts];

	if (o->nmounts == BINDS_MAX)
		return err_set(e, ERR_CONF, 0, "more than %d binds", BINDS_MAX);
	if (!dst || dst == text || dst[1] != '/' ||
		(mode && strcmp(mode, ":rw") && strcmp(mode, ":ro")))
		return err_set(e, ERR_CONF, 0, "--bind: \"%.100s\" is not SRC:/DST[:rw]", text);
	*m = (struct launch_mount){
		.kind = PLAN_BIND, .flags = PLAN_RECURSIVE, .src = text, .dst = dst + 1};
	if (mode && !strcmp(mode, ":rw"))
		m->flags |= PLAN_WRITABLE;
	*dst = '\0';
	if (mode)
		*mode = '\0';
	o->nmounts++;
	return 0;
}

static int parse_network(const struct conf *c, struct run_opts *o, const char *word, struct err *e)
{
	o->host_network = !strcmp(word, "host");
	o->pasta = !strcmp(word, "pasta");
	if (o->pasta && c->network != NETWORK_PASTA)
		return err_set(e, ERR_CONF, 0,
			"--network pasta: sandbox.conf does not allow it (network = pasta is not "
			"set)");
	if (!o->host_network && !o->pasta && strcmp(word, "none"))
		return err_set(
			e, ERR_CONF, 0, "--network: \"%.60s\" is none of: none host pasta", word);
	if (o->host_network && c->network != NETWORK_HOST)
		return err_set(e, ERR_CONF, 0,
			"--network host: sandbox.conf does not allow it (network = none)");
	return 0;
}

static int parse_one(const struct conf *c, struct run_opts *o, int opt, char *arg, struct err *e)
{
	long long n;

	switch (opt) {
	case 'i':
		o->image = arg;
		return 0;
	case 'b':
		return parse_bind(o, arg, e);
	case 'e':
		if (*arg == '=' || !strchr(arg, '='))
			return err_set(e, ERR_CONF, 0, "--env: \"%.60s\" is not NAME=VALUE", arg);
		return buf_add(&o->env, arg, strlen(arg) + 1) < 0
			       ? err_set(e, ERR_CONF, 0, "--env: over %d bytes", ENV_MAX)
			       : 0;
	case 'd':
		o->dir = arg;
		return *arg == '/' ? 0 : err_set(e, ERR_CONF, 0, "--cwd: not an absolute path");
	case 'h':
		o->hostname = arg;
		return strlen(arg) <= 64 ? 0 : err_set(e, ERR_CONF, 0, "--hostname: over 64 bytes");
	case 'n':
		return parse_network(c, o, arg, e);
	case 't':
		return parse_number("timeout", arg, 86400, &o->timeout_s, e);
	default:
		if (parse_number(opt == 'u' ? "uid" : "gid", arg, 65533, &n, e) < 0)
			return -1;
		*(opt == 'u' ? &o->uid : &o->gid) = (long)n;
		return 0;
	}
}

/* 0, or -1 with e; ERR_NONE in e means that getopt already said what is wrong. */
static int parse(const struct conf *c, int argc, char **argv, struct run_opts *o, struct err *e)
{
	static const struct option options[] = {{"image", 1, NULL, 'i'}, {"bind", 1, NULL, 'b'},
		{"env", 1, NULL, 'e'}, {"cwd", 1, NULL, 'd'}, {"uid", 1, NULL, 'u'},
		{"gid", 1, NULL, 'g'}, {"hostname", 1, NULL, 'h'}, {"network", 1, NULL, 'n'},
		{"timeout", 1, NULL, 't'}, {0}};
	int opt;

	while ((opt = getopt_long(argc, argv, "+", options, NULL)) != -1)
		if (opt == '?' || parse_one(c, o, opt, optarg, e) < 0)
			return -1;
	if (optind >= argc)
		return err_set(e, ERR_CONF, 0, "no program is named");
	o->argv = argv + optind;
	return 0;
}

/* Numeric "uid[:gid]" of the image's config, else 0: names are not looked up in a strange file. */
static void image_user(const struct image *im, struct run_opts *o)
{
	unsigned uid = 0, gid = 0;

	if (im->user && sscanf(im->user, "%5u:%5u", &uid, &gid) == 1)
		gid = uid;
	if (o->uid < 0)
		o->uid = (long)uid;
	if (o->gid < 0)
		o->gid = (long)gid;
}

/* The image's variables, then the caller's; PATH and HOME when nobody says. */
static int make_env(const struct image *im, struct run_opts *o, struct buf *out)
{
	static const char path[] =
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

	buf_add(out, o->env.p, o->env.len);
	for (size_t i = 0; i < im->nenv; i++)
		buf_add(out, im->env[i], strlen(im->env[i]) + 1);
	if (!out->p || !memmem(out->p, out->len, "PATH=", 5))
		buf_add(out, path, sizeof path);
	if (!memmem(out->p, out->len, "HOME=", 5))
		buf_addf(out, "HOME=/%c", 0);
	return buf_ok(out) ? 0 : -1;
}

static void fill_launch(const struct conf *c, const struct image *im, const struct run_opts *o,
	const struct upper *d, const char *staging, struct launch *w)
{
	*w = (struct launch){
		.uid = (uint32_t)o->uid,
		.gid = (uint32_t)o->gid,
		.hostname = o->hostname,
		.staging = staging,
		.host_network = o->host_network,
		.root = {.kind = PLAN_OVERLAY,
			.lowers = (const char *const *)im->lowers,
			.nlowers = im->nlowers,
			.bytes = (uint64_t)c->tmpfs_max_bytes,
			.inodes = (uint64_t)c->tmpfs_max_inodes},
		.mounts = o->mount,
		.nmounts = o->nmounts,
		.processes_max = (uint32_t)c->processes_max,
		.files_open_max = (uint32_t)c->files_open_max,
		.file_max_bytes = (uint64_t)c->file_max_bytes,
		.memory_max_bytes = (uint64_t)c->memory_process_max_bytes,
		.address_space_max_bytes = (uint64_t)c->address_space_max_bytes,
		.cpu_time_max_s = (uint64_t)c->cpu_time_max_s,
		.shm_bytes = (uint64_t)c->tmpfs_max_bytes,
		.shm_inodes = (uint64_t)c->tmpfs_max_inodes,
		.client_fd = -1,
	};
	if (d->on_disk) {
		w->root.upper = d->upper;
		w->root.work = d->work;
	} else {
		w->root.flags = PLAN_TMPFS_UPPER;
	}
}

static int exit_code(const struct proto_reply *rp, int failed, const struct err *e)
{
	if (!failed)
		return rp->result.exit_code;
	if (e->kind == ERR_NOTFOUND) {
		fail(e);
		return e->errnum == ENOENT || e->errnum == ENOTDIR ? EXIT_NOT_FOUND : EXIT_NO_EXEC;
	}
	return fail(e);
}

/* Runs the program in the sandbox that stands; returns the exit code. */
static int run_in(
	const struct sandbox *s, const struct run_opts *o, const struct buf *env, const char *dir)
{
	struct client_exec x = {.flags = PROTO_STDIO,
		.dir = dir,
		.argv = (const char *const *)o->argv,
		.env = env->p,
		.env_bytes = env->len,
		.timeout_ms = (uint64_t)o->timeout_s * 1000,
		.fds = {0, 1, 2}};
	struct proto_reply rp = {0};
	struct err e = {0};
	OWN_FD here = -1, there = -1;
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		err_set(&e, ERR_SETUP, errno, "make a socket");
		return fail(&e);
	}
	here = pair[0];
	there = pair[1];
	if (client_attach(s->ctl, there, &e) < 0 || client_send_exec(here, &x, &e) < 0)
		return fail(&e);
	own_close(&there);
	do
		ret = client_receive(here, &rp, &e);
	while (ret < 0 && e.kind == ERR_BUSY && e.errnum == EINTR);
	return exit_code(&rp, ret, &e);
}

static int run_image(const struct conf *c, const struct image *im, struct run_opts *o)
{
	struct launcher l = {.init_fd = -1};
	struct upper d;
	struct netblock blocked;
	struct pasta pasta = PASTA_NONE;
	char pasta_path[PATH_MAX];
	OWN_BUF env = BUF_INIT(ENV_MAX);
	struct sandbox s = {.pid = -1, .pidfd = -1, .ctl = -1};
	struct launch w;
	struct err e = {0};
	char staging[PATH_MAX];
	int code;

	snprintf(staging, sizeof staging, "%s/mnt", c->state_dir);
	image_user(im, o);
	if (make_env(im, o, &env) < 0)
		return fail(
			&(struct err){.kind = ERR_LIMIT, .msg = "the environment is too large"});
	if (upper_open(&d, c->state_dir, &e) < 0)
		return fail(&e);
	if (launcher_open(&l, &e) < 0) {
		code = fail(&e);
		upper_close(&d, &e);
		return code;
	}
	fill_launch(c, im, o, &d, staging, &w);
	if (o->pasta)
		w.pasta = &blocked;
	if ((o->pasta && (pasta_find(c->pasta_program, pasta_path, &e) < 0 ||
				 netblock_collect(c->network_blocked, &blocked, &e) < 0)) ||
		sandbox_start(&l, &w, &s, &e) < 0 ||
		(o->pasta && pasta_attach(&l, &s, pasta_path, READY_MS, &pasta, &e) < 0) ||
		sandbox_wait_ready(&s, READY_MS, &e) < 0)
		code = fail(&e);
	else
		code = run_in(&s, o, &env, o->dir ? o->dir : im->workdir ? im->workdir : "/");
	sandbox_stop(&s);
	pasta_stop(&pasta);
	launcher_close(&l);
	if (upper_close(&d, &e) < 0)
		fail(&e);
	return code;
}

int main_run(const struct conf *c, int argc, char **argv)
{
	struct run_opts o = {.image = "host",
		.hostname = "sandbox",
		.uid = -1,
		.gid = -1,
		.env = BUF_INIT(ENV_MAX)};
	struct image im = {0};
	struct store *store;
	struct err e = {0};
	int code;

	if (parse(c, argc, argv, &o, &e) < 0) {
		buf_clear(&o.env);
		if (e.kind != ERR_NONE)
			fail(&e);
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	store = store_open(c->state_dir, &e);
	if (!store || store_resolve(store, o.image, &im, &e) < 0) {
		code = fail(&e);
	} else {
		for (size_t i = 0; i < im.nhost_binds && o.nmounts < BINDS_MAX; i++)
			o.mount[o.nmounts++] = (struct launch_mount){.kind = PLAN_BIND,
				.flags = PLAN_RECURSIVE,
				.src = im.host_binds[i],
				.dst = im.host_binds[i]};
		code = run_image(c, &im, &o);
	}
	image_clear(&im);
	store_close(store);
	buf_clear(&o.env);
	return code;
}

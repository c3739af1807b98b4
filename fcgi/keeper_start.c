/* From a session on disk to a sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fcgi/env_merge.h"
#include "fcgi/keeper_freeze.h"
#include "fcgi/keeper_int.h"
#include "fcgi/ws_compact.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/* The default variables; everything later wins. */
static int put_defaults(struct buf *out, const struct conf *conf, struct err *e)
{
	static const char *const fixed[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8"};
	static const char *const home[][2] = {{"HOME", ""}, {"XDG_CACHE_HOME", "/.cache"},
		{"XDG_CONFIG_HOME", "/.config"}, {"XDG_STATE_HOME", "/.local/state"},
		{"XDG_DATA_HOME", "/.local/share"}};
	char var[1024];

	for (size_t i = 0; i < NELEM(fixed); i++)
		if (env_put(out, fixed[i], e) < 0)
			return -1;
	for (size_t i = 0; i < NELEM(home); i++) {
		snprintf(var, sizeof var, "%s=%s%s", home[i][0], conf->run_home, home[i][1]);
		if (env_put(out, var, e) < 0)
			return -1;
	}
	return 0;
}

int make_environment(struct keeper *k, const struct image *im, const struct call *c,
	struct buf *out, struct err *e)
{
	size_t n = c->rq.env_bytes;
	OWN_MEM char *block = malloc(n + 1);

	if (!block)
		return err_set(e, ERR_SETUP, ENOMEM, "environment");
	if (n > 0 && pread(c->fd[0], block, n, 0) != (ssize_t)n)
		return err_set(e, ERR_SETUP, errno, "read the environment");
	if (put_defaults(out, k->conf, e) < 0)
		return -1;
	for (size_t i = 0; i < im->nenv; i++)
		if (strncmp(im->env[i], "HOME=", 5) && env_put(out, im->env[i], e) < 0)
			return err_in(e, "image");
	return env_put_block(out, block, n, e);
}

/* All strings of one launch, freed together. */
struct strings {
	char *p[4 * WS_LAYERS_MAX + 16];
	size_t n;
};

static void strings_free(struct strings *s)
{
	while (s->n)
		free(s->p[--s->n]);
}

static const char *path_of(
	struct strings *s, const struct keeper *k, const char *id, const char *rest)
{
	char *p = NULL;

	if (s->n >= NELEM(s->p) || asprintf(&p, "%s/sessions/%s/%s", k->dirs.path, id, rest) < 0)
		return NULL;
	return s->p[s->n++] = p;
}

static const char *ws_path(
	struct strings *s, const struct keeper *k, const char *id, const char *name)
{
	char rest[64];

	snprintf(rest, sizeof rest, "ws/%s", name);
	return path_of(s, k, id, rest);
}

static const char *layer_path(struct strings *s, const struct keeper *k, const unsigned char *id)
{
	char name[WS_LAYER_NAME], *p = NULL;

	if (s->n >= NELEM(s->p) ||
		asprintf(&p, "%s/layers/%s/fs", k->dirs.path, ws_layer_name(id, name)) < 0)
		return NULL;
	return s->p[s->n++] = p;
}

/* Appends the paths of shared layers to the n of lowers. Returns how many there are then, 0 without memory. */
static unsigned add_layers(struct strings *s, const struct keeper *k, const struct ws_layers *l,
	const char **lowers, unsigned n)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (!(lowers[n++] = layer_path(s, k, l->id[i])))
			return 0;
	return n;
}

/* The image's layers below what the session shares of its root. *lowers is the caller's. */
static int plan_root(const struct keeper *k, const struct call *c, struct strings *s,
	const char ***lowers, struct launch_mount *m, struct err *e)
{
	const struct session_record *r = &c->record;
	char name[OWN_NAME_MAX];
	unsigned n = 0;

	*lowers = calloc(r->nlowers + c->layout.root.n + 1, sizeof **lowers);
	if (!*lowers)
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	if (c->layout.root.n && !(n = add_layers(s, k, &c->layout.root, *lowers, 0)))
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	memcpy(*lowers + n, r->lowers, r->nlowers * sizeof **lowers);
	*m = (struct launch_mount){.kind = PLAN_OVERLAY,
		.lowers = *lowers,
		.nlowers = n + r->nlowers,
		.upper = path_of(s, k, c->held->id, root_name("upper", c->layout.root_top, name)),
		.work = path_of(s, k, c->held->id, root_name("work", c->layout.root_top, name))};
	return m->upper && m->work ? 0 : err_set(e, ERR_SETUP, ENOMEM, "start the session");
}

/* The workspace, seen as /repo. */
static int plan_workspace(const struct keeper *k, const struct call *c, struct strings *s,
	const char **lowers, struct launch_mount *m, struct err *e)
{
	const char *id = c->held->id;
	OWN_MEM struct ws_mount *w = malloc(sizeof *w);

	if (!w)
		return err_set(e, ERR_SETUP, ENOMEM, "workspace");
	if (ws_mount_plan(&c->layout, w, e) < 0)
		return -1;
	*m = (struct launch_mount){.kind = w->overlay ? PLAN_OVERLAY : PLAN_BIND,
		.flags = PLAN_WRITABLE,
		.dst = "/repo"};
	if (!w->overlay)
		return (m->src = ws_path(s, k, id, w->tree)) ? 0 : -1;
	for (unsigned i = 0; i < w->nlowers; i++)
		if (!(lowers[i] = ws_path(s, k, id, w->lowers[i])))
			return err_set(e, ERR_SETUP, ENOMEM, "workspace");
	m->lowers = lowers;
	m->nlowers = w->nlowers;
	if (c->layout.shared.n)
		m->nlowers = add_layers(s, k, &c->layout.shared, lowers, w->nlowers);
	if (m->nlowers == 0)
		return err_set(e, ERR_SETUP, ENOMEM, "workspace");
	m->upper = ws_path(s, k, id, w->upper);
	m->work = ws_path(s, k, id, w->work);
	return m->upper && m->work ? 0 : err_set(e, ERR_SETUP, ENOMEM, "workspace");
}

static struct launch launch_base(
	const struct conf *conf, const struct call *c, double cpus, int client)
{
	return (struct launch){
		.uid = (uint32_t)conf->run_uid,
		.gid = (uint32_t)conf->run_gid,
		.root_emulation = conf_emulates_root(conf, conf->run_uid),
		.hostname = "sandbox",
		.host_network = c->record.network && conf->network == NETWORK_HOST,
		.processes_max = (uint32_t)conf->processes_max,
		.files_open_max = (uint32_t)conf->files_open_max,
		.file_max_bytes = (uint64_t)conf->file_max_bytes,
		.memory_max_bytes = (uint64_t)conf->memory_process_max_bytes,
		.address_space_max_bytes = (uint64_t)conf->address_space_max_bytes,
		.cpu_time_max_s = (uint64_t)conf->cpu_time_max_s,
		.shm_bytes = (uint64_t)conf->tmpfs_max_bytes,
		.shm_inodes = (uint64_t)conf->tmpfs_max_inodes,
		.cpus = cpus,
		.client_fd = client,
	};
}

/* *blocked is the caller's, and lives as long as w. */
static int plan_network(const struct keeper *k, const struct call *c, struct netblock **blocked,
	struct launch *w, struct err *e)
{
	if (!c->record.network || k->conf->network != NETWORK_PASTA)
		return 0;
	*blocked = malloc(sizeof **blocked);
	if (!*blocked)
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	w->pasta = *blocked;
	return netblock_collect(k->conf->network_blocked, *blocked, e);
}

static int launch(struct keeper *k, struct call *c, int client, struct strings *s, struct err *e)
{
	const char *lowers[3 * WS_LAYERS_MAX];
	OWN_MEM const char **root_lowers = NULL;
	OWN_MEM struct launch_mount *m = NULL;
	struct launch w = launch_base(k->conf, c, watch_cpus(k, c), client);
	OWN_MEM struct netblock *blocked = NULL;
	OWN_MEM char *staging = NULL;

	if (plan_network(k, c, &blocked, &w, e) < 0)
		return -1;
	m = calloc(c->record.nbinds + 1, sizeof *m);
	if (!m || asprintf(&staging, "%s/mnt", k->dirs.path) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	w.staging = staging;
	if (plan_root(k, c, s, &root_lowers, &w.root, e) < 0)
		return -1;
	for (size_t i = 0; i < c->record.nbinds; i++)
		m[i] = (struct launch_mount){.kind = PLAN_BIND,
			.flags = PLAN_RECURSIVE,
			.src = c->record.binds[i],
			.dst = c->record.binds[i]};
	if (plan_workspace(k, c, s, lowers, &m[c->record.nbinds], e) < 0)
		return -1;
	w.mounts = m;
	w.nmounts = c->record.nbinds + 1;
	if (group_make(k, c, e) < 0)
		return err_in(e, "limit a sandbox");
	w.cgroup = c->group.dir < 0 ? NULL : &c->group;
	w.cgroup_shared = true;
	return sandbox_start(&k->launcher, &w, &c->box, e);
}

/* READY brought what the watchdog needs: a command runs only when it looks. */
static void box_watched(struct keeper *k, struct call *c, const struct sandbox *box)
{
	struct err e = {0};

	memcpy(c->box.watch_fd, box->watch_fd, sizeof box->watch_fd);
	if (watch_add(k, c, &e) < 0)
		call_fail(k, c, &e);
	else
		call_ready(k, c);
}

static void box_ready(struct keeper *k, struct source *s)
{
	struct call *c = s->call;
	struct sandbox box = c->box;
	struct err e = {0};
	int ns[SANDBOX_NS] = {-1, -1}, got;

	box.ctl = s->fd;
	if (c->state != CALL_START) {
		keeper_unwatch(k, s); /* pid 1 says nothing unasked later: it has ended */
		return;
	}
	got = sandbox_next(&box, 0, ns, &e);
	if (got == SANDBOX_NETWORK && net_start(k, c, ns, &e) < 0)
		got = -1;
	own_close(&ns[SANDBOX_NS_USER]);
	own_close(&ns[SANDBOX_NS_NET]);
	if (got < 0)
		call_fail(k, c, &e);
	else if (got == SANDBOX_READY)
		box_watched(k, c, &box);
}

int start_sandbox(struct keeper *k, struct call *c, struct err *e)
{
	struct strings s = {.n = 0};
	OWN_FD theirs = -1;
	int pair[2], ret;

	if (k->nboxes >= (unsigned)k->conf->sandboxes_max)
		return err_set(e, ERR_BUSY, EUSERS, "%u sandboxes run already", k->nboxes);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket for the session");
	c->client = pair[0];
	theirs = pair[1];
	ret = launch(k, c, theirs, &s, e);
	strings_free(&s);
	if (ret < 0)
		return -1;
	k->nboxes++;
	c->ctl.ready = box_ready;
	ret = keeper_watch(k, &c->ctl, c->box.ctl, e);
	c->box.ctl = -1; /* the source owns it now */
	if (ret < 0)
		return -1;
	c->state = CALL_START;
	c->deadline_ms = keeper_now_ms() + START_TIMEOUT_MS;
	return 0;
}

static void box_gone(struct keeper *k, struct source *s)
{
	struct call *c = s->call;

	sandbox_stop(
		&c->box); /* has ended already: only reaps. The source's copy is closed below */
	k->nboxes--;
	group_drop(k, c);
	keeper_unwatch(k, s);
	call_stopped(k, c);
}

/* The end of a namespace full of processes takes its time: the loop does not wait for it. */
bool stop_sandbox(struct keeper *k, struct call *c)
{
	struct err e;
	OWN_FD copy = -1;

	watch_remove(k, c);
	keeper_unwatch(k, &c->ctl);
	net_stop(k, c);
	own_close(&c->client);
	if (c->box.pid <= 0) {
		group_drop(k, c);
		return false;
	}
	c->state = CALL_STOP;
	c->deadline_ms = 0;
	cgroup_box_kill(&c->group);
	sys_pidfd_send_signal(c->box.pidfd, SIGKILL);
	copy = fcntl(c->box.pidfd, F_DUPFD_CLOEXEC, 3);
	c->exit.ready = box_gone;
	if (copy >= 0 && keeper_watch(k, &c->exit, copy, &e) == 0) {
		take_fd(&copy);
		return true;
	}
	sandbox_stop(&c->box); /* out of descriptors: wait for it here */
	k->nboxes--;
	group_drop(k, c);
	return false;
}

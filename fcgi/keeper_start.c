/* From a session on disk to a sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "fcgi/env_merge.h"
#include "fcgi/keeper_int.h"
#include "fcgi/keeper_plan.h"
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

struct launch start_kind(const struct conf *conf)
{
	return (struct launch){
		.uid = (uint32_t)conf->run_uid,
		.gid = (uint32_t)conf->run_gid,
		.root_emulation = conf_emulates_root(conf, conf->run_uid),
		.hostname = "sandbox",
		.processes_max = (uint32_t)conf->processes_max,
		.files_open_max = (uint32_t)conf->files_open_max,
		.file_max_bytes = (uint64_t)conf->file_max_bytes,
		.memory_max_bytes = (uint64_t)conf->memory_process_max_bytes,
		.address_space_max_bytes = (uint64_t)conf->address_space_max_bytes,
		.cpu_time_max_s = (uint64_t)conf->cpu_time_max_s,
		.shm_bytes = (uint64_t)conf->tmpfs_max_bytes,
		.shm_inodes = (uint64_t)conf->tmpfs_max_inodes,
		.client_fd = -1,
	};
}

static struct launch launch_base(
	const struct conf *conf, const struct call *c, double cpus, int client)
{
	struct launch w = start_kind(conf);

	w.host_network = c->record.network && conf->network == NETWORK_HOST;
	w.cpus = cpus;
	w.client_fd = client;
	return w;
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

/* One that has come to its end gets no other sandbox, else it would never go while it is used. */
int check_age(struct keeper *k, const struct call *c, struct err *e)
{
	struct session_bounds own;

	if (!session_dir_bounds(&k->dirs, c->held->id, &own) || !own.until ||
		time(NULL) < own.until)
		return 0;
	return err_set(e, ERR_NOTFOUND, ESTALE, "the session has come to its end");
}

int start_launch(struct keeper *k, struct box *b, struct call *c, int client, struct err *e)
{
	OWN_PLAN_STRINGS s = {.n = 0};
	const char *lowers[PLAN_WS_LOWERS_MAX];
	OWN_MEM struct launch_mount *m = NULL;
	struct launch w = launch_base(k->conf, c, watch_cpus(k, b), client);
	OWN_MEM struct netblock *blocked = NULL;
	OWN_MEM char *staging = NULL;
	OWN_MEM const char **root_lowers = NULL;

	if (check_age(k, c, e) < 0 || plan_network(k, c, &blocked, &w, e) < 0)
		return -1;
	m = calloc(c->record.nbinds + 1 + c->record.nvolumes, sizeof *m);
	if (!m || asprintf(&staging, "%s/mnt", k->dirs.path) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	w.staging = staging;
	if (plan_root(k, c, &s, &root_lowers, &w.root, e) < 0)
		return -1;
	root_settle(k, root_lowers, &w.root);
	for (size_t i = 0; i < c->record.nbinds; i++)
		m[i] = (struct launch_mount){.kind = PLAN_BIND,
			.flags = PLAN_RECURSIVE,
			.src = c->record.binds[i],
			.dst = c->record.binds[i]};
	if (plan_workspace(k, c, &s, lowers, &m[c->record.nbinds], e) < 0)
		return -1;
	w.mounts = m;
	w.nmounts = c->record.nbinds + 1 + c->record.nvolumes;
	if (plan_volumes(k, c, &s, &m[c->record.nbinds + 1], e) < 0 || volumes_hold(k, b, c, e) < 0)
		return -1;
	if (group_make(k, b, e) < 0)
		return err_in(e, "limit a sandbox");
	w.cgroup = b->group.dir < 0 ? NULL : &b->group;
	w.cgroup_shared = true;
	if (pool_take(k, k->pool, &w, &b->sandbox))
		return 0;
	return sandbox_start(&k->launcher, &w, &b->sandbox, e);
}

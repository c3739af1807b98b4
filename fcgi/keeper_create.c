/* A new session: what it may ask for, its directory, its name. */
#include <limits.h>
#include <string.h>

#include "fcgi/keeper_deps.h"
#include "fcgi/keeper_docker.h"
#include "fcgi/keeper_int.h"
#include "isolate/own.h"

/* Whether a sandbox as a whole is held to such a limit. */
static bool holds(const struct keeper *k, unsigned controller)
{
	return k->engine || group_holds(k, controller);
}

int create_allowed(const struct keeper *k, const struct call *c, struct err *e)
{
	bool refuse = k->conf->unenforceable_limits == UNENFORCEABLE_REFUSE;
	bool own = !k->engine;
	char pasta[PATH_MAX];

	if (k->conf->memory_max_bytes && c->rq.memory_bytes > k->conf->memory_max_bytes)
		return err_set(e, ERR_LIMIT, 0, "memory_bytes: at most %lld (memory_max_bytes)",
			(long long)k->conf->memory_max_bytes);
	if (k->conf->session_disk_max_bytes && c->rq.disk_bytes > k->conf->session_disk_max_bytes)
		return err_set(e, ERR_LIMIT, 0, "disk_bytes: at most %lld (session_disk_max_bytes)",
			(long long)k->conf->session_disk_max_bytes);
	if (c->rq.cpus > 0 && c->rq.cpus < 1 && refuse && !holds(k, CGROUP_CPU))
		return err_set(e, ERR_LIMIT, 0,
			"cpus: this host cannot hold a sandbox to less than "
			"one processor (no delegated cgroup v2); ask for 1 or more, or set "
			"unenforceable_limits = report");
	if (!own && docker_check_limits(k, c, e) < 0)
		return -1;
	if (own && c->rq.network && k->conf->network == NETWORK_NONE)
		return err_set(e, ERR_LIMIT, 0,
			"network_enabled: sandbox.conf does not allow it (network = none)");
	if (own && c->rq.network && k->conf->network == NETWORK_PASTA &&
		pasta_find(k->conf->pasta_program, pasta, e) < 0)
		return err_in(e, "network_enabled");
	if (k->nsessions >= (size_t)k->conf->sessions_max)
		return err_set(e, ERR_BUSY, EUSERS, "%zu sessions exist already", k->nsessions);
	return watch_disk_room(k, e);
}

/* Its directories come first in what the client's own variables list. */
static int put_deps(struct keeper *k, const struct call *c, struct buf *env, struct err *e)
{
	struct deps_entry d;

	if (!c->rq.deps[0])
		return 0;
	return deps_store_find(k, c->rq.deps, &d, e) < 0 ? -1
							 : deps_environment(env, d.language, e);
}

int create_session(struct keeper *k, struct call *c, const struct image *im, struct err *e)
{
	OWN_BUF env = BUF_INIT((size_t)k->conf->environment_max_bytes + 65536);
	OWN_FD ws = -1;

	if (make_environment(k, im, c, &env, e) < 0 || put_deps(k, c, &env, e) < 0 ||
		session_id_make(c->new_id, e) < 0)
		return -1;
	ws = session_dir_prepare(
		&k->dirs, c->new_id, im, &c->rq, env.p, env.len, k->conf->run_home, e);
	if (ws < 0)
		return -1;
	memset(&c->layout, 0, sizeof c->layout);
	job_start(k, c, TREE_CREATE, ws, -1);
	return 0;
}

void create_begin(struct keeper *k, struct call *c)
{
	struct image im = {0};
	struct err e = {0};
	int ret;

	ret = create_allowed(k, c, &e);
	if (k->engine) {
		if (ret < 0 || docker_resolve(k, c, &e) < 0)
			call_fail(k, c, &e);
		return;
	}
	if (ret == 0)
		ret = store_resolve(k->store, c->rq.image, &im, &e);
	if (ret == 0)
		ret = create_session(k, c, &im, &e);
	else if (e.kind == ERR_NOTFOUND && k->conf->pull == PULL_MISSING && !c->pulled)
		ret = pull_start(k, c, &e);
	image_clear(&im);
	if (ret < 0)
		call_fail(k, c, &e);
}

/* With its dependencies, if it has any. */
static int commit(struct keeper *k, struct call *c, const struct ws_layout *made, struct err *e)
{
	struct ws_layout lay = *made;
	struct deps_entry d;

	if (c->rq.deps[0] &&
		(deps_store_find(k, c->rq.deps, &d, e) < 0 || deps_stack(k, &lay, &d, e) < 0 ||
			layers_hold(k, &lay.root, e) < 0))
		return -1;
	if (session_dir_commit(&k->dirs, c->new_id, &lay, e) == 0)
		return 0;
	if (c->rq.deps[0])
		layers_drop(k, &lay.root);
	return -1;
}

void create_done(struct keeper *k, struct call *c, const struct tree_result *r)
{
	struct keeper_reply rp = {.op = c->rq.op};
	struct err e;

	if (commit(k, c, &r->layout, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	k->nsessions++;
	memcpy(rp.id, c->new_id, sizeof rp.id);
	if (c->rq.tied || c->rq.op == KEEPER_CODE)
		memcpy(c->tied, c->new_id, sizeof c->tied);
	c->new_id[0] = '\0';
	if (c->rq.memory_bytes > 0 && !holds(k, CGROUP_MEMORY))
		rp.approximate |= UNENFORCED_MEMORY;
	if (c->rq.cpus >= 1 && !holds(k, CGROUP_CPU))
		rp.approximate |= UNENFORCED_CPUS;
	else if (c->rq.cpus > 0 && !holds(k, CGROUP_CPU))
		rp.unenforced |= UNENFORCED_CPUS;
	call_answer(c, &rp, NULL, 0);
}

void create_keep(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_KEEP};

	if (session_dir_untie(&k->dirs, c->tied, &rp.err) == 0)
		c->tied[0] = '\0';
	call_answer(c, &rp, NULL, 0);
}

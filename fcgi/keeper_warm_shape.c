#include "fcgi/keeper_warm_shape.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fcgi/keeper_int.h"
#include "isolate/fdmsg.h"
#include "isolate/own.h"

/* The variables that came with c; NULL with e. */
static char *take_env(const struct call *c, struct err *e)
{
	size_t n = c->rq.env_bytes;
	OWN_MEM char *env = malloc(n + 1);

	if (env && (n == 0 || pread(c->fd[0], env, n, 0) == (ssize_t)n))
		return take_ptr(&env);
	err_set(e, ERR_SETUP, env ? errno : ENOMEM, "read the environment of code");
	return NULL;
}

static bool same_env(const struct warm_shape *s, const struct call *c)
{
	OWN_MEM char *env = NULL;
	struct err e;

	if (s->late_env || c->rq.env_bytes != s->env_bytes)
		return s->late_env;
	env = take_env(c, &e);
	return env && (s->env_bytes == 0 || !memcmp(env, s->env, s->env_bytes));
}

bool warm_shape_is(const struct warm_shape *s, const struct call *c)
{
	const struct keeper_request *rq = &c->rq;

	return s->known && !strcmp(rq->image, s->image) && rq->network == s->network &&
	       rq->at_workspace == s->at_workspace && rq->memory_bytes == s->memory_bytes &&
	       rq->disk_bytes == s->disk_bytes && !(rq->cpus < s->cpus) && !(rq->cpus > s->cpus) &&
	       !rq->live && !rq->deps[0] && same_env(s, c);
}

int warm_shape_learn(struct warm_shape *s, const struct call *c, struct err *e)
{
	free(s->env);
	*s = (struct warm_shape){.network = c->rq.network,
		.at_workspace = c->rq.at_workspace,
		.memory_bytes = c->rq.memory_bytes,
		.disk_bytes = c->rq.disk_bytes,
		.cpus = c->rq.cpus,
		.env = take_env(c, e),
		.env_bytes = c->rq.env_bytes};
	memcpy(s->image, c->rq.image, sizeof s->image);
	s->known = s->env != NULL;
	return s->known ? 0 : -1;
}

int warm_shape_ask(const struct warm_shape *s, int sock, struct err *e)
{
	struct keeper_request rq = {.magic = KEEPER_MAGIC,
		.op = KEEPER_CODE,
		.timeout_ms = 1,
		.network = s->network,
		.at_workspace = s->at_workspace,
		.memory_bytes = s->memory_bytes,
		.disk_bytes = s->disk_bytes,
		.cpus = s->cpus,
		.env_bytes = s->env_bytes};
	OWN_FD env = s->env_bytes ? memfd_create("environment", MFD_CLOEXEC) : -1;

	if (s->env_bytes && (env < 0 || write(env, s->env, s->env_bytes) != (ssize_t)s->env_bytes))
		return err_set(e, ERR_SETUP, errno, "write an environment");
	memcpy(rq.image, s->image, sizeof rq.image);
	if (fdmsg_send(sock, &rq, sizeof rq, &env, env >= 0, MSG_DONTWAIT) < 0)
		return err_set(e, ERR_BUG, errno, "ask for a session");
	return 0;
}

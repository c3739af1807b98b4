/* From an installed set to the sessions that see it: a layer of their root, and variables. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/env_merge.h"
#include "fcgi/keeper_deps.h"
#include "isolate/own.h"

/* Where programs of a language look, below its directory; the others have PATH alone. */
static const struct {
	const char *language, *variable, *sub, *bin;
} places[] = {
	{"python", "PYTHONPATH", "", "/bin"},
	{"javascript", "NODE_PATH", "/node_modules", "/node_modules/.bin"},
};

/* The value of a variable in a block, or NULL. */
static const char *value_of(const struct buf *env, const char *name)
{
	size_t n = strlen(name);

	for (size_t at = 0; at < env->len; at += strlen(env->p + at) + 1)
		if (!strncmp(env->p + at, name, n) && env->p[at + n] == '=')
			return env->p + at + n + 1;
	return NULL;
}

/* Puts dir before what the variable lists, unless it is listed. */
static int prepend(struct buf *env, const char *name, const char *dir, struct err *e)
{
	const char *old = value_of(env, name);
	size_t n = strlen(dir);
	OWN_MEM char *var = NULL;

	for (const char *p = old; p && *p; p += strcspn(p, ":"), p += *p == ':')
		if (!strncmp(p, dir, n) && (p[n] == ':' || !p[n]))
			return 0;
	if (asprintf(&var, "%s=%s%s%s", name, dir, old && *old ? ":" : "", old ? old : "") < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "environment");
	return env_put(env, var, e);
}

int deps_environment(struct buf *env, const char *language, struct err *e)
{
	const char *variable = NULL, *sub = "", *bin = "/bin";
	char dir[128];

	for (size_t i = 0; i < NELEM(places); i++) {
		if (strcmp(places[i].language, language) != 0)
			continue;
		variable = places[i].variable;
		sub = places[i].sub;
		bin = places[i].bin;
	}
	snprintf(dir, sizeof dir, DEPS_ROOT "/%s%s", language, sub);
	if (variable && prepend(env, variable, dir, e) < 0)
		return -1;
	snprintf(dir, sizeof dir, DEPS_ROOT "/%s%s", language, bin);
	return prepend(env, "PATH", dir, e);
}

int deps_stack(struct keeper *k, struct ws_layout *lay, const struct deps_entry *d, struct err *e)
{
	struct ws_layers *r = &lay->root;
	char language[LANGUAGE_NAME_MAX + 1];
	uint32_t kept = 0;

	for (uint32_t i = 0; i < r->n; i++) {
		if (deps_layer_language(k, r->id[i], language) && !strcmp(language, d->language))
			continue;
		memmove(r->id[kept++], r->id[i], WS_LAYER_ID);
	}
	if (kept == WS_LAYERS_MAX)
		return err_set(e, ERR_LIMIT, 0,
			"the session stands on %d layers already; fork it or begin a new one",
			WS_LAYERS_MAX);
	memmove(r->id[1], r->id[0], kept * sizeof r->id[0]);
	memcpy(r->id[0], d->layer, WS_LAYER_ID);
	r->n = kept + 1;
	return 0;
}

/* A new file: forks have links to the old one. */
static int write_env(int dir, const struct buf *env, struct err *e)
{
	OWN_FD fd = openat(
		dir, "env.new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, env->p, env->len) != (ssize_t)env->len ||
		renameat(dir, "env.new", dir, "env") < 0)
		return err_set(e, ERR_SETUP, errno, "write the session's environment");
	return 0;
}

static int change_env(struct keeper *k, int dir, const char *language, struct err *e)
{
	OWN_FD fd = openat(dir, "env", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	OWN_BUF env = BUF_INIT((size_t)k->conf->environment_max_bytes + 65536);
	struct stat st;
	char *to;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "open the session's environment");
	to = buf_room(&env, (size_t)st.st_size + 1);
	if (!to || pread(fd, to, (size_t)st.st_size, 0) != st.st_size)
		return err_set(e, ERR_SETUP, errno, "read the session's environment");
	env.len = (size_t)st.st_size;
	return deps_environment(&env, language, e) < 0 ? -1 : write_env(dir, &env, e);
}

/* The variables come first: one that names what is not there does no harm. */
static int attach(struct keeper *k, struct call *c, const struct deps_entry *d, struct err *e)
{
	OWN_FD dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	struct ws_layers before = c->layout.root;
	struct ws_layout next = c->layout;

	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open the session");
	if (deps_stack(k, &next, d, e) < 0 || change_env(k, dir, d->language, e) < 0)
		return -1;
	next.place = 0;
	if (layers_hold(k, &next.root, e) < 0)
		return -1;
	if (session_dir_save_layout(&k->dirs, c->held->id, &next, e) < 0) {
		layers_drop(k, &next.root);
		return -1;
	}
	layers_drop(k, &before);
	c->layout = next;
	return 0;
}

void deps_attach(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_DEPS_ATTACH};
	struct box *b = c->held->box;
	struct deps_entry d;
	struct err e = {0};

	if (box_usable(b) && b->nruns > 0)
		err_set(&e, ERR_BUSY, EWOULDBLOCK, "session is busy: %u runs are in progress in it",
			b->nruns);
	else if (b && box_finish(k, b, c))
		return; /* comes back */
	session_record_clear(&c->record);
	if (e.kind != ERR_NONE ||
		session_dir_load(&k->dirs, c->held->id, &c->record, &c->layout, &e) < 0 ||
		deps_store_find(k, c->rq.deps, &d, &e) < 0 || attach(k, c, &d, &e) < 0)
		call_fail(k, c, &e);
	else
		call_done(k, c, &rp, -1);
}

/*
 * One request for dependencies. The session in which an installer runs is held by the call and ends with
 * it; its workspace is seen at the place of the dependencies, and becomes the layer when
 * the installer has succeeded. Requests for a set that is being installed wait for that, and share
 * its failure.
 */
#include "fcgi/keeper_deps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fcgi/env_merge.h"
#include "fcgi/languages.h"
#include "fcgi/ws_compact.h"
#include "images/digest.h"
#include "isolate/client.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { ANSWER_GRACE_MS = 30000, COMMAND_MAX = 32768 };

enum deps_step {
	DEPS_LOOK,    /* for the set; perhaps another call installs it */
	DEPS_MAKE,    /* a session */
	DEPS_RUN,     /* the installer, in it */
	DEPS_MEASURE, /* what it made */
};

struct deps_work {
	enum deps_step step;
	const struct language *language;
	struct deps_set set;
	char index[DEPS_INDEX_MAX + 1];
	char key[DEPS_KEY_LEN + 1];
	char place[sizeof DEPS_ROOT + 1 + LANGUAGE_NAME_MAX];
	struct buf env;
	struct source said; /* pid 1's socket */
	int output;         /* of the installer; -1 = none */
	struct result result;
	bool installs;                    /* others wait for it */
	char session[SESSION_ID_LEN + 1]; /* "" = none, or none any more */
};

const char *deps_place(const struct call *c)
{
	return c->deps ? c->deps->place : NULL;
}

/* --- those who wait --- */

static bool same_set(const struct call *c, const struct deps_work *d)
{
	return c->deps && c->deps != d && !strcmp(c->deps->key, d->key);
}

/* Whether another call installs what c wants. */
static bool is_installed_by_other(struct keeper *k, const struct deps_work *d)
{
	struct call *o;

	LIST_FOREACH(o, &k->calls, link)
	if (same_set(o, d) && o->deps->installs && !o->gone)
		return true;
	return false;
}

static unsigned count_installs(struct keeper *k)
{
	unsigned n = 0;
	struct call *o;

	LIST_FOREACH(o, &k->calls, link)
	n += o->deps && o->deps->installs;
	return n;
}

/* It is over: the others look anew. */
static void wake(struct keeper *k, struct deps_work *d)
{
	struct call *o;

	if (!d->installs)
		return;
	d->installs = false;
	LIST_FOREACH(o, &k->calls, link)
	{
		if (o->state != CALL_DEPS || !same_set(o, d))
			continue;
		o->state = CALL_IDLE;
		deps_begin(k, o);
	}
}

/* The installer's session goes, with what nobody keeps of it. No process is left in it. */
static void drop_session(struct keeper *k, struct deps_work *d)
{
	struct err e = {0};

	if (!d->session[0])
		return;
	if (layers_discard_session(k, d->session, &e) < 0)
		log_err(LOG_ERROR, &e, "session %s", d->session);
	else if (k->nsessions > 0)
		k->nsessions--;
	d->session[0] = '\0';
	trash_work(k);
}

/* Before the call lets go of the session. */
void deps_clear(struct keeper *k, struct call *c)
{
	struct deps_work *d = c->deps;

	if (!d)
		return;
	keeper_unwatch(k, &d->said);
	own_close(&d->output);
	buf_clear(&d->env);
	drop_session(k, d);
	wake(k, d);
	c->deps = NULL;
	free(d);
}

/* --- the message --- */

bool deps_request_ok(const struct keeper_request *rq)
{
	bool key = memchr(rq->deps, '\0', sizeof rq->deps) != NULL;

	if (rq->op == KEEPER_DEPS_ATTACH)
		return key && deps_key_valid(rq->deps);
	if (rq->op == KEEPER_CREATE || rq->op == KEEPER_CODE)
		return key && (!rq->deps[0] || deps_key_valid(rq->deps));
	return memchr(rq->image, '\0', sizeof rq->image) &&
	       memchr(rq->name, '\0', sizeof rq->name) && rq->deps_bytes > 0 &&
	       rq->deps_bytes <= DEPS_TEXT_MAX && rq->timeout_ms <= (uint64_t)INT32_MAX * 1000;
}

/* The index and the requirements, each with its NUL. What is no normal form is no worker's doing. */
static int take_text(struct call *c, struct deps_work *d, char *text, size_t n, struct err *e)
{
	const char *p = text, *end = text + n;

	if (n == 0 || end[-1] != '\0' || strlen(p) > DEPS_INDEX_MAX || deps_index_fault(p))
		return err_set(e, ERR_REQUEST, 0, "malformed index");
	strcpy(d->index, p);
	for (p += strlen(p) + 1; p < end; p += strlen(p) + 1) {
		const char *fault = deps_add(&d->set, c->rq.name, p, strlen(p));

		if (fault)
			return err_set(e, ERR_REQUEST, 0, "\"%.60s\" %s", p, fault);
	}
	return d->set.n ? 0 : err_set(e, ERR_REQUEST, 0, "no requirements");
}

static int take_order(struct keeper *k, struct call *c, struct deps_work *d, struct err *e)
{
	OWN_MEM char *text = malloc(c->rq.deps_bytes);

	d->language = language_find(k->conf, c->rq.name);
	if (!d->language || !d->language->install || !*d->language->install)
		return err_set(
			e, ERR_REQUEST, 0, "no installer is known for \"%.32s\"", c->rq.name);
	if (!text || pread(c->fd[0], text, c->rq.deps_bytes, 0) != (ssize_t)c->rq.deps_bytes)
		return err_set(e, ERR_SETUP, errno, "read a set of requirements");
	snprintf(d->place, sizeof d->place, DEPS_ROOT "/%s", d->language->name);
	return take_text(c, d, text, c->rq.deps_bytes, e);
}

static int new_work(struct keeper *k, struct call *c, struct err *e)
{
	c->deps = calloc(1, sizeof *c->deps);
	if (!c->deps)
		return err_set(e, ERR_SETUP, ENOMEM, "install dependencies");
	c->deps->said = (struct source){.fd = -1, .call = c};
	c->deps->output = -1;
	c->deps->env = BUF_INIT((size_t)k->conf->environment_max_bytes + 65536);
	return take_order(k, c, c->deps, e);
}

/* --- its name --- */

/*
 * What the result depends on. The image "host" has no digest: /usr/bin changes when its programs are
 * replaced.
 */
static int make_key(struct deps_work *d, const struct image *im, struct err *e)
{
	OWN_BUF b = BUF_INIT(DEPS_TEXT_MAX + 4096);
	struct stat st = {.st_mtim = {0, 0}};

	if (im->nhost_binds && stat("/usr/bin", &st) < 0)
		return err_set(e, ERR_SETUP, errno, "look at /usr/bin");
	buf_addf(&b, "image %s %lld.%09ld\nlanguage %s\ninstall %s\nindex %s\n", im->id,
		(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, d->language->name,
		d->language->install, d->index);
	for (size_t i = 0; i < d->set.n; i++)
		buf_addf(&b, "%s\n", d->set.req[i]);
	if (!buf_ok(&b))
		return err_set(e, ERR_LIMIT, 0, "too many requirements");
	return digest_of(b.p, b.len, d->key, e);
}

/* --- a session for the installer --- */

/* pip and npm have names of their own for the index. */
static int put_index(struct deps_work *d, struct err *e)
{
	static const char *const names[] = {
		"PIP_INDEX_URL", "npm_config_registry", "DEPS_INDEX_URL"};
	char var[DEPS_INDEX_MAX + 64];

	if (!*d->index)
		return 0;
	for (size_t i = 0; i < NELEM(names); i++) {
		snprintf(var, sizeof var, "%s=%s", names[i], d->index);
		if (env_put(&d->env, var, e) < 0)
			return -1;
	}
	if (strncmp(d->index, "http://", 7) != 0)
		return 0;
	snprintf(var, sizeof var, "PIP_TRUSTED_HOST=%.*s", (int)strcspn(d->index + 7, "/"),
		d->index + 7);
	return env_put(&d->env, var, e);
}

static int make_variables(struct keeper *k, struct call *c, const struct image *im, struct err *e)
{
	char dir[sizeof c->deps->place + 16];

	snprintf(dir, sizeof dir, "DEPS_DIR=%s", c->deps->place);
	if (make_environment(k, im, c, &c->deps->env, e) < 0 || env_put(&c->deps->env, dir, e) < 0)
		return -1;
	return put_index(c->deps, e);
}

static int make_session(struct keeper *k, struct call *c, const struct image *im, struct err *e)
{
	struct deps_work *d = c->deps;

	if (k->conf->network == NETWORK_NONE)
		return err_set(e, ERR_LIMIT, 0,
			"dependencies: their installation needs a network, and sandbox.conf allows "
			"none (network = none)");
	c->rq.network = c->rq.tied = 1;
	if (create_allowed(k, c, e) < 0)
		return -1;
	if (count_installs(k) >= DEPS_INSTALLS_MAX)
		return err_set(
			e, ERR_BUSY, EUSERS, "%d sets are being installed", DEPS_INSTALLS_MAX);
	d->installs = true;
	d->step = DEPS_MAKE;
	return make_variables(k, c, im, e) < 0 ? -1 : create_session(k, c, im, e);
}

static void answer(struct keeper *k, struct call *c, uint32_t flags, int code, int output)
{
	struct keeper_reply rp = {.op = KEEPER_DEPS, .deps_flags = flags, .code = code};

	if (!(flags & DEPS_FAILED))
		memcpy(rp.deps, c->deps->key, sizeof rp.deps);
	drop_session(k, c->deps); /* who has the answer finds nothing left */
	call_answer(c, &rp, &output, output >= 0);
	deps_clear(k, c);
	lock_release(k, c);
}

static int look(struct keeper *k, struct call *c, const struct image *im, struct err *e)
{
	struct deps_entry found;

	if (make_key(c->deps, im, e) < 0)
		return -1;
	if (deps_store_find(k, c->deps->key, &found, e) == 0) {
		answer(k, c, DEPS_REUSED, 0, -1);
		return 0;
	}
	if (e->kind != ERR_NOTFOUND)
		return -1;
	*e = (struct err){0};
	if (!is_installed_by_other(k, c->deps))
		return make_session(k, c, im, e);
	c->state = CALL_DEPS;
	return 0;
}

void deps_begin(struct keeper *k, struct call *c)
{
	struct image im = {0};
	struct err e = {0};
	int ret = c->deps ? 0 : new_work(k, c, &e);

	if (ret == 0 && c->deps->step == DEPS_RUN) {
		deps_ended(k, c);
		return;
	}
	if (ret == 0)
		ret = store_resolve(k->store, c->rq.image, &im, &e);
	if (ret == 0)
		ret = look(k, c, &im, &e);
	else if (e.kind == ERR_NOTFOUND && k->conf->pull == PULL_MISSING && !c->pulled)
		ret = pull_start(k, c, &e);
	image_clear(&im);
	if (ret < 0)
		call_fail(k, c, &e);
}

/* --- the installer --- */

/* Requirements are words of letters, digits and marks, without quotes. */
static int make_command(const struct deps_work *d, char *out, size_t size, struct err *e)
{
	size_t at = (size_t)snprintf(out, size, "%s", d->language->install);

	for (size_t i = 0; i < d->set.n && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, " '%s'", d->set.req[i]);
	return at < size ? 0 : err_set(e, ERR_LIMIT, 0, "too many requirements");
}

static uint64_t time_limit(const struct keeper *k, const struct call *c)
{
	uint64_t most = 1000 * (uint64_t)k->conf->deps_timeout_s;

	return c->rq.timeout_ms && c->rq.timeout_ms < most ? c->rq.timeout_ms : most;
}

static void said(struct keeper *k, struct source *s)
{
	struct call *c = s->call;
	struct proto_reply rp;
	struct err e = {0};

	if (c->state != CALL_INSTALL) { /* it is being ended, and that is awaited */
		keeper_unwatch(k, s);
		return;
	}
	if (client_receive(s->fd, &rp, &e) < 0) {
		if (e.kind == ERR_BUSY && e.errnum == EINTR)
			return;
		keeper_unwatch(k, s);
		call_fail(k, c, &e);
		return;
	}
	if (rp.op != PROTO_DONE)
		return;
	keeper_unwatch(k, s);
	c->deadline_ms = 0;
	c->deps->result = rp.result;
	if (!stop_sandbox(k, c))
		deps_ended(k, c);
}

static int run_installer(struct keeper *k, struct call *c, struct err *e)
{
	struct deps_work *d = c->deps;
	OWN_MEM char *command = malloc(COMMAND_MAX);
	const char *argv[] = {command, NULL};
	struct client_exec x = {.run = 1,
		.flags = PROTO_SHELL,
		.dir = "/tmp",
		.argv = argv,
		.env = d->env.p,
		.env_bytes = d->env.len,
		.timeout_ms = time_limit(k, c),
		.output_max_bytes = (uint64_t)k->conf->output_max_bytes};

	d->output = memfd_create("installer", MFD_CLOEXEC);
	if (!command || d->output < 0)
		return err_set(e, ERR_SETUP, errno, "memory for an installer");
	x.fds[0] = d->output;
	if (make_command(d, command, COMMAND_MAX, e) < 0 || client_send_exec(c->client, &x, e) < 0)
		return -1;
	d->said.ready = said;
	c->state = CALL_INSTALL;
	c->deadline_ms = keeper_now_ms() + x.timeout_ms + ANSWER_GRACE_MS;
	return keeper_watch(k, &d->said, take_fd(&c->client), e);
}

void deps_ready(struct keeper *k, struct call *c)
{
	struct err e = {0};

	if (run_installer(k, c, &e) < 0)
		call_fail(k, c, &e);
}

/* --- its end --- */

/* Who waits for the same set would see the same. */
static void fail_all(struct keeper *k, struct call *c, uint32_t flags, int code)
{
	struct deps_work *d = c->deps;
	OWN_FD output = take_fd(&d->output);
	struct call *o;

	LIST_FOREACH(o, &k->calls, link)
	if (o->state == CALL_DEPS && same_set(o, d))
		answer(k, o, flags, code, output);
	answer(k, c, flags, code, output);
}

void deps_ended(struct keeper *k, struct call *c)
{
	const struct result *r = &c->deps->result;
	bool late = r->verdict == VERDICT_TIMEOUT;
	struct err e = {0};
	OWN_FD dir = -1;

	if (r->verdict == VERDICT_INTERRUPTED) {
		err_set(&e, ERR_BUSY, ECONNRESET, "the sandbox ended under the installer");
	} else if (r->verdict != VERDICT_OK) {
		log_line(LOG_INFO, "dependencies %.12s: the installer ended with %s, code %d",
			c->deps->key, verdict_name(r->verdict), r->exit_code);
		fail_all(
			k, c, DEPS_FAILED | (late ? DEPS_TIMED_OUT : 0), late ? 124 : r->exit_code);
		return;
	}
	c->deps->step = DEPS_MEASURE;
	if (e.kind == ERR_NONE) {
		dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
		if (dir < 0)
			err_set(&e, ERR_SETUP, errno, "open the installer's session");
	}
	if (e.kind != ERR_NONE || job_begin(k, c, TREE_MEASURE, dir, -1, &e) < 0)
		call_fail(k, c, &e);
}

/*
 * The layer's fs/ with the path of the place; returns a descriptor of the directory that is to hold
 * it. All of it is new and ours.
 */
static int make_layer(struct keeper *k, const struct deps_work *d, unsigned char *id, struct err *e)
{
	static const char *const above[] = {"fs", "opt", "cgibox", "deps"};
	char name[WS_LAYER_NAME];
	OWN_FD at = -1;

	if (layers_make(k, id, e) < 0)
		return -1;
	at = openat(k->dirs.layers, ws_layer_name(id, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at >= 0) {
		OWN_FD fd = openat(at, "deps", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0 || dprintf(fd, "%s", d->language->name) < 0)
			return err_set(e, ERR_SETUP, errno, "name a layer's language");
	}
	for (size_t i = 0; at >= 0 && i < NELEM(above); i++) {
		int next;

		if (mkdirat(at, above[i], 0700) < 0 || fchmodat(at, above[i], 0755, 0) < 0)
			return err_set(e, ERR_SETUP, errno, "make a layer of dependencies");
		next = openat(at, above[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		own_close(&at);
		at = next;
	}
	return at < 0 ? err_set(e, ERR_SETUP, errno, "make a layer of dependencies") : take_fd(&at);
}

/* The workspace's tree becomes the place, and hides what a layer below has there. */
static int move_tree(struct keeper *k, struct call *c, int to, struct err *e)
{
	const char *name = c->deps->language->name;
	OWN_FD ws = session_dir_open(&k->dirs, c->held->id, "ws", O_RDONLY | O_DIRECTORY);
	OWN_FD tree = ws < 0 ? -1
			     : openat(ws, "tree", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (tree < 0 || fchmod(tree, 0755) < 0 ||
		fsetxattr(tree, "user.overlay.opaque", "y", 1, 0) < 0 ||
		renameat(ws, "tree", to, name) < 0)
		return err_set(e, ERR_SETUP, errno, "keep what an installer made");
	return 0;
}

static int keep(struct keeper *k, struct call *c, uint64_t bytes, struct err *e)
{
	struct deps_entry entry = {.bytes = bytes};
	OWN_FD to = make_layer(k, c->deps, entry.layer, e);
	struct ws_layers l = {.n = 1};
	int ret;

	if (to < 0)
		return -1; /* what there is of it goes at the next start */
	memcpy(l.id[0], entry.layer, WS_LAYER_ID);
	strcpy(entry.language, c->deps->language->name);
	if (layers_hold(k, &l, e) < 0)
		return -1;
	ret = move_tree(k, c, to, e) < 0 ? -1 : deps_store_add(k, c->deps->key, &entry, e);
	layers_drop(k, &l); /* nobody else holds it when that failed */
	return ret;
}

static int begin_session(
	struct keeper *k, struct call *c, const struct tree_result *r, struct err *e)
{
	if (session_dir_commit(&k->dirs, c->new_id, &r->layout, e) < 0)
		return -1;
	k->nsessions++;
	memcpy(c->deps->session, c->new_id, sizeof c->deps->session);
	c->new_id[0] = '\0';
	if (lock_take(k, c, c->deps->session, e) != 1)
		return err_set(e, ERR_BUG, 0, "somebody holds a new session");
	c->deps->step = DEPS_RUN;
	session_record_clear(&c->record);
	if (session_dir_load(&k->dirs, c->deps->session, &c->record, &c->layout, e) < 0)
		return -1;
	watch_disk_limits(k, c);
	return start_sandbox(k, c, e);
}

void deps_job_done(struct keeper *k, struct call *c, const struct tree_result *r)
{
	struct err e = {0};

	if (c->deps->step == DEPS_MAKE) {
		if (begin_session(k, c, r, &e) < 0)
			call_fail(k, c, &e);
		return;
	}
	if (keep(k, c, r->ws_bytes, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	log_line(LOG_INFO, "dependencies %.12s: %zu requirements, %llu bytes", c->deps->key,
		c->deps->set.n, (unsigned long long)r->ws_bytes);
	answer(k, c, 0, 0, -1);
	deps_store_expire(k);
}

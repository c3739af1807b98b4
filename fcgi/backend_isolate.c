/* The backend on our own isolator, a worker's side: messages to the keeper, commands to pid 1. */
#include "fcgi/capabilities.h"
#include "fcgi/backend_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "isolate/fdmsg.h"
#include "fcgi/examiner.h"
#include "fcgi/keeper.h"
#include "fcgi/keeper_proto.h"
#include "isolate/client.h"
#include "isolate/own.h"
#include "isolate/clock.h"

enum {
	ANSWER_GRACE_MS =
		30000, /* for pid 1 to end what ran too long; the end of much memory takes time */
	WAIT_STEP_MS = 60000,
};

struct session_call {
	int keeper; /* this request's connection: its end ends everything */
	int client; /* pid 1 */
	char *env;
	size_t env_bytes;
	uint32_t next_run;
	bool live; /* other commands run beside ours */
	bool own;  /* pid 1 is a process of this machine, not an Engine's */
};

static struct backend *isolate_new(const struct conf *c, struct err *e)
{
	struct backend *b = calloc(1, sizeof *b);

	if (!b)
		err_set(e, ERR_SETUP, ENOMEM, "backend");
	else
		b->conf = c;
	return b;
}

static void isolate_free(struct backend *b)
{
	free(b);
}

/* Sends one request, with n descriptors. */
static int send_request(
	int sock, struct keeper_request *rq, const int *fds, unsigned n, struct err *e)
{
	rq->magic = KEEPER_MAGIC;
	return fdmsg_send(sock, rq, sizeof *rq, fds, n, 0) < 0
		       ? err_set(e, ERR_BUSY, EPIPE, "the keeper is restarting")
		       : 0;
}

/* Whether n is a number of descriptors that such a request's answer brings. */
static bool answer_fds_ok(const struct keeper_request *rq, unsigned n)
{
	bool lists = rq->op == KEEPER_WORKSPACE &&
		     (rq->verb == WORKSPACE_FORK || rq->verb == WORKSPACE_SNAPSHOTS);

	if (rq->op == KEEPER_SYSTEM)
		return n <= 1;
	return n == (rq->op == KEEPER_OPEN ? 2 : rq->op == KEEPER_IMAGE || lists ? 1 : 0);
}

/* Waits for the answer to a request that was sent; its descriptors go to out. */
static int hear(int sock, const struct keeper_request *rq, struct keeper_reply *rp, int out[2],
	struct err *e)
{
	unsigned n = 0;

	if (fdmsg_receive(sock, rp, sizeof *rp, out, 2, &n, 0) != 1)
		return err_set(e, ERR_BUSY, EPIPE, "the keeper is restarting");
	rp->err.msg[sizeof rp->err.msg - 1] = '\0';
	rp->id[SESSION_ID_LEN] = '\0';
	if (rp->err.kind == ERR_NONE && answer_fds_ok(rq, n))
		return 0;
	for (unsigned i = 0; i < n; i++)
		own_close(&out[i]);
	if (rp->err.kind == ERR_NONE)
		return err_set(e, ERR_BUG, 0, "the keeper's answer is out of shape");
	*e = rp->err;
	return -1;
}

static int ask(int sock, struct keeper_request *rq, int fd, struct keeper_reply *rp, int out[2],
	struct err *e)
{
	return send_request(sock, rq, &fd, fd >= 0, e) < 0 ? -1 : hear(sock, rq, rp, out, e);
}

/* One question on a connection of its own. */
static int ask_once(struct backend *b, struct keeper_request *rq, int fd, struct keeper_reply *rp,
	struct err *e)
{
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	int none[2];

	return sock < 0 ? -1 : ask(sock, rq, fd, rp, none, e);
}

static int isolate_health(struct backend *b, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_HEALTH};
	struct keeper_reply rp;

	return ask_once(b, &rq, -1, &rp, e);
}

static int isolate_create(
	struct backend *b, const struct session_spec *s, struct session_made *out, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_CREATE,
		.ephemeral = s->ephemeral,
		.extract_patch = s->extract_patch,
		.network = s->network,
		.live = s->live,
		.bounded = s->bounded,
		.idle_s = (uint32_t)s->idle_s,
		.age_s = (uint32_t)s->age_s,
		.env_bytes = (uint32_t)s->env_bytes,
		.memory_bytes = s->memory_bytes,
		.cpus = s->cpus,
		.at_workspace = s->at_workspace,
		.tied = s->tied,
		.disk_bytes = s->disk_bytes};
	struct keeper_reply rp;
	OWN_FD sock = -1;
	int none[2];
	OWN_FD env = s->env_bytes ? memfd_create("env", MFD_CLOEXEC) : -1;

	snprintf(rq.image, sizeof rq.image, "%s", s->image);
	snprintf(rq.deps, sizeof rq.deps, "%s", s->deps ? s->deps : "");
	if (s->env_bytes && (env < 0 || write(env, s->env, s->env_bytes) != (ssize_t)s->env_bytes))
		return err_set(e, ERR_SETUP, errno, "write the environment");
	sock = keeper_connect(b->conf->state_dir, e);
	if (sock < 0 || ask(sock, &rq, env, &rp, none, e) < 0)
		return -1;
	memcpy(out->id, rp.id, sizeof out->id);
	out->tie = s->tied ? take_fd(&sock) : -1;
	out->unenforced = rp.unenforced;
	out->approximate = rp.approximate;
	return 0;
}

static int isolate_keep(struct backend *b, struct session_made *m, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_KEEP};
	OWN_FD sock = take_fd(&m->tie);
	struct keeper_reply rp;
	int none[2];

	(void)b;
	memcpy(rq.id, m->id, sizeof rq.id);
	return ask(sock, &rq, -1, &rp, none, e);
}

static int isolate_exists(struct backend *b, const char *id, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_EXISTS};
	struct keeper_reply rp;

	snprintf(rq.id, sizeof rq.id, "%s", id);
	return ask_once(b, &rq, -1, &rp, e);
}

static void isolate_close(struct session_call *c)
{
	if (!c)
		return;
	own_close(&c->client);
	own_close(&c->keeper);
	free(c->env);
	free(c);
}

static int read_env(struct session_call *c, int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size < 0 || st.st_size > PROTO_BLOB_MAX)
		return err_set(e, ERR_SETUP, errno, "look at the session's environment");
	c->env_bytes = (size_t)st.st_size;
	c->env = malloc(c->env_bytes + 1);
	if (!c->env || pread(fd, c->env, c->env_bytes, 0) != st.st_size)
		return err_set(e, ERR_SETUP, errno, "read the session's environment");
	return 0;
}

static struct session_call *isolate_open(
	struct backend *b, const char *id, int archive_fd, struct session_info *info, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_OPEN, .has_archive = archive_fd >= 0};
	struct session_call *c = calloc(1, sizeof *c);
	struct keeper_reply rp;
	int fds[2] = {-1, -1};
	OWN_FD env = -1;
	int ret;

	if (!c) {
		err_set(e, ERR_SETUP, ENOMEM, "session");
		return NULL;
	}
	snprintf(rq.id, sizeof rq.id, "%s", id);
	c->client = -1;
	c->keeper = keeper_connect(b->conf->state_dir, e);
	ret = c->keeper < 0 ? -1 : ask(c->keeper, &rq, archive_fd, &rp, fds, e);
	c->client = fds[0];
	env = fds[1];
	if (ret < 0 || read_env(c, env, e) < 0) {
		isolate_close(c);
		return NULL;
	}
	c->live = rp.live;
	c->own = b->conf->backend == BACKEND_ISOLATE;
	info->extract_patch = rp.extract_patch;
	info->has_baseline = rp.has_baseline;
	return c;
}

/* "src" -> "/repo/src"; what is absolute stays. */
static int command_dir(const struct command_spec *s, char *out, size_t size, struct err *e)
{
	const char *sub = s->workdir && *s->workdir && strcmp(s->workdir, ".") ? s->workdir : NULL;
	int n = sub && *sub == '/'
			? snprintf(out, size, "%s", sub)
			: snprintf(out, size, "/repo%s%s", sub ? "/" : "", sub ? sub : "");

	return n > 0 && (size_t)n < size ? 0 : err_set(e, ERR_REQUEST, ENAMETOOLONG, "workdir");
}

/* Waits for pid 1 to say something; it keeps the command's deadline, we keep an eye on it. */
static int await(const struct session_call *c, int64_t until_ms, struct err *e)
{
	struct pollfd p = {.fd = c->client, .events = POLLIN};

	for (;;) {
		int64_t left = until_ms ? until_ms - clock_ms() : WAIT_STEP_MS;

		if (left <= 0)
			return err_set(e, ERR_SETUP, ETIMEDOUT, "the sandbox does not answer");
		if (poll(&p, 1, left < WAIT_STEP_MS ? (int)left : WAIT_STEP_MS) > 0)
			return 0;
	}
}

/* A root without a shell is its tenant's affair, so it is a verdict, and a shell's own: 127 for what
 * is missing, 126 for what cannot be executed. */
static void not_executed(const struct command_spec *s, const struct err *why, struct result *out)
{
	int n = dprintf(s->output_fd, "%s: %s\n", why->msg, strerror(why->errnum));

	*out = (struct result){
		.verdict = VERDICT_EXIT, .exit_code = why->errnum == ENOENT ? 127 : 126};
	out->output_bytes = out->output_kept = n > 0 ? (uint64_t)n : 0;
}

static int isolate_exec(
	struct session_call *c, const struct command_spec *s, struct result *out, struct err *e)
{
	const char *argv[] = {s->command, NULL};
	char dir[4096];
	struct client_exec x = {.run = ++c->next_run,
		/* Its end, which the session's next call waits for, then begins now, not when the keeper hears of us. */
		.flags = PROTO_SHELL | (c->live                    ? PROTO_TREE
					       : s->last && c->own ? PROTO_LAST
								   : 0),
		.dir = dir,
		.argv = argv,
		.env = c->env,
		.env_bytes = c->env_bytes,
		.timeout_ms = (uint64_t)s->timeout_ms,
		.output_max_bytes = (uint64_t)s->output_max_bytes,
		.fds = {s->output_fd, -1, -1}};
	int64_t until = s->timeout_ms ? clock_ms() + s->timeout_ms + ANSWER_GRACE_MS : 0;
	struct proto_reply rp = {.op = 0};

	if (command_dir(s, dir, sizeof dir, e) < 0 || client_send_exec(c->client, &x, e) < 0)
		return -1;
	do {
		if (await(c, until, e) < 0)
			return -1;
		if (client_receive(c->client, &rp, e) < 0) {
			if (e->kind == ERR_BUSY && e->errnum == EINTR)
				continue;
			if (e->kind != ERR_NOTFOUND)
				return -1;
			not_executed(s, e, out);
			*e = (struct err){0};
			return 0;
		}
	} while (rp.op != PROTO_DONE || rp.run != x.run);
	*out = rp.result;
	return 0;
}

static void isolate_receipts(struct session_call *c, int fd, unsigned n)
{
	struct keeper_request rq = {.op = KEEPER_RECEIPTS, .count = n};
	struct err e;

	send_request(c->keeper, &rq, &fd, 1, &e);
}

static int isolate_patch(struct session_call *c, int out_fd, uint64_t *bytes, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_PATCH};
	struct keeper_reply rp;
	int none[2];

	own_close(&c->client);
	if (ask(c->keeper, &rq, out_fd, &rp, none, e) < 0)
		return -1;
	*bytes = rp.patch_bytes;
	return 0;
}

static int isolate_destroy(struct backend *b, const char *id, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_DESTROY};
	struct keeper_reply rp;

	snprintf(rq.id, sizeof rq.id, "%s", id);
	return ask_once(b, &rq, -1, &rp, e);
}

/* The descriptor is the keeper's, sealed: it is as long as it may be, and zero behind the text. */
static int read_facts(int fd, struct system_info *out, struct err *e)
{
	char *text = calloc(1, EXAMINER_OUTPUT_MAX + 1);

	if (!text || pread(fd, text, EXAMINER_OUTPUT_MAX, 0) < 0) {
		err_set(e, ERR_SETUP, errno, "read the facts about this machine");
		free(text);
		return -1;
	}
	out->facts = text;
	return 0;
}

static int isolate_system(struct backend *b, struct system_info *out, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_SYSTEM};
	struct keeper_reply rp;
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	int fds[2] = {-1, -1};
	OWN_FD facts = -1;

	if (sock < 0 || ask(sock, &rq, -1, &rp, fds, e) < 0)
		return -1;
	facts = fds[0];
	*out = (struct system_info){.checked_at = rp.checked_at,
		.uptime_ms = (int64_t)rp.uptime_ms,
		.sessions = rp.sessions,
		.sandboxes = rp.sandboxes,
		.means = rp.means,
		.prepared_ready = rp.prepared_ready,
		.prepared_taken = rp.prepared_taken,
		.prepared_missed = rp.prepared_missed,
		.containers_stuck = rp.containers_stuck,
		.warm_ready = rp.warm_ready,
		.warm_bytes = rp.warm_bytes,
		.warm_taken = rp.warm_taken,
		.warm_missed = rp.warm_missed,
		.warm_failed = rp.warm_failed};
	for (unsigned i = 0; i < COLD_REASONS; i++)
		out->warm_cold[i] = rp.warm_cold[i];
	return facts < 0 ? 0 : read_facts(facts, out, e);
}

/* A descriptor with the texts of a file verb. */
static int hold_texts(const struct buf *texts, struct err *e)
{
	OWN_FD fd = memfd_create("texts", MFD_CLOEXEC);

	if (!buf_ok(texts) || texts->len > FILES_TEXT_BYTES_MAX)
		return err_set(e, ERR_LIMIT, 0, "the texts are too long");
	if (fd < 0 || write(fd, texts->p, texts->len) != (ssize_t)texts->len)
		return err_set(e, ERR_SETUP, errno, "hand on the texts of a file verb");
	return take_fd(&fd);
}

/* Sends a request with n descriptors and takes the result of a file verb. */
static int ask_files(struct backend *b, struct keeper_request *rq, const int *fds, unsigned n,
	struct files_result *out, struct err *e)
{
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	struct keeper_reply rp;
	int none[2];

	if (sock < 0 || send_request(sock, rq, fds, n, e) < 0 || hear(sock, rq, &rp, none, e) < 0)
		return -1;
	rp.files.text[sizeof rp.files.text - 1] = '\0';
	if (!files_result_valid(&rp.files))
		return err_set(e, ERR_BUG, 0, "the keeper's answer is out of range");
	*out = rp.files;
	return 0;
}

static int isolate_volume(
	struct backend *b, const struct volume_order *o, uint64_t *bytes, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_VOLUME, .verb = o->verb, .limit_bytes = o->bytes};
	struct keeper_reply rp;
	OWN_FD list = o->verb == VOLUME_MOUNTS ? memfd_create("volumes", MFD_CLOEXEC) : -1;
	size_t n = o->list ? strlen(o->list) : 0;

	snprintf(rq.volume, sizeof rq.volume, "%s", o->name ? o->name : "");
	snprintf(rq.id, sizeof rq.id, "%s", o->session ? o->session : "");
	if (o->verb == VOLUME_MOUNTS && (list < 0 || write(list, o->list, n) != (ssize_t)n))
		return err_set(e, ERR_SETUP, errno, "write a list of volumes");
	if (ask_once(b, &rq, list, &rp, e) < 0)
		return -1;
	if (bytes)
		*bytes = rp.limit_bytes;
	return 0;
}

static int isolate_volume_files(struct backend *b, const char *id, const char *volume,
	struct files_order *o, const struct buf *texts, int data, struct files_result *out,
	struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_FILES};
	OWN_FD fd = hold_texts(texts, e);
	const int fds[] = {fd, data};

	if (fd < 0)
		return -1;
	o->text_bytes = (uint32_t)texts->len;
	rq.files = *o;
	snprintf(rq.id, sizeof rq.id, "%s", id);
	snprintf(rq.volume, sizeof rq.volume, "%s", volume);
	return ask_files(b, &rq, fds, 2, out, e);
}

static int isolate_files(struct backend *b, const char *id, struct files_order *o,
	const struct buf *texts, int data, struct files_result *out, struct err *e)
{
	return isolate_volume_files(b, id, "", o, texts, data, out, e);
}

static int isolate_seed(struct backend *b, const char *id, int repo, int skills,
	struct files_result *out, struct err *e)
{
	struct keeper_request rq = {
		.op = KEEPER_SEED, .has_archive = (repo >= 0) | (skills >= 0) << 1};
	const int fds[] = {repo >= 0 ? repo : skills, skills};

	snprintf(rq.id, sizeof rq.id, "%s", id);
	return ask_files(b, &rq, fds, (repo >= 0) + (skills >= 0), out, e);
}
static int workspace_request(
	const struct workspace_order *o, const char *id, struct keeper_request *rq, struct err *e)
{
	*rq = (struct keeper_request){.op = KEEPER_WORKSPACE,
		.verb = o->verb,
		.count = o->count,
		.format = o->format,
		.stop = o->stop};
	snprintf(rq->id, sizeof rq->id, "%s", id);
	if (o->mark && strlen(o->mark) >= sizeof rq->name)
		return err_set(e, ERR_REQUEST, 0, "name: longer than %d bytes", WORKSPACE_MARK_MAX);
	if (o->mark)
		strcpy(rq->name, o->mark);
	return 0;
}

static int isolate_workspace(struct backend *b, const char *id, const struct workspace_order *o,
	struct workspace_answer *out, struct err *e)
{
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	struct keeper_request rq;
	struct keeper_reply rp;
	int fds[2] = {-1, -1};

	if (sock < 0 || workspace_request(o, id, &rq, e) < 0 ||
		ask(sock, &rq, o->fd, &rp, fds, e) < 0)
		return -1;
	*out = (struct workspace_answer){rp.patch_bytes, fds[0]};
	return 0;
}

static int isolate_export_begin(
	struct backend *b, const char *id, const struct workspace_order *o, int to, struct err *e)
{
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	OWN_FD end = to, path = -1;
	size_t n = o->path ? strlen(o->path) : 0;
	struct keeper_request rq;
	int fds[2] = {to, -1};

	(void)end; /* closed on every way out: the keeper has a copy then */
	if (sock < 0 || workspace_request(o, id, &rq, e) < 0)
		return -1;
	if (n > WORKSPACE_PATH_MAX)
		return err_set(e, ERR_REQUEST, 0, "path: longer than %d bytes", WORKSPACE_PATH_MAX);
	if (n) {
		fds[1] = path = memfd_create("path", MFD_CLOEXEC);
		if (path < 0 || write(path, o->path, n) != (ssize_t)n)
			return err_set(e, ERR_SETUP, errno, "write a path");
		rq.path_bytes = (uint32_t)n;
	}
	return send_request(sock, &rq, fds, n ? 2 : 1, e) < 0 ? -1 : take_fd(&sock);
}

static int isolate_export_end(int fd, struct err *e)
{
	const struct keeper_request rq = {.op = KEEPER_WORKSPACE, .verb = WORKSPACE_EXPORT};
	OWN_FD sock = fd;
	struct keeper_reply rp;
	int none[2];

	return hear(sock, &rq, &rp, none, e);
}

static int isolate_image(struct backend *b, enum image_verb verb, const char *ref,
	struct image_answer *out, struct err *e)
{
	struct keeper_request rq = {.op = KEEPER_IMAGE, .verb = verb};
	OWN_FD sock = keeper_connect(b->conf->state_dir, e);
	struct keeper_reply rp;
	int fds[2] = {-1, -1};

	if (strlen(ref) >= sizeof rq.image)
		return err_set(e, ERR_REQUEST, 0, "malformed image reference");
	memcpy(rq.image, ref, strlen(ref) + 1);
	if (sock < 0 || ask(sock, &rq, -1, &rp, fds, e) < 0)
		return -1;
	*out = (struct image_answer){fds[0], rp.code};
	return 0;
}

/* Both backends are the keeper's verbs: what starts a sandbox is its affair. */
#define KEEPER_OPS(what, lacking, installer)                                                       \
	{                                                                                          \
		.name = what, .lacks = lacking, .new = isolate_new, .free = isolate_free,          \
		.health = isolate_health, .create = isolate_create, .keep = isolate_keep,          \
		.exists = isolate_exists, .open = isolate_open, .exec = isolate_exec,              \
		.receipts = isolate_receipts, .patch = isolate_patch, .close = isolate_close,      \
		.destroy = isolate_destroy, .workspace = isolate_workspace,                        \
		.export_begin = isolate_export_begin, .export_end = isolate_export_end,            \
		.image = isolate_image, .files = isolate_files, .seed = isolate_seed,              \
		.system = isolate_system, .volume = isolate_volume,                                \
		.volume_files = isolate_volume_files, .live = &backend_isolate_live,               \
		.deps = installer,                                                                 \
	}

const struct backend_ops backend_isolate = KEEPER_OPS(
	"isolate", LACKS_NOTHING, &backend_isolate_deps);
const struct backend_ops backend_docker = KEEPER_OPS("docker", LACKS_WITH_DOCKER, NULL);
const struct backend_ops backend_docker_stream = KEEPER_OPS("docker", LACKS_WITH_STREAM, NULL);

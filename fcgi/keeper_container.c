#include "fcgi/keeper_container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "fcgi/keeper_ahead.h"
#include "fcgi/keeper_container_int.h"
#include "fcgi/keeper_engine.h"
#include "fcgi/keeper_int.h"
#include "fcgi/relay.h"
#include "fcgi/statesock.h"
#include "images/rmtree.h"
#include "isolate/beneath.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

#define DIRS   CONTAINER_DIRS
#define SOCKET "keeper" /* the last component of PLAN_CONTAINER_SOCKET */

enum {
	DISK_LOOK_MS = 500,
	DISK_STEP_BYTES = 16 << 20, /* free space that fell by so much is worth a measurement */
	DISK_STEP_INODES = 2000,    /* the same; empty files take no space that shows */
	WHY_MS = 5000,              /* for the Engine to say how a container ended */
	OOM_BEFORE_MS = 1000,       /* that ended pid 1: so long before its socket, or later */
};

/* --- its directory --- */

int container_dirs_open(struct keeper *k, struct err *e)
{
	OWN_FD dir = -1;

	if (rmtree_at(k->dirs.state, DIRS, e) < 0 && e->errnum != ENOENT)
		return -1;
	*e = (struct err){0};
	if (mkdirat(k->dirs.state, DIRS, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make " DIRS " in the state directory");
	dir = openat(k->dirs.state, DIRS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || (mkdirat(dir, "none", 0700) < 0 && errno != EEXIST))
		return err_set(e, ERR_SETUP, errno, "make " DIRS "/none in the state directory");
	return 0;
}

static int open_dir(struct keeper *k, const struct container *t, bool make, struct err *e)
{
	char path[sizeof DIRS + SESSION_ID_LEN + 2];
	int fd;

	snprintf(path, sizeof path, DIRS "/%s", t->id);
	if (make && mkdirat(k->dirs.state, path, 0700) < 0)
		return err_set(e, ERR_SETUP, errno, "make %s", path);
	fd = openat(k->dirs.state, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 ? fd : err_set(e, ERR_SETUP, errno, "open %s", path);
}

void container_stop_listening(struct keeper *k, struct container *t)
{
	struct err e = {0};
	OWN_FD dir = -1;

	if (t->listen.fd < 0)
		return;
	keeper_unwatch(k, &t->listen);
	dir = open_dir(k, t, false, &e);
	if (dir < 0 || unlinkat(dir, SOCKET, 0) < 0)
		log_line(LOG_WARN, "socket of container %s: %s", t->id, strerror(errno));
}

int container_listen(struct keeper *k, struct container *t,
	void (*connected)(struct keeper *k, struct source *s), struct err *e)
{
	OWN_FD dir = open_dir(k, t, true, e);
	int fd = dir < 0 ? -1 : statesock_listen(dir, SOCKET, 1, e);

	t->listen.fd = -1;
	t->listen.ready = connected;
	return fd < 0 ? -1 : keeper_watch(k, &t->listen, fd, e);
}

int container_relay(struct keeper *k, struct container *t, int stream, struct err *e)
{
	OWN_FD dir = -1;

	if (!engine_streamed(k->conf))
		return 0;
	if (stream < 0)
		return err_set(e, ERR_BUG, 0, "the engine broker gave no stream");
	dir = open_dir(k, t, false, e);
	t->relay = dir < 0 ? -1 : relay_start(stream, dir, SOCKET, e);
	return t->relay < 0 ? -1 : 0;
}

void container_relay_end(struct container *t)
{
	if (t->relay <= 0)
		return;
	kill(t->relay, SIGKILL);
	while (waitpid(t->relay, NULL, 0) < 0 && errno == EINTR)
		;
	t->relay = 0;
}

void container_remove_dir(struct keeper *k, const struct container *t)
{
	char path[sizeof DIRS + SESSION_ID_LEN + 2];

	snprintf(path, sizeof path, DIRS "/%s", t->id);
	if (unlinkat(k->dirs.state, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		log_line(LOG_WARN, "%s: %s", path, strerror(errno));
}

/* --- what it is made of --- */

static struct engine_mount *add_mount(struct engine_question *q)
{
	struct engine_mount *m = &q->mounts[q->nmounts];

	if (q->nmounts == ENGINE_MOUNTS_MAX)
		return NULL;
	q->nmounts++;
	*m = (struct engine_mount){.kind = ENGINE_BIND};
	return m;
}

int container_bind(struct engine_question *q, const char *dir, const char *id, const char *sub,
	const char *target, struct err *e)
{
	struct engine_mount *m = add_mount(q);
	int n = m ? snprintf(
			    m->source, sizeof m->source, "%s/%s%s%s", dir, id, *sub ? "/" : "", sub)
		  : -1;

	if (n < 0 || (size_t)n >= sizeof m->source || strlen(target) >= sizeof m->target)
		return err_set(e, ERR_LIMIT, 0, "mounts of a container");
	strcpy(m->target, target);
	return 0;
}

int container_reach(
	struct keeper *k, const struct container *t, struct engine_question *q, struct err *e)
{
	if (engine_streamed(k->conf)) {
		q->flags |= ENGINE_STREAM;
		return 0;
	}
	if (container_bind(q, DIRS, t->id, "", ENGINE_SOCKET_DIR, e) < 0)
		return -1;
	q->mounts[q->nmounts - 1].read_only = 1;
	return 0;
}

/* A directory of the session's own root, which is there whatever became of it. */
static int bind_root(struct keeper *k, const struct call *c, const char *path,
	struct engine_question *q, struct err *e)
{
	const char *id = c->held->id;
	char upper[32] = "root/upper", sub[sizeof upper + ENGINE_TARGET_MAX];
	OWN_FD dir = -1, made = -1;

	if (c->layout.root_top)
		snprintf(upper, sizeof upper, "root/upper-%u", c->layout.root_top);
	dir = session_dir_open(&k->dirs, id, upper, O_RDONLY | O_DIRECTORY);
	made = dir < 0 ? -1 : beneath_make_dir(dir, path + 1, BENEATH_NO_LINKS);
	if (made < 0)
		return err_set(e, ERR_REQUEST, errno, "%s of the session is no directory", path);
	if (!strcmp(path, "/tmp") && fchmodat(dir, "tmp", 01777, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "prepare /tmp of the session");
	snprintf(sub, sizeof sub, "%s%s", upper, path);
	return container_bind(q, "sessions", id, sub, path, e);
}

static int bind_workspace(
	struct keeper *k, const struct call *c, struct engine_question *q, struct err *e)
{
	const char *id = c->held->id, *place = session_dir_workspace(&k->dirs, id);
	OWN_MEM struct ws_mount *w = malloc(sizeof *w);
	char sub[64];

	if (!w)
		return err_set(e, ERR_SETUP, ENOMEM, "mounts of a container");
	if (ws_mount_plan(&c->layout, w, e) < 0)
		return -1;
	if (w->overlay || c->layout.root.n)
		return err_set(e, ERR_BUG, 0, "a container's workspace has layers");
	snprintf(sub, sizeof sub, "ws/%s", w->tree);
	/* wherever it is, it is seen at /repo, too: a link is nothing that an Engine could make */
	if (container_bind(q, "sessions", id, sub, "/repo", e) < 0)
		return -1;
	if (!strcmp(place, "/repo"))
		return 0;
	if (strcmp(place, "/workspace") != 0 && bind_root(k, c, "/workspace", q, e) < 0)
		return -1;
	return container_bind(q, "sessions", id, sub, place, e);
}

static uint64_t least(uint64_t asked, int64_t allowed)
{
	if (!asked || !allowed)
		return asked ? asked : (uint64_t)allowed;
	return asked < (uint64_t)allowed ? asked : (uint64_t)allowed;
}

void container_limit(
	const struct conf *f, const struct session_record *r, struct engine_question *q)
{
	q->memory_bytes = least(r->memory_bytes, f->memory_max_bytes);
	q->cpu_percent = (uint32_t)least(r->cpu_percent, f->cpu_max_percent);
	q->processes = f->processes_max ? (uint32_t)f->processes_max + 1 : 0;
	q->shm_bytes = (uint64_t)f->tmpfs_max_bytes;
	/* what is left there fills the memory that pid 1 needs, too: it would be ended for it */
	if (q->memory_bytes)
		q->shm_bytes = least(q->shm_bytes, (int64_t)(q->memory_bytes / 2));
	q->files_open = 0; /* pid 1 sets it, and needs more itself */
	if (r->network)
		q->flags |= ENGINE_NETWORK;
}

static int describe(struct keeper *k, const struct container *t, const struct call *c,
	struct engine_question *q, struct err *e)
{
	q->op = ENGINE_MAKE;
	snprintf(q->box, sizeof q->box, "%s", t->id);
	snprintf(q->session, sizeof q->session, "%s", c->held->id);
	if (strlen(c->record.image) >= sizeof q->image)
		return err_set(e, ERR_SETUP, 0, "the session's image has no good name");
	strcpy(q->image, c->record.image);
	container_limit(k->conf, &c->record, q);
	if (container_reach(k, t, q, e) < 0 || bind_root(k, c, k->conf->run_home, q, e) < 0 ||
		bind_root(k, c, "/tmp", q, e) < 0 || bind_workspace(k, c, q, e) < 0 ||
		container_volumes(k, c, q, e) < 0)
		return -1;
	return 0;
}

/* What pid 1 is told. The rest is the Engine's, or is counted by user, whom containers share. */
static struct launch plan_of(const struct conf *f, int client, const char *workspace)
{
	struct launch w = start_kind(f);

	w.container = true;
	w.root_emulation = false;
	w.processes_max = 0;
	w.hostname = NULL;
	w.client_fd = client;
	w.workspace = strcmp(workspace, "/repo") != 0 ? workspace : NULL;
	return w;
}

/* --- its life --- */

static struct box *box_of(struct keeper *k, const char *id)
{
	struct box *b;

	LIST_FOREACH(b, &k->boxes, link)
	if (!b->over && b->container && !strcmp(b->container->id, id))
		return b;
	return NULL;
}

/* conn, pid 1's, is taken; client (borrowed) becomes its first. */
static int adopt(struct keeper *k, struct box *b, int conn, int client, struct err *e)
{
	struct launch what = plan_of(
		k->conf, client, session_dir_workspace(&k->dirs, b->session->id));

	return sandbox_adopt(&k->launcher, &what, conn, &b->sandbox, e) < 0
		       ? -1
		       : box_connected(k, b, e);
}

/* Pid 1 has connected: the first, and the only one. */
static void connected(struct keeper *k, struct source *s)
{
	struct box *b = s->box;
	struct container *t = b->container;
	struct err e = {0};
	int fd = statesock_accept(s->fd);

	if (fd < 0)
		return;
	container_stop_listening(k, t);
	if (adopt(k, b, fd, t->client, &e) < 0)
		box_fail(k, b, &e);
	own_close(&t->client);
}

void container_made(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd)
{
	struct box *b = box_of(k, a->box);
	/* the Engine was too slow or hung up, or the broker died */
	bool unknown = a->err.errnum == ETIMEDOUT || a->err.errnum == EPIPE;
	struct err e = a->err;

	(void)c;
	if (!b && ahead_made(k, a, *fd))
		return;
	if (!b) { /* it was ended meanwhile; what there is of it is not wanted */
		broker_remove(k, a->box, unknown);
		return;
	}
	b->container->asked = false;
	b->container->failed = a->err.kind != ERR_NONE;
	if (b->container->failed || b->container->removing)
		broker_remove(
			k, a->box, unknown); /* an Engine that did not answer may have made it */
	if (b->state != BOX_STARTING)
		return;
	if (!b->container->failed && container_relay(k, b->container, *fd, &e) == 0)
		return;
	if (a->err.kind == ERR_NOTFOUND) /* not the session, which that would be taken for */
		err_set(&e, ERR_REQUEST, 0, "the session's image was removed from the Engine");
	box_fail(k, b, &e);
}

/* In one that waits; false: it has to be made. */
static bool launch_ahead(struct keeper *k, struct box *b, struct call *c, int client)
{
	struct err e = {0};
	int conn = -1;

	b->container = ahead_take(k, c, &conn);
	if (!b->container)
		return false;
	if (adopt(k, b, conn, client, &e) == 0)
		return true;
	log_err(LOG_WARN, &e, "a container that was made ahead");
	if (b->sandbox.pidfd < 0 && !b->container->asked)
		broker_remove(k, b->container->id, false);
	container_free(k, b);
	sandbox_stop(&b->sandbox);
	b->sandbox = SANDBOX_NONE;
	return false;
}

static int launch_new(struct keeper *k, struct box *b, struct call *c, int client, struct err *e)
{
	OWN_MEM struct engine_question *q = calloc(1, sizeof *q);
	struct container *t = q ? calloc(1, sizeof *t) : NULL;

	if (!t)
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	b->container = t;
	t->client = client < 0 ? -1 : fcntl(client, F_DUPFD_CLOEXEC, 3);
	t->listen = (struct source){.fd = -1, .box = b};
	if (session_id_make(t->id, e) < 0 || container_listen(k, t, connected, e) < 0 ||
		describe(k, t, c, q, e) < 0 || broker_ask(k, q, -1, NULL, container_made, e) < 0) {
		container_free(k, b);
		return -1;
	}
	t->asked = true;
	return 0;
}

int container_launch(struct keeper *k, struct box *b, struct call *c, int client, struct err *e)
{
	if (check_age(k, c, e) < 0 || broker_serves(k, e) < 0)
		return -1;
	if (volumes_hold(k, b, c, e) < 0)
		return -1;
	return launch_ahead(k, b, c, client) ? 0 : launch_new(k, b, c, client, e);
}

bool container_stop(struct keeper *k, struct box *b)
{
	struct container *t = b->container;

	container_stop_listening(k, t);
	if (b->sandbox.pidfd >= 0) {
		sys_pidfd_send_signal(b->sandbox.pidfd, SIGKILL); /* it ends with its socket, too */
		/* A relay's end is not that of the processes: the container's removal is. */
		if (!t->relay || b->lost_ms)
			return box_watch_exit(k, b);
	}
	if (t->failed)
		return false;
	t->removing = true;
	if (!t->asked) /* else when the Engine has answered: it would make it after that */
		broker_remove(k, t->id, false);
	return true;
}

void container_removed(struct keeper *k, const char *box)
{
	struct box *b = box_of(k, box);

	/* Nobody listens to its pid 1, which therefore ends, even where the Engine does not answer. */
	if (b && b->state == BOX_STOPPING && b->container->removing)
		box_ended(k, b);
}

void container_free(struct keeper *k, struct box *b)
{
	struct container *t = b->container;

	container_stop_listening(k, t);
	container_remove_dir(k, t);
	container_relay_end(t);
	own_close(&t->client);
	if (!t->removing && !t->asked && b->sandbox.pidfd >= 0)
		broker_remove(k, t->id, false);
	free(t);
	b->container = NULL;
}

void container_oom(struct keeper *k, const struct engine_answer *a)
{
	struct box *b = box_of(k, a->box);

	if (b)
		b->container->oom_ms = keeper_now_ms();
}

/* What the Engine notes holds for all of a container's life: what pid 1 survived is not why it ended. */
static bool ended_by_oom(const struct box *b, const struct engine_answer *a)
{
	const struct container *t = b->container;

	return a->exit_code == 128 + SIGKILL && a->oom_killed && b->lost_ms &&
	       (!t->oom_ms || t->oom_ms + OOM_BEFORE_MS > b->lost_ms);
}

bool container_asks_why(struct keeper *k, struct box *b)
{
	struct err e;

	if (!b->lost_ms || b->nruns == 0 || b->container->ended || broker_serves(k, &e) < 0)
		return false;
	b->why_by_ms = keeper_now_ms() + WHY_MS;
	return true;
}

void container_has_ended(struct keeper *k, const struct engine_answer *a)
{
	struct box *b = box_of(k, a->box);
	struct err e = {0};

	if (!b) {
		ahead_has_ended(k, a);
		return;
	}
	b->container->ended = true;
	b->out_of_memory = ended_by_oom(b, a);
	if (b->why_by_ms) {
		box_ended(k, b);
		return;
	}
	if (b->state != BOX_STARTING || b->sandbox.pidfd >= 0)
		return; /* its socket tells the rest */
	err_set(&e, ERR_SETUP, 0, "the container ended before it was ready: exit code %d%s",
		a->exit_code, a->oom_killed ? ", out of memory" : "");
	box_fail(k, b, &e);
}

int container_disk_work(struct keeper *k)
{
	uint64_t now = keeper_now_ms(), room, inodes;
	struct statvfs s;
	struct box *b;
	bool any = false;

	LIST_FOREACH(b, &k->boxes, link)
	any |= b->container && b->watch_id != 0;
	if (!any)
		return -1;
	if (now < k->disk_at_ms)
		return (int)(k->disk_at_ms - now) + 1;
	k->disk_at_ms = now + DISK_LOOK_MS;
	if (fstatvfs(k->dirs.state, &s) < 0)
		return DISK_LOOK_MS;
	room = (uint64_t)s.f_bfree * s.f_frsize;
	inodes = (uint64_t)s.f_ffree; /* 0 where none are counted */
	if (room + least(DISK_STEP_BYTES, k->conf->session_disk_max_bytes / 8 + 1) <=
			k->disk_room ||
		inodes + least(DISK_STEP_INODES, k->conf->session_disk_max_inodes / 8 + 1) <=
			k->disk_inodes) {
		LIST_FOREACH(b, &k->boxes, link)
		if (b->container && b->watch_id && (b->disk.limit.bytes || b->disk.limit.inodes))
			b->disk.want = true;
		volumes_written(k);
		k->disk_room = room;
		k->disk_inodes = inodes;
	}
	k->disk_room = room > k->disk_room ? room : k->disk_room;
	k->disk_inodes = inodes > k->disk_inodes ? inodes : k->disk_inodes;
	return DISK_LOOK_MS;
}

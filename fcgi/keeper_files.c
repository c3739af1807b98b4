/*
 * File verbs and seeds: the session's lock, then a tree helper in the session's view, then the answer.
 * No sandbox is started for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fcgi/files_view.h"
#include "fcgi/keeper_container.h"
#include "fcgi/keeper_plan.h"
#include "isolate/log.h"
#include "isolate/own.h"

#define SKILLS "/workspace/skills"

/*
 * From here on a write is measured against the session's disk limit before it is done, not after; and
 * so is what follows when little ones add up to it.
 */
enum { MEASURE_FROM_BYTES = 1 << 20, BLOCK_BYTES = 4096 };

bool files_op(const struct keeper_request *rq)
{
	return rq->op == KEEPER_FILES || rq->op == KEEPER_SEED;
}

unsigned files_fds(const struct keeper_request *rq)
{
	return rq->op == KEEPER_FILES ? 2 : (rq->has_archive & 1) + (rq->has_archive >> 1 & 1);
}

bool files_request_ok(const struct keeper_request *rq)
{
	return rq->op == KEEPER_FILES ? files_order_valid(&rq->files) && volume_files_ok(rq)
				      : rq->has_archive >= 1 && rq->has_archive <= 3;
}

/*
 * The sandbox that runs for the held session, as a pidfd, borrowed: the verbs then work in its own
 * mounts, since a second overlay over the same upper layer is undefined. -1: none runs.
 */
static int find_live(const struct call *c)
{
	const struct box *b = c->held->box;

	/* that of a container is no namespace of ours to enter, and no overlay of ours to hurt */
	return b && b->state == BOX_READY && !b->container ? b->sandbox.pidfd : -1;
}

/* Whether the sandbox that there is must go first, or is going: files_begin() comes again. */
static bool await_quiet(struct keeper *k, struct call *c)
{
	struct box *b = c->held->box;
	bool moves = c->rq.op == KEEPER_SEED || (c->rq.files.flags & FILES_AT_REST) ||
		     ((c->rq.files.flags & FILES_WORKSPACE) &&
			     !session_dir_moved(&k->dirs, c->held->id));

	return b && (b->state != BOX_READY || moves) && box_finish(k, b, c);
}

/* Writes the plan of the session's view to a memfd. */
static int plan_view(struct keeper *k, const struct call *c, uint32_t *bytes, struct err *e)
{
	OWN_PLAN_STRINGS s = {.n = 0};
	OWN_BUF b = BUF_INIT(FILES_VIEW_MAX);
	OWN_MEM char *staging = NULL;
	OWN_MEM struct launch_mount *m = calloc(
		c->record.nbinds + PLAN_OWN_DIRS + 1 + c->record.nvolumes, sizeof *m);
	OWN_FD fd = memfd_create("view", MFD_CLOEXEC);
	OWN_MEM const char **root_lowers = NULL;
	const char *lowers[PLAN_WS_LOWERS_MAX];
	struct jail_view v = {.live = -1, .mounts = m};
	int n = 0;

	if (!m || asprintf(&staging, "%s/mnt", k->dirs.path) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "view of a session");
	v.staging = staging;
	if (plan_root(k, c, &s, &root_lowers, &v.root, e) < 0)
		return -1;
	v.root.dst = "/";
	for (size_t i = 0; i < c->record.nbinds; i++)
		m[v.nmounts++] = (struct launch_mount){.kind = PLAN_BIND,
			.flags = PLAN_RECURSIVE,
			.src = c->record.binds[i],
			.dst = c->record.binds[i]};
	if (k->engine && (container_volume_dirs(k, c, e) < 0 ||
				 (n = plan_own_dirs(k, c, &s, m + v.nmounts, e)) < 0))
		return -1;
	v.nmounts += (size_t)n;
	if (plan_workspace(k, c, &s, lowers, &m[v.nmounts++], e) < 0 ||
		plan_volumes(k, c, &s, &m[v.nmounts], e) < 0)
		return -1;
	v.nmounts += c->record.nvolumes;
	files_view_put(&b, &v);
	if (!buf_ok(&b))
		return err_set(e, ERR_LIMIT, 0, "the view of a session is too large");
	if (fd < 0 || write(fd, b.p, b.len) != (ssize_t)b.len)
		return err_set(e, ERR_SETUP, errno, "write the view of a session");
	*bytes = (uint32_t)b.len;
	return take_fd(&fd);
}

static int64_t lesser(int64_t limit, uint64_t of_session)
{
	return of_session && of_session < (uint64_t)limit ? (int64_t)of_session : limit;
}

/* An archive that a session cannot hold is not begun; that of a seed is the client's own matter. */
void files_limits_of(const struct conf *conf, const struct call *c, struct files_limits *l)
{
	const struct disk_limits *disk = &c->disk;

	*l = (struct files_limits){
		.read_max_bytes = conf->files_read_max_bytes,
		.scan_max_bytes = conf->files_scan_max_bytes,
		.edit_max_bytes = conf->files_edit_max_bytes,
		.transfer_max_bytes = conf->download_max_bytes,
		.matches_max = conf->files_matches_max,
		.entries_max = conf->files_entries_max,
		.grep_steps_max = conf->grep_steps_max,
		.unpacked_max_bytes = conf->archive_unpacked_max_bytes,
		.unpacked_entries_max = conf->archive_entries_max,
		.ratio_max = conf->archive_ratio_max,
	};
	if (c->rq.op != KEEPER_FILES)
		return;
	l->unpacked_max_bytes = lesser(l->unpacked_max_bytes, disk->bytes);
	l->unpacked_entries_max = lesser(l->unpacked_entries_max, disk->inodes);
}

/* Whether the verb may make the session larger. */
bool files_grow(uint32_t verb)
{
	return verb == FILES_WRITE || verb == FILES_APPEND || verb == FILES_EDIT ||
	       verb == FILES_MKDIR || verb == FILES_UNPACK;
}

/* The verb takes as long as there are bytes; the others look, or change a little. */
bool files_move_contents(uint32_t verb)
{
	return verb == FILES_UNPACK || verb == FILES_PACK || verb == FILES_FETCH ||
	       verb == FILES_WRITE || verb == FILES_APPEND;
}

/* A session whose limit is small can be over it with less. */
static int64_t measure_from(const struct call *c)
{
	return c->disk.bytes ? lesser(MEASURE_FROM_BYTES, c->disk.bytes / 8 + 1)
			     : MEASURE_FROM_BYTES;
}

/* Whether what comes after it is to be measured whatever came of it. */
static bool is_large(const struct call *c, const struct files_order *o, int data)
{
	return o->verb == FILES_UNPACK || (files_grow(o->verb) && !(o->flags & FILES_PROBE) &&
						  lseek(data, 0, SEEK_END) >= measure_from(c));
}

/* Starts the helper; texts and data are borrowed. */
static int start(struct keeper *k, struct call *c, const struct files_order *o, int texts, int data,
	struct err *e)
{
	OWN_MEM struct tree_job *j = calloc(1, sizeof *j);
	struct tree_files f = {.texts = texts, .data = data, .live = find_live(c)};
	OWN_FD view = -1;
	int fd;

	if (!j)
		return err_set(e, ERR_SETUP, ENOMEM, "tree helper");
	view = plan_view(k, c, &j->view_bytes, e);
	if (view < 0)
		return -1;
	f.view = view;
	j->order = *o;
	j->layout = c->layout;
	files_limits_of(k->conf, c, &j->files);
	j->memory_max_bytes = (uint64_t)k->conf->archive_memory_max_bytes;
	j->time_max_s = (uint64_t)(files_move_contents(o->verb) ? k->conf->archive_time_max_s
								: k->conf->files_time_max_s);
	if (is_large(c, o, data))
		session_dir_set_check(&k->dirs, c->held->id, true);
	fd = tree_start_files(k->tree, j, &f, e);
	if (fd < 0)
		return -1;
	job_watch(k, c, TREE_FILES, fd);
	return 0;
}

/* It grows, and has grown since it was measured by what is worth a look. */
static bool wants_measure(struct keeper *k, const struct call *c)
{
	const struct files_order *o = &c->rq.files;

	if (c->rq.op == KEEPER_FILES && (!files_grow(o->verb) || (o->flags & FILES_PROBE)))
		return false;
	return session_dir_check(&k->dirs, c->held->id);
}

static int seed_repo(struct keeper *k, struct call *c, struct err *e)
{
	OWN_FD ws = session_dir_open(&k->dirs, c->held->id, "ws", O_RDONLY | O_DIRECTORY);

	if (ws < 0)
		return err_set(e, ERR_SETUP, errno, "open the workspace");
	return job_begin(k, c, TREE_ADD, ws, c->fd[0], e);
}

static int seed_skills(struct keeper *k, struct call *c, struct err *e)
{
	OWN_BUF b = BUF_INIT(256);
	OWN_FD texts = memfd_create("texts", MFD_CLOEXEC);
	struct files_order o = {.verb = FILES_UNPACK};

	files_put_text(&b, SKILLS, strlen(SKILLS));
	o.text_bytes = (uint32_t)b.len;
	if (texts < 0 || !buf_ok(&b) || write(texts, b.p, b.len) != (ssize_t)b.len)
		return err_set(e, ERR_SETUP, errno, "write the texts of a seed");
	return start(k, c, &o, texts, c->fd[c->rq.has_archive == 3], e);
}

/* Whatever had to come before it is done. */
static void work(struct keeper *k, struct call *c)
{
	struct err e = {0};
	int ret;

	if (c->rq.op == KEEPER_FILES)
		ret = start(k, c, &c->rq.files, c->fd[0], c->fd[1], &e);
	else
		ret = c->rq.has_archive & 1 ? seed_repo(k, c, &e) : seed_skills(k, c, &e);
	if (ret < 0)
		call_fail(k, c, &e);
}

/* What comes is larger than the room that used bytes leave. */
static bool no_room(const struct call *c, uint64_t used)
{
	uint32_t verb = c->rq.files.verb;
	off_t n = c->rq.op == KEEPER_FILES && (verb == FILES_WRITE || verb == FILES_APPEND)
			  ? lseek(c->fd[1], 0, SEEK_END)
			  : 0;

	return c->disk.bytes &&
	       (used > c->disk.bytes || (n > 0 && (uint64_t)n > c->disk.bytes - used));
}

static void done(struct keeper *k, struct call *c, const struct files_result *r)
{
	struct keeper_reply rp = {.files = *r};

	call_answer(c, &rp, NULL, 0);
	lock_release(k, c);
}

/* The place for the workspace is settled, its room on the disk looked at. */
static int prepare(struct keeper *k, struct call *c, struct err *e)
{
	const char *id = c->held->id;
	bool g5 = c->rq.op == KEEPER_SEED || (c->rq.files.flags & FILES_WORKSPACE);

	session_dir_touch(&k->dirs, id);
	if (g5 && session_dir_move_workspace(&k->dirs, id, c->layout.root_top, e) < 0)
		return -1;
	if ((c->rq.op == KEEPER_SEED || files_grow(c->rq.files.verb)) && watch_disk_room(k, e) < 0)
		return -1;
	return 0;
}

void files_begin(struct keeper *k, struct call *c)
{
	const struct files_result seeded = {.code = FILES_EXISTS}, full = {.code = FILES_NO_SPACE};
	struct err e = {0};
	OWN_FD dir = -1;

	if (await_quiet(k, c))
		return;
	session_record_clear(&c->record);
	if (session_dir_load(&k->dirs, c->held->id, &c->record, &c->layout, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	if (thaw_begin(k, c))
		return; /* comes back */
	if (prepare(k, c, &e) < 0) {
		call_fail(k, c, &e);
		return;
	}
	if (c->rq.op == KEEPER_SEED && session_dir_seeded(&k->dirs, c->held->id)) {
		done(k, c, &seeded);
		return;
	}
	if (c->rq.op == KEEPER_SEED && (c->rq.has_archive & 1) && workspace_make_room(k, c))
		return; /* comes back */
	watch_disk_limits(k, c);
	if (no_room(c, 0)) {
		done(k, c, &full);
		return;
	}
	if ((!c->disk.bytes && !c->disk.inodes) || !wants_measure(k, c)) {
		work(k, c);
		return;
	}
	dir = session_dir_open(&k->dirs, c->held->id, ".", O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		err_set(&e, ERR_SETUP, errno, "open the session");
	if (dir < 0 || job_begin(k, c, TREE_MEASURE, dir, -1, &e) < 0)
		call_fail(k, c, &e);
}

/*
 * Nothing else watches what is written while no sandbox runs. The disk's own unit is the block, of which a
 * file and each new directory take one more than their bytes.
 */
void files_note_growth(struct keeper *k, const struct call *c, const struct files_result *r)
{
	const struct files_order *o = &c->rq.files;
	off_t bytes = o->verb == FILES_EDIT ? (off_t)r->size : lseek(c->fd[1], 0, SEEK_END);

	if (c->rq.op != KEEPER_FILES || c->job_op != TREE_FILES || !c->held)
		return;
	if (!files_grow(o->verb) || o->verb == FILES_UNPACK || (o->flags & FILES_PROBE))
		return;
	session_dir_grew(&k->dirs, c->held->id,
		(uint64_t)(bytes < 0 ? 0 : bytes) / BLOCK_BYTES + 2 + r->records,
		(uint64_t)measure_from(c) / BLOCK_BYTES + 1);
}

static void added(struct keeper *k, struct call *c, const struct tree_result *r, struct err *e)
{
	static const struct files_result fine = {.code = FILES_OK};

	if (job_take_layout(k, c, &r->layout, e) < 0 ||
		(c->rq.has_archive == 3 && seed_skills(k, c, e) < 0)) {
		call_fail(k, c, e);
		return;
	}
	if (c->rq.has_archive == 3)
		return;
	if (session_dir_set_seeded(&k->dirs, c->held->id, e) < 0)
		call_fail(k, c, e);
	else
		done(k, c, &fine);
}

void files_job_done(struct keeper *k, struct call *c, const struct tree_result *r)
{
	static const struct files_result full = {.code = FILES_NO_SPACE};
	struct err e = {0};

	if (c->job_op == TREE_MEASURE) {
		if (no_room(c, r->bytes) || (c->disk.inodes && r->inodes > c->disk.inodes)) {
			done(k, c, &full);
			return;
		}
		session_dir_set_check(&k->dirs, c->held->id, false);
		work(k, c);
	} else if (c->job_op == TREE_ADD) {
		added(k, c, r, &e);
	} else if (c->rq.op == KEEPER_SEED && r->files.code == FILES_OK &&
		   session_dir_set_seeded(&k->dirs, c->held->id, &e) < 0) {
		call_fail(k, c, &e);
	} else {
		done(k, c, &r->files);
	}
}

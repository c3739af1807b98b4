/* File verbs in a volume: a tree helper whose root it is. No session, no lock: names change by rename. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fcgi/files_view.h"
#include "fcgi/keeper_int.h"
#include "isolate/own.h"

bool volume_files_ok(const struct keeper_request *rq)
{
	return memchr(rq->volume, '\0', sizeof rq->volume) &&
	       (!*rq->volume || (volume_name_ok(rq->volume) &&
					!(rq->files.flags & (FILES_WORKSPACE | FILES_AT_REST))));
}

bool volume_files_wanted(const struct keeper_request *rq)
{
	return rq->op == KEEPER_FILES && *rq->volume;
}

/* A view that is the volume and nothing else. */
static int plan(const struct keeper *k, const char *name, uint32_t *bytes, struct err *e)
{
	OWN_BUF b = BUF_INIT(FILES_VIEW_MAX);
	OWN_MEM char *staging = NULL, *path = NULL;
	OWN_FD fd = memfd_create("view", MFD_CLOEXEC);
	struct jail_view v = {.live = -1};

	if (asprintf(&staging, "%s/mnt", k->dirs.path) < 0 ||
		asprintf(&path, "%s/volumes/%s/fs", k->dirs.path, name) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "view of a volume");
	v.staging = staging;
	v.root = (struct launch_mount){
		.kind = PLAN_BIND, .flags = PLAN_WRITABLE, .dst = "/", .src = path};
	files_view_put(&b, &v);
	if (!buf_ok(&b) || fd < 0 || write(fd, b.p, b.len) != (ssize_t)b.len)
		return err_set(e, ERR_SETUP, errno, "write the view of a volume");
	*bytes = (uint32_t)b.len;
	return take_fd(&fd);
}

static int work(struct keeper *k, struct call *c, struct err *e)
{
	OWN_MEM struct tree_job *j = calloc(1, sizeof *j);
	struct tree_files f = {.texts = c->fd[0], .data = c->fd[1], .live = -1};
	OWN_FD view = -1;
	int fd;

	if (!j)
		return err_set(e, ERR_SETUP, ENOMEM, "tree helper");
	view = plan(k, c->rq.volume, &j->view_bytes, e);
	if (view < 0)
		return -1;
	f.view = view;
	j->order = c->rq.files;
	files_limits_of(k->conf, c, &j->files);
	j->memory_max_bytes = (uint64_t)k->conf->archive_memory_max_bytes;
	j->time_max_s = (uint64_t)(files_move_contents(c->rq.files.verb)
					   ? k->conf->archive_time_max_s
					   : k->conf->files_time_max_s);
	fd = tree_start_files(k->tree, j, &f, e);
	if (fd < 0)
		return -1;
	job_watch(k, c, TREE_FILES, fd);
	return 0;
}

void volume_files(struct keeper *k, struct call *c)
{
	uint64_t limit = volume_limit(k, c->rq.volume);
	bool grows = files_grow(c->rq.files.verb);
	struct err e = {0};
	int ret;

	if (!limit) {
		ret = err_set(&e, ERR_NOTFOUND, ENOENT, "no volume %s", c->rq.volume);
	} else if (!grows) {
		ret = work(k, c, &e);
	} else {
		ret = watch_disk_room(k, &e) < 0 ? -1 : volume_weigh(k, c->rq.volume, limit, &e);
		if (ret >= 0)
			job_watch(k, c, TREE_WEIGH, ret);
	}
	if (ret < 0)
		call_fail(k, c, &e);
}

/* What is written may be all that is left. */
static bool fits(const struct keeper *k, const struct call *c, const struct tree_result *r)
{
	uint64_t limit = volume_limit(k, c->rq.volume);
	uint64_t most = (uint64_t)k->conf->session_disk_max_inodes;
	off_t n = lseek(c->fd[1], 0, SEEK_END);

	return r->bytes <= limit && (uint64_t)(n < 0 ? 0 : n) <= limit - r->bytes &&
	       (!most || r->inodes < most);
}

void volume_job_done(struct keeper *k, struct call *c, const struct tree_result *r)
{
	struct keeper_reply rp = {.files = r->files};
	struct err e = {0};

	if (c->job_op == TREE_WEIGH && fits(k, c, r)) {
		if (work(k, c, &e) < 0)
			call_fail(k, c, &e);
		return;
	}
	if (c->job_op == TREE_WEIGH)
		rp.files = (struct files_result){.code = FILES_NO_SPACE};
	call_answer(c, &rp, NULL, 0);
}

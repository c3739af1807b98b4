/* Jobs for the tree server, with the limits of sandbox.conf: what helpers get, and what is believed of
 * their answer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/keeper_int.h"
#include "isolate/own.h"

static void job_limits(const struct conf *conf, struct tree_job *j)
{
	bool plain = conf->backend == BACKEND_DOCKER; /* an Engine mounts no overlay of ours */

	j->time_max_s = (uint64_t)(j->op == TREE_EXPORT ? conf->export_time_max_s
							: conf->archive_time_max_s);
	j->uid = (uint32_t)conf->run_uid;
	j->gid = (uint32_t)conf->run_gid;
	j->memory_max_bytes = (uint64_t)conf->archive_memory_max_bytes;
	j->limits = (struct ws_limits){
		.archive_max_bytes = conf->archive_max_bytes,
		.archive_unpacked_max_bytes = conf->archive_unpacked_max_bytes,
		.archive_entries_max = conf->archive_entries_max,
		.archive_ratio_max = conf->archive_ratio_max,
		.session_archives_max_bytes = conf->session_archives_max_bytes,
		.plain_entries_max = plain ? INT64_MAX : conf->plain_entries_max,
		.plain_max_bytes = plain ? INT64_MAX : conf->plain_max_bytes,
		.patch_max_bytes = conf->patch_max_bytes,
	};
}

/*
 * The layout that a helper leaves. It may have emptied the workspace, but which layers are shared is
 * none of its business.
 */
int job_take_layout(struct keeper *k, struct call *c, const struct ws_layout *from, struct err *e)
{
	struct ws_layers before = c->layout.shared;
	struct ws_layout next = *from;

	if (next.shared.n != 0 && next.shared.n != before.n)
		return err_set(e, ERR_BUG, 0, "a tree helper's layout has other layers");
	memcpy(next.shared.id, before.id, sizeof before.id);
	next.root = c->layout.root;
	next.root_top = c->layout.root_top;
	next.place = 0;
	if (session_dir_save_layout(&k->dirs, c->held->id, &next, e) < 0)
		return -1;
	c->layout = next;
	if (next.shared.n == 0)
		layers_drop(k, &before);
	return 0;
}

/* With the layers that the job needs; its helper alone has them then. */
static int start_layers(
	struct keeper *k, const struct tree_job *j, int dir, int data, struct err *e)
{
	int fds[2 * WS_LAYERS_MAX], ret = -1;
	const struct ws_layers *more = j->op == TREE_THAW ? &j->layout.root : &j->mark;
	unsigned n = j->layout.shared.n;
	unsigned marks = j->op == TREE_SINCE || j->op == TREE_THAW ? more->n : 0;

	if (layers_open(k, &j->layout.shared, fds, e) < 0)
		return -1;
	if (marks == 0 || layers_open(k, more, fds + n, e) == 0)
		ret = tree_start_layers(k->tree, j, dir, data, fds, n + marks, e);
	else
		marks = 0;
	for (unsigned i = 0; i < n + marks; i++)
		own_close(&fds[i]);
	return ret;
}

int job_open(struct keeper *k, struct call *c, enum tree_op op, int dir, int data, struct err *e)
{
	OWN_MEM struct tree_job *j = calloc(1, sizeof *j);

	if (!j)
		return err_set(e, ERR_SETUP, ENOMEM, "tree helper");
	j->op = op;
	j->ephemeral = c->record.ephemeral;
	j->layout = c->layout;
	job_limits(k->conf, j);
	if (c->work)
		workspace_job(c, j);
	return op == TREE_ADD || op == TREE_PATCH || op == TREE_DISCARD || op == TREE_EXPORT ||
			       op == TREE_SINCE || op == TREE_THAW
		       ? start_layers(k, j, dir, data, e)
		       : tree_start(k->tree, j, dir, data, e);
}

int job_measure(struct keeper *k, const struct ws_layout *lay, const struct disk_limits *limit,
	int dir, struct err *e)
{
	OWN_MEM struct tree_job *j = calloc(1, sizeof *j);

	if (!j)
		return err_set(e, ERR_SETUP, ENOMEM, "tree helper");
	j->op = TREE_MEASURE;
	j->layout = *lay;
	job_limits(k->conf, j);
	/* double: whether a session may still be opened is decided beyond its limit */
	j->stop_bytes = 2 * limit->bytes;
	j->stop_inodes = 2 * limit->inodes;
	return tree_start(k->tree, j, dir, -1, e);
}

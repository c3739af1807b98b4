/* Jobs for the tree server, with the limits of sandbox.conf. */
#include <errno.h>
#include <stdlib.h>

#include "fcgi/keeper_int.h"
#include "isolate/own.h"

static void job_limits(const struct conf *conf, struct tree_job *j)
{
	j->time_max_s = (uint64_t)conf->archive_time_max_s;
	j->memory_max_bytes = (uint64_t)conf->archive_memory_max_bytes;
	j->limits = (struct ws_limits){
		.archive_max_bytes = conf->archive_max_bytes,
		.archive_unpacked_max_bytes = conf->archive_unpacked_max_bytes,
		.archive_entries_max = conf->archive_entries_max,
		.archive_ratio_max = conf->archive_ratio_max,
		.plain_entries_max = conf->plain_entries_max,
		.plain_max_bytes = conf->plain_max_bytes,
		.patch_max_bytes = conf->patch_max_bytes,
	};
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
	return tree_start(k->tree, j, dir, data, e);
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

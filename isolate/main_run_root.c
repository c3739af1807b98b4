/* What the sandbox of a run consists of: layers, mounts and limits; and its program. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/main_run.h"
#include "isolate/own.h"

int root_from_dir(const char *dir, struct image *out, struct err *e)
{
	memset(out, 0, sizeof *out);
	out->lowers = calloc(1, sizeof *out->lowers);
	if (out->lowers)
		out->lowers[0] = strdup(dir);
	if (!out->lowers || !out->lowers[0]) {
		image_clear(out);
		return err_set(e, ERR_SETUP, ENOMEM, "use %s as the root", dir);
	}
	out->nlowers = 1;
	return 0;
}

int root_mounts(const struct run_opts *o, const struct image *im, struct launch_mount **out,
	size_t *n, struct err *e)
{
	struct launch_mount *all;

	*n = 0;
	if (im->nhost_binds > RUN_MOUNTS_MAX)
		return err_set(e, ERR_BUG, 0, "image with %zu binds", im->nhost_binds);
	all = *out = calloc(im->nhost_binds + o->nmounts + 1, sizeof *all);
	if (!all)
		return err_set(e, ERR_SETUP, ENOMEM, "mounts");
	/* The image's first: what is asked for may lie below /usr. */
	for (size_t i = 0; i < im->nhost_binds; i++)
		all[(*n)++] = (struct launch_mount){.kind = PLAN_BIND,
			.flags = PLAN_RECURSIVE,
			.src = im->host_binds[i],
			.dst = im->host_binds[i]};
	for (size_t i = 0; i < o->nmounts; i++) {
		struct launch_mount *m = &all[(*n)++];

		*m = o->mount[i];
		m->inodes = (uint64_t)o->conf.tmpfs_max_inodes;
		if (m->kind == PLAN_TMPFS && !m->bytes)
			m->bytes = (uint64_t)o->conf.tmpfs_max_bytes;
	}
	return 0;
}

void root_launch(const struct run_opts *o, const struct image *im, const struct run_user *u,
	const struct upper *d, struct launch *w)
{
	const struct conf *c = &o->conf;

	*w = (struct launch){
		.uid = u->uid,
		.gid = u->gid,
		.root_emulation = conf_emulates_root(c, u->uid),
		.hostname = o->hostname,
		.staging = d->staging,
		.host_network = o->network == NETWORK_HOST,
		.root = {.kind = PLAN_OVERLAY,
			.flags = o->read_only ? PLAN_READ_ONLY : 0,
			.lowers = (const char *const *)im->lowers,
			.nlowers = im->nlowers,
			.bytes = (uint64_t)c->tmpfs_max_bytes,
			.inodes = (uint64_t)c->tmpfs_max_inodes},
		.processes_max = (uint32_t)c->processes_max,
		.files_open_max = (uint32_t)c->files_open_max,
		.file_max_bytes = (uint64_t)c->file_max_bytes,
		.memory_max_bytes = (uint64_t)c->memory_process_max_bytes,
		.address_space_max_bytes = (uint64_t)c->address_space_max_bytes,
		.cpu_time_max_s = (uint64_t)c->cpu_time_max_s,
		.shm_bytes = (uint64_t)c->tmpfs_max_bytes,
		.shm_inodes = (uint64_t)c->tmpfs_max_inodes,
		.client_fd = -1,
	};
	if (d->on_disk) {
		w->root.upper = d->upper;
		w->root.work = d->work;
	} else {
		w->root.flags |= PLAN_TMPFS_UPPER;
	}
}

int root_program(const struct run_opts *o, const struct image *im, const char *const **argv,
	const char ***own, struct err *e)
{
	size_t n = im->nentrypoint + im->ncmd, at = 0;

	*argv = (const char *const *)o->argv;
	if (o->argv[0])
		return 0;
	if (n == 0 || n > PROTO_ARGS_MAX)
		return err_set(e, ERR_REQUEST, 0, "no program is named, and the image names none");
	*own = calloc(n + 1, sizeof **own);
	if (!*own)
		return err_set(e, ERR_SETUP, ENOMEM, "arguments");
	for (size_t i = 0; i < im->nentrypoint; i++)
		(*own)[at++] = im->entrypoint[i];
	for (size_t i = 0; i < im->ncmd; i++)
		(*own)[at++] = im->cmd[i];
	*argv = *own;
	return 0;
}

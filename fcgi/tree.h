/*
 * Tree helpers: one-shot processes that do file work on one session. A small parent, forked by
 * the keeper before it serves, has the libraries loaded and forks a child for each job; the
 * child enters the jail (isolate/jail.h) at the session's ws/ directory, works, sends one
 * struct tree_result and ends.
 */
#ifndef CGIBOX_TREE_H
#define CGIBOX_TREE_H

#include <stdint.h>

#include "fcgi/files.h"
#include "fcgi/workspace.h"
#include "fcgi/ws_export.h"
#include "isolate/err.h"

enum tree_op {
	TREE_CREATE = 1, /* ws_create */
	TREE_ADD,        /* ws_add_archive: fds = archive */
	TREE_PATCH,      /* ws_patch: fds = output */
	TREE_MEASURE,    /* ws_measure_growth; the directory is the session's own */
	TREE_DELETE,     /* removes everything below the directory, whatever its modes */
	TREE_FILES,      /* files_run in the session's view; started by tree_start_files() */
	TREE_SINCE,      /* ws_patch_since: fds = output */
	TREE_DISCARD,    /* ws_discard */
	TREE_EXPORT,     /* ws_export: fds = output */
	TREE_JOIN,       /* ws_join: mark into target; the directory is STATE/layers */
	TREE_WEIGH,      /* what the directory holds: a volume */
	TREE_THAW,       /* ws_thaw; the directory is the session's own */
	TREE_OP_MAX,
};

enum { TREE_PATH_MAX = 4095 };

struct tree_job {
	uint32_t op; /* enum tree_op */
	uint32_t ephemeral;
	struct ws_layout layout;
	struct ws_limits limits;
	uint64_t memory_max_bytes, time_max_s;
	uint64_t stop_bytes, stop_inodes; /* MEASURE: over the limit is enough to know; 0 = none */
	/* FILES */
	struct files_order order;
	struct files_limits files;
	uint32_t view_bytes;               /* of the plan of the view (files_view.h) */
	uint32_t live;                     /* 1: the view is that of a running sandbox */
	struct ws_layers mark;             /* SINCE, JOIN */
	unsigned char target[WS_LAYER_ID]; /* JOIN */
	uint32_t format, uid, gid;         /* EXPORT */
	char path[TREE_PATH_MAX + 1];      /* EXPORT */
	uint32_t has_data, nlayers;        /* tree_start()'s own: which descriptors came */
};

/* A layout's form when the helper could not say what it is: the one of before still holds. */
#define TREE_LAYOUT_UNKNOWN UINT32_MAX

struct tree_result {
	struct err err;          /* kind ERR_NONE on success */
	struct ws_layout layout; /* on error too, unless it is TREE_LAYOUT_UNKNOWN (not valid) */
	uint64_t patch_bytes;
	uint64_t bytes, inodes;           /* MEASURE, WEIGH: all together */
	uint64_t ws_bytes, ws_inodes;     /* of these, in the workspace's own directories */
	uint64_t root_bytes, root_inodes; /* and in the root's upper layer */
	struct files_result files;
};

/* What a job of the file verbs works with; all borrowed. */
struct tree_files {
	int texts, data, view; /* as in files.h; the plan of the view */
	int live;              /* pidfd of the running sandbox, -1: none runs */
};

struct tree_server; /* the keeper's end */

/* Keeper, at start-up: forks the helpers' parent. It ends when the keeper does. */
struct tree_server *tree_server_start(struct err *e);
void tree_server_stop(struct tree_server *t);

/*
 * Keeper: starts a job on dir_fd (a directory); data_fd is the archive or output, or -1. Both
 * are borrowed. Returns a SOCK_SEQPACKET descriptor (the caller's) that becomes readable with
 * one struct tree_result, or with end of file when the helper died. Does not block on the job.
 */
int tree_start(
	struct tree_server *t, const struct tree_job *job, int dir_fd, int data_fd, struct err *e);

/* The same for TREE_FILES. job->live is set from f. */
int tree_start_files(
	struct tree_server *t, struct tree_job *job, const struct tree_files *f, struct err *e);

/*
 * The same for a job on shared layers: descriptors, borrowed, of those of job->layout.shared and then
 * (SINCE) of those of job->mark. The helper can do with them whatever they allow, also after it was
 * taken over: they are to be read-only mounts (layers_open()).
 */
int tree_start_layers(struct tree_server *t, const struct tree_job *job, int dir_fd, int data_fd,
	const int *layers, unsigned n, struct err *e);

/*
 * Keeper: reads the result from such a descriptor and range-checks it. 0: out is filled, and
 * out->err may still be an error of the job. -1: the helper died; out->layout is unknown.
 */
int tree_finish(int fd, struct tree_result *out, struct err *e);

#endif

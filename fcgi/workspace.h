/*
 * A session's workspace: what a tenant sees as /repo, and how its changes become a patch.
 * Everything here runs in a tree helper (fcgi/tree.c) that has entered the session's ws/
 * directory as its root; the keeper only stores struct ws_layout and turns it into mounts.
 *
 * Two forms (docs/design.md): plain, a directory with an index of the archive beside it; and
 * overlay, where archive k is a read-only layer and upper_k takes the writes of call k.
 * Only tree/, layer-K/, upper-K/ are ever visible inside a sandbox.
 */
#ifndef CGIBOX_WORKSPACE_H
#define CGIBOX_WORKSPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "isolate/err.h"

enum ws_form { WS_EMPTY, WS_PLAIN, WS_OVERLAY };

enum { WS_LAYERS_MAX = 64 }; /* then compacted; the kernel's limit of lowers is 500 */

/* Integers only: the keeper range-checks it and keeps it beside the session's spec. */
struct ws_layout {
	uint32_t form;    /* enum ws_form */
	uint32_t top;     /* overlay: number K of the newest layer and upper */
	uint32_t nlowers; /* overlay: entries used below */
	int32_t lower[2 *
		      WS_LAYERS_MAX]; /* top first: K > 0 = layer-K, K < 0 = upper-(-K), 0 = tree */
	uint32_t has_baseline;        /* 1: an archive came in this call, a patch can be made */
	uint64_t entries, bytes;      /* of the newest archive */
	uint64_t base_bytes, base_inodes; /* on disk: what archives brought into tree/ */
};

struct ws_limits {
	int64_t archive_max_bytes, archive_unpacked_max_bytes, archive_entries_max;
	int64_t archive_ratio_max, plain_entries_max, plain_max_bytes, patch_max_bytes;
};

/* Helper: makes an empty workspace (tree/). */
int ws_create(struct ws_layout *lay, struct err *e);

/*
 * Helper: takes the archive into the workspace and records the baseline. ephemeral: what was
 * there is removed first. On error the workspace is as before (ERR_REQUEST, ERR_LIMIT), or, if
 * that could not be done, empty and lay says so. lay is in and out.
 */
int ws_add_archive(struct ws_layout *lay, int archive_fd, bool ephemeral,
	const struct ws_limits *lim, struct err *e);

/*
 * Helper: writes the patch of the workspace against the newest archive to out_fd, in the form
 * `git apply` takes, pure UTF-8. *bytes = 0 when nothing changed. The tree must be quiet: no
 * process of the sandbox lives. O(changed) in the overlay form, a stat walk in the plain form.
 */
int ws_patch(const struct ws_layout *lay, int out_fd, const struct ws_limits *lim, uint64_t *bytes,
	struct err *e);

/* Any process: whether the numbers are in range and consistent. Pure. */
bool ws_layout_valid(const struct ws_layout *lay);

/*
 * Keeper: the mount that makes the workspace visible. Fills names relative to ws/:
 * plain: *tree is the directory to bind. overlay: lowers top first, upper and work.
 */
struct ws_mount {
	bool overlay;
	char tree[32], upper[32], work[32];
	unsigned nlowers;
	char lowers[2 * WS_LAYERS_MAX][32];
};
int ws_mount_plan(const struct ws_layout *lay, struct ws_mount *out, struct err *e);

#endif

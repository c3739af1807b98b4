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

enum {
	WS_LAYERS_MAX = 64, /* then compacted; the kernel's limit of lowers is 500 */
	WS_LAYER_ID = 16,   /* bytes of the random name of a layer that sessions share */
	WS_MARK_MAX = 64,   /* bytes of a mark's name */
};

/*
 * What the workspace is compared with once it stands on shared layers: a place in their stack,
 * counted from the lowest, which is 1.
 */
enum ws_base {
	WS_BASE_NONE, /* no archive came: nothing was there */
	WS_BASE_ARCHIVE, /* the archive in that layer alone; "left.idx" beside it lists what lies below */
	WS_BASE_INDEX, /* that layer was a plain tree, with "base.idx" and "base.raw" beside it */
	WS_BASE_STATE, /* all layers up to that one: a commit */
	WS_BASE_MAX,
};

/* What a session's files beside the layout say (session_dir.h). 0: nothing is said of them. */
enum ws_place {
	WS_PLACE_MOVED = 1,
	WS_PLACE_SEEDED = 2,
	WS_PLACE_SAID = 4,
	WS_PLACE_TOP = 8,
	WS_PLACE_ALL = 15
};

/*
 * Layers that several sessions may stand on: never written to again, each a directory of
 * STATE/layers that holds "fs". A helper gets them as read-only mounts of their own.
 */
struct ws_layers {
	uint32_t n;
	uint64_t bytes, inodes;                       /* what tenants wrote into them */
	unsigned char id[WS_LAYERS_MAX][WS_LAYER_ID]; /* topmost first */
};

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
	uint64_t stacked_bytes;           /* the same of archives beside tree/, about */
	/* Overlay: the layers below those of our own, and the baseline while we have none */
	struct ws_layers shared;
	uint32_t base_kind, base_at;          /* enum ws_base, and its place */
	uint64_t commit_bytes, commit_inodes; /* shared.bytes and inodes when it was set */
	/* The writable layer of the root: what lies between it and the image, and its number */
	struct ws_layers root;
	uint32_t root_top;
	uint32_t place; /* enum ws_place: of a snapshot, and of a session that goes back to one */
};

/* What an emptied workspace keeps of lay: the root, and that no number is used again. Pure. */
struct ws_layout ws_layout_fresh(const struct ws_layout *lay);

struct ws_limits {
	int64_t archive_max_bytes, archive_unpacked_max_bytes, archive_entries_max;
	int64_t archive_ratio_max, plain_entries_max, plain_max_bytes, patch_max_bytes;
	int64_t session_archives_max_bytes; /* of all archives of a session; 0 = no limit */
};

/* Helper: makes an empty workspace (tree/). */
int ws_create(struct ws_layout *lay, struct err *e);

/*
 * Helper: takes the archive into the workspace and records the baseline. ephemeral: what was
 * there is removed first. On error the workspace is as before (ERR_REQUEST, ERR_LIMIT), or, if
 * that could not be done, empty and lay says so. lay is in and out. shared: descriptors of
 * lay->shared, in its order; borrowed.
 */
int ws_add_archive(struct ws_layout *lay, const int *shared, int archive_fd, bool ephemeral,
	const struct ws_limits *lim, struct err *e);

/*
 * Helper: writes the patch of the workspace against its baseline (the newest archive, or a later
 * commit) to out_fd, in the form `git apply` takes, pure UTF-8. *bytes = 0 when nothing changed.
 * The tree must be quiet: no process of the sandbox lives. O(changed) in the overlay form, a stat
 * walk in the plain form. shared as above.
 */
int ws_patch(const struct ws_layout *lay, const int *shared, int out_fd,
	const struct ws_limits *lim, uint64_t *bytes, struct err *e);

/*
 * Helper: the same against the state that the layers mark are (descriptors in mark_fd). Layers
 * that both stand on are not looked at.
 */
int ws_patch_since(const struct ws_layout *lay, const int *shared, const struct ws_layers *mark,
	const int *mark_fd, int out_fd, const struct ws_limits *lim, uint64_t *bytes,
	struct err *e);

/*
 * Helper: makes the workspace what its baseline is, where that needs file work: the plain form,
 * also below an overlay (WS_BASE_INDEX), and no archive at all. The new tree/ takes its place by one
 * rename. lay is in and out.
 */
int ws_discard(struct ws_layout *lay, const int *shared, struct err *e);

/*
 * Helper, in the session's own directory: makes directories of its own of a session that stands on one shared layer for
 * the workspace, one for the root, or both: ws/tree, with its baseline, and root/upper-N, N one more. The layout says so
 * only when the caller has stored it; until then they are nobody's. It ends in ws/. lay is in and out; shared, root:
 * descriptors of their layers, borrowed. ERR_REQUEST: the layers are not such; ERR_SETUP, ERR_LIMIT.
 */
int ws_thaw(struct ws_layout *lay, const int *shared, const int *root, struct err *e);

/* Any process: whether the numbers are in range and consistent. Pure. */
bool ws_layout_valid(const struct ws_layout *lay);

/*
 * Keeper: the mount that makes the workspace visible. Fills names relative to ws/:
 * plain: *tree is the directory to bind. overlay: lowers top first, upper and work.
 */
struct ws_mount {
	bool overlay;
	char tree[32], upper[32], work[32];
	unsigned nlowers; /* our own; lay->shared follows */
	char lowers[2 * WS_LAYERS_MAX][32];
};
int ws_mount_plan(const struct ws_layout *lay, struct ws_mount *out, struct err *e);

#endif

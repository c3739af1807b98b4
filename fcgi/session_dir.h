/*
 * Sessions on disk, the keeper's side. Files are the truth: a session is STATE/sessions/<id>/
 *
 *	spec          what it was made with: "key value" lines; `image rm` reads "lower" there
 *	env           its environment, NAME=value, each with its NUL
 *	layout        struct ws_layout as text (layout_file.h); replaced by rename
 *	snapshots/    one such text for each mark
 *	used          its mtime is the last use; its size is how many blocks file verbs may have
 *	              added since the session was measured, or was noted to be measured
 *	root/upper[-N], root/work[-N]   the writable layer of the root, N its number
 *	ws/           the workspace (workspace.h)
 *	runs/         run_dir.h
 *	tied     there: it ends with the connection that made it, and with the keeper
 *	check         there: to be measured before its next sandbox, it may be over its disk limit
 *	workspace     there: the workspace is seen at /workspace/repo, and /repo is a link to it
 *	seeded        there: its one seed has come
 *	top           there: the workspace is seen at /workspace, and /repo is a link to it
 *	volumes       which volumes it sees where: "NAME PATH" lines; replaced by rename
 *	bounds        there: its mtime is when the session ends, its size after how many seconds
 *	              without use; 0: never
 *
 * It is made as .new-<id> and renamed when complete; it dies by a rename into STATE/trash.
 */
#ifndef CGIBOX_SESSION_DIR_H
#define CGIBOX_SESSION_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "fcgi/keeper_proto.h"
#include "fcgi/session_record.h"
#include "fcgi/workspace.h"
#include "images/store.h"
#include "isolate/err.h"

struct session_dirs {
	char *path;                                       /* STATE, absolute */
	int state, sessions, layers, trash, tmp, volumes; /* directory descriptors */
};

/* session_dirs.c */

/*
 * Opens STATE and makes what is missing, mode 0700. ERR_CONF where everybody may write to STATE.
 * Main at start, and the keeper.
 */
int session_dirs_open(struct session_dirs *d, const char *state_dir, struct err *e);
void session_dirs_close(struct session_dirs *d);

/* Makes the directory name in at, mode 0700, unless it is there; a descriptor. Follows no link. */
int session_dirs_make(int at, const char *name, struct err *e);

/*
 * Takes the lock of the service that owns STATE and its sockets: a descriptor, held as long as it
 * serves (flock(2), so it ends with its process). ERR_BUSY while another has it. Supervisor.
 */
int session_dirs_lock(const struct session_dirs *d, struct err *e);

/* Removes unfinished sessions into the trash and empties tmp/. Keeper at start, before it serves. */
int session_dirs_sweep(struct session_dirs *d, struct err *e);

/* session_dir.c */

/* Whether id is the text of a version 4 UUID: the only names ever joined to a path. Pure. */
bool session_id_valid(const char *id);

/* A fresh random id. */
int session_id_make(char id[SESSION_ID_LEN + 1], struct err *e);

/*
 * Makes .new-<id> with everything but the layout. home: made in the upper layer, as are /tmp,
 * /repo and /workdir. Returns the descriptor of its ws/ directory, or -1 with nothing left.
 */
int session_dir_prepare(struct session_dirs *d, const char *id, const struct image *im,
	const struct keeper_request *rq, const char *env, size_t env_bytes, const char *home,
	struct err *e);

/* Writes the layout and gives .new-<id> its name. */
int session_dir_commit(
	struct session_dirs *d, const char *id, const struct ws_layout *lay, struct err *e);

bool session_dir_exists(struct session_dirs *d, const char *id);
/* Whether it is one that ends with its connection, which no list shows. */
bool session_dir_tied(const struct session_dirs *d, const char *id);
/* It is one like others from here on. ERR_SETUP. Keeper. */
int session_dir_untie(const struct session_dirs *d, const char *id, struct err *e);

/* ERR_NOTFOUND when there is no such session; ERR_SETUP when its files are damaged. */
int session_dir_load(struct session_dirs *d, const char *id, struct session_record *r,
	struct ws_layout *lay, struct err *e);

int session_dir_save_layout(
	struct session_dirs *d, const char *id, const struct ws_layout *lay, struct err *e);

/* Opens sessions/<id>/<name>; name is a constant of ours. */
int session_dir_open(const struct session_dirs *d, const char *id, const char *name, int flags);

/* Whether the session is to be measured before its next sandbox; sets or clears that. */
bool session_dir_check(const struct session_dirs *d, const char *id);
void session_dir_set_check(struct session_dirs *d, const char *id, bool check);

/* Notes that the session may have grown by so many blocks; at max of them it is to be measured. */
void session_dir_grew(struct session_dirs *d, const char *id, uint64_t blocks, uint64_t max);

/*
 * session_place.c: where commands see the workspace: "/repo" or "/workspace/repo", or, for good,
 * "/workspace". move brings it from the first to the second, with /workspace/skills and /workspace/tmp
 * beside it and /repo as a link; the session must be quiet. root_top: of its layout. ERR_REQUEST when
 * something is in the way.
 */
const char *session_dir_workspace(const struct session_dirs *d, const char *id);
bool session_dir_moved(const struct session_dirs *d, const char *id); /* it is not the first */
int session_dir_move_workspace(
	struct session_dirs *d, const char *id, uint32_t root_top, struct err *e);

/* Whether the session has had the one seed that it may have; notes that. */
bool session_dir_seeded(const struct session_dirs *d, const char *id);
int session_dir_set_seeded(struct session_dirs *d, const char *id, struct err *e);

/* Both as a struct ws_layout says them (enum ws_place), for the session's directory dir. */
uint32_t session_place_get(int dir);
int session_place_set(int dir, uint32_t place, struct err *e);

/* Marks the session as used now. */
void session_dir_touch(struct session_dirs *d, const char *id);

/* What ends a session besides those who use it; seconds. */
struct session_bounds {
	time_t until; /* since the epoch; 0 = never */
	time_t idle;  /* 0 = never */
};

/* Replaces the list of its volumes; text: lines that are checked. */
int session_dir_set_volumes(
	struct session_dirs *d, const char *id, const char *text, size_t n, struct err *e);

/* False: it has none of its own. */
bool session_dir_bounds(const struct session_dirs *d, const char *id, struct session_bounds *b);

/* Moves a session that was prepared and will not be committed into the trash. */
void session_dir_abandon(struct session_dirs *d, const char *id);

/* Moves the session into the trash. 0 also when it is absent. */
int session_dir_discard(struct session_dirs *d, const char *id, struct err *e);

/*
 * Calls fn for each session with the time of its last use; fn returns false to stop.
 * Returns the number of sessions.
 */
size_t session_dir_each(
	struct session_dirs *d, bool (*fn)(void *arg, const char *id, time_t used), void *arg);

#endif

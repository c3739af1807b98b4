/*
 * Runs on disk, the keeper's side: STATE/sessions/<id>/runs/<run>/
 *
 *	about    JSON that the worker gave: what was asked; the keeper copies it and does not read it
 *	spool    its output and what became of it (isolate/spool.h)
 *
 * It is made as .new-<run> and renamed when complete.
 */
#ifndef CGIBOX_RUN_DIR_H
#define CGIBOX_RUN_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fcgi/backend.h"
#include "isolate/buf.h"
#include "isolate/err.h"
#include "isolate/result.h"
#include "isolate/spool.h"

struct session_dirs;

enum { RUN_ABOUT_MAX = 65536 };

/* One run as KEEPER_RUNS tells it; about follows, padded to a multiple of 8 bytes. */
struct run_row {
	char id[RUN_ID_LEN + 1];
	uint32_t about_bytes;
	uint32_t ended;
	struct spool_head head;
};

/* Whether id is the text of a run's id: the only names ever joined to a path. Pure. */
bool run_id_valid(const char *id);

/* Makes a run of session `id`; about: a file of `bytes` bytes. Returns its spool, open for writing. */
int run_dir_make(struct session_dirs *d, const char *id, const char *run, int about, size_t bytes,
	uint64_t ring, struct err *e);

/* Opens a file of a run. -1 with errno. */
int run_dir_open(
	struct session_dirs *d, const char *id, const char *run, const char *name, int flags);

/* Removes a run. 0 also when it is absent. */
int run_dir_remove(struct session_dirs *d, const char *id, const char *run, struct err *e);

/* Records a verdict where pid 1 has left none: VERDICT_INTERRUPTED, or a better one if that is known. */
void run_dir_end(struct session_dirs *d, const char *id, const char *run, enum verdict verdict);

/* The ids of all runs of a session, sorted, each RUN_ID_LEN + 1 bytes; *n of them. The caller frees.
 * NULL: no memory. A session without runs has none. */
char *run_dir_list(struct session_dirs *d, const char *id, size_t *n);

/* Removes the oldest runs that active() does not know, until at most `keep` of them with `bytes` bytes on
 * the disk are left. */
void run_dir_prune(struct session_dirs *d, const char *id, size_t keep, uint64_t bytes,
	bool (*active)(void *arg, const char *run), void *arg);

/* Appends the row of a run; nothing when it cannot be read. */
void run_dir_row(struct session_dirs *d, const char *id, const char *run, struct buf *out);

#endif

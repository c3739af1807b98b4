/*
 * Receipts of the commands of POST /session/{id}/, which are no runs: what each was, cost and came to. The
 * worker tells them at the end of its request; the keeper appends them to STATE/sessions/<id>/receipts
 * and keeps the last ones. Their output was in the answer and is kept nowhere. Not synced to the disk:
 * a power cut may take the last ones.
 */
#ifndef CGIBOX_RECEIPT_LOG_H
#define CGIBOX_RECEIPT_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "fcgi/backend.h"
#include "isolate/buf.h"
#include "isolate/err.h"
#include "isolate/result.h"

struct session_dirs;

enum { RECEIPT_ABOUT_MAX = 640, RECEIPTS_MAX = 1024 }; /* bytes; of one request that are told */

/* One, as it is told and stored. */
struct receipt {
	char id[RUN_ID_LEN + 1]; /* the keeper's: in the order of runs */
	uint32_t about_bytes;
	int64_t begun_us, ended_us; /* since the epoch */
	struct result result;
	char about[RECEIPT_ABOUT_MAX]; /* JSON, as a run's */
};

/*
 * Describes a command of n bytes, UTF-8, for out->about, shortened where it must be; workdir: relative to
 * /repo. Pure.
 */
void receipt_describe(struct receipt *out, const char *command, size_t n, const char *workdir,
	int64_t timeout_ms);

/* Appends n receipts and drops all but the last `keep`, now and then. Keeper. */
int receipt_log_add(struct session_dirs *d, const char *id, const struct receipt *r, size_t n,
	size_t keep, struct err *e);

/* The last `keep` at most, oldest first; *n of them. The caller frees; NULL: there are none. Keeper. */
struct receipt *receipt_log_read(struct session_dirs *d, const char *id, size_t keep, size_t *n);

#endif

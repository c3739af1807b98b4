/* Renames, as `git diff -M` finds them: the same bytes, or at least half of them alike. */
#ifndef CGIBOX_PATCH_RENAME_H
#define CGIBOX_PATCH_RENAME_H

#include "fcgi/patch.h"

enum patch_kind { PATCH_DELETE, PATCH_CREATE, PATCH_MODIFY, PATCH_RENAME };

/* One entry of the patch to be. */
struct patch_item {
	enum patch_kind kind;
	const struct patch_change *c;  /* whose sides count as the kind says; borrowed */
	const struct patch_item *from; /* PATCH_RENAME: the deletion that it took over */
	unsigned score;                /* PATCH_RENAME: percent alike, 100 = the same bytes */
	bool same_bytes;               /* PATCH_MODIFY: only the mode differs */
	bool gone;                     /* PATCH_DELETE: became the source of a rename */
};

/*
 * Turns pairs of deletion and creation of regular files into renames. Beyond
 * RENAME_PAIRS_MAX pairs only files with the same bytes are paired. Tree helper.
 */
enum { RENAME_PAIRS_MAX = 160000, RENAME_FILE_MAX = 8 << 20, RENAME_SCORE_MIN = 50 };
int patch_find_renames(struct patch_item *items, size_t n, const struct patch_source *src,
	int64_t max_bytes, struct err *e);

#endif

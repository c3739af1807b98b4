/* A plain tree against the index of its archive: the work behind the plain form's patch. */
#ifndef CGIBOX_WS_COMPARE_H
#define CGIBOX_WS_COMPARE_H

#include "fcgi/ignore.h"
#include "fcgi/patch.h"
#include "fcgi/ws_index.h"

struct ws_compare {
	struct ws_index index;
	struct ignore_set *ignore; /* the caller's, who sets and frees it */
	struct patch_list list;    /* what was found; its new sides lie in tree */
	int tree, raw;
};

/*
 * Opens the directory `tree` and the baseline files beside it, below dir. ws_compare_clear() in any
 * case. Tree helper.
 */
int ws_compare_open(struct ws_compare *c, int dir, const char *tree, struct err *e);
void ws_compare_clear(struct ws_compare *c);

/* Fills c->list, in no order. */
int ws_compare_run(struct ws_compare *c, struct err *e);

/* The baseline's side of one of its files; s->at is a place in c->raw. */
int ws_compare_old(
	const struct ws_compare *c, const struct ws_entry *en, struct patch_side *s, struct err *e);

#endif

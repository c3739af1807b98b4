/* What people want to know of an image and no sandbox does: parts of its config document. */
#ifndef CGIBOX_DETAILS_H
#define CGIBOX_DETAILS_H

#include "images/layout.h"

struct history_step {
	char *created, *created_by, *comment; /* never NULL, "" when absent */
	bool empty;                           /* made no layer */
};

struct details {
	char created[40], architecture[64]; /* "" when absent; architecture with its variant */
	struct history_step *steps;         /* oldest first */
	size_t nsteps;
};

/* Of a config document. ERR_REQUEST when it is none. Pure. */
int details_parse(const char *text, size_t n, struct details *out, struct err *e);
/* Of an image in the store, from its blob. */
int details_read(const struct store *s, const char *id, struct details *out, struct err *e);
void details_clear(struct details *d);
#define OWN_DETAILS __attribute__((cleanup(details_clear))) struct details

#endif

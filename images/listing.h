/* What is in the store, for people and, as JSON, for programs. Used by the program `image`. */
#ifndef CGIBOX_LISTING_H
#define CGIBOX_LISTING_H

#include <stdio.h>

#include "images/store.h"

enum listing_form {
	LISTING_TABS,
	LISTING_ALIGNED, /* of a terminal */
	LISTING_JSON,    /* one document */
};

/* A line for each reference, "host" first: name, id, layers, bytes, created, sessions. */
int listing_print(struct store *s, enum listing_form form, FILE *out, struct err *e);

/* Image record, layers and config as "key value" lines. */
int listing_inspect(
	struct store *s, const char *ref, enum listing_form form, FILE *out, struct err *e);

/* The steps that made an image, newest first: layer, bytes, created, by what. */
int listing_history(
	struct store *s, const char *ref, enum listing_form form, FILE *out, struct err *e);

/* Bytes of each layer and of the rest, how many use them, and what collect_all() would free. */
int listing_disk(struct store *s, enum listing_form form, FILE *out, struct err *e);

#endif

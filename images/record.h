/* The record of an image, STATE/images/images/<id>: "key value" lines. Pure. */
#ifndef CGIBOX_RECORD_H
#define CGIBOX_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"
#include "isolate/err.h"

enum {
	RECORD_MAX = 1 << 20,
	RECORD_LAYERS_MAX = 500,
	RECORD_ENV_MAX = 1000,
	RECORD_ARGS_MAX = 1000,
	RECORD_LABELS_MAX = 1000,
	RECORD_TEXT_MAX = 1 << 17, /* bytes of an argument or a label */
};

struct record {
	char (*layers)[65]; /* diff ids, topmost first */
	size_t nlayers;
	char **env; /* NAME=value */
	size_t nenv;
	char **entrypoint, **cmd; /* arguments, any bytes but NUL */
	size_t nentrypoint, ncmd;
	char **labels; /* KEY=value; a key holds no "=" */
	size_t nlabels;
	char *workdir, *user; /* NULL when absent */
	uint64_t bytes;       /* unpacked, 0 when unknown */
};

void record_clear(struct record *r);

/*
 * Additions check what they are given: an image's config is a stranger's. ERR_REQUEST when it
 * may not be recorded.
 */
int record_add_layer(struct record *r, const char *hex, struct err *e);
int record_add_env(struct record *r, const char *text, struct err *e);
int record_add_entrypoint(struct record *r, const char *text, struct err *e);
int record_add_cmd(struct record *r, const char *text, struct err *e);
int record_add_label(struct record *r, const char *text, struct err *e);
int record_set_workdir(struct record *r, const char *text, struct err *e);
int record_set_user(struct record *r, const char *text, struct err *e);

/* out is cleared first. ERR_SETUP with the line for a record that is damaged. */
int record_parse(struct record *out, const char *text, size_t n, struct err *e);

/* Appends the text form. Returns -1 when it grows past the bound of out. */
int record_format(const struct record *r, struct buf *out);

/* Whether text is NAME=value that may be put into a sandbox's environment. */
bool record_env_ok(const char *text);

#endif

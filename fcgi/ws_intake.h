/*
 * A client's archive on its way into a workspace: unpacked aside, into "new", so that a bad one
 * leaves the workspace as it was, and so that the form can be chosen by what came out. (A dry
 * pass over the archive would decompress it twice, and unpacking over a tenant's tree would meet
 * the tenant's links and modes.) All names are relative to the current directory, ws/.
 */
#ifndef CGIBOX_WS_INTAKE_H
#define CGIBOX_WS_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fcgi/workspace.h"
#include "isolate/buf.h"

struct ws_arrival {
	size_t name; /* place of the path in names */
	int64_t at;  /* of the contents in the raw file, -1: none */
};

struct ws_intake {
	bool plain; /* small enough for the plain form */
	uint64_t entries, bytes;
	int raw_fd; /* "new.raw": the contents of the regular files; owned */
	/* Plain only: every path of the archive, in its order. */
	struct buf names;
	struct ws_arrival *v;
	size_t n, cap;
	const struct ws_limits *lim; /* borrowed while unpacking */
};

/* Unpacks into "new" and "new.raw". On error both are removed. Tree helper. */
int ws_intake_run(struct ws_intake *in, int archive_fd, const struct ws_limits *lim, struct err *e);

/* Notes that path came, with its contents at this offset of the raw file, -1: none. Tree helper. */
int ws_intake_note(struct ws_intake *in, const char *path, int64_t at, struct err *e);

/* Sorts v by path and leaves the last arrival of each. Tree helper. */
void ws_intake_sort(struct ws_intake *in);

/* Frees memory and descriptor; removes what still lies in "new" and "new.raw". */
void ws_intake_clear(struct ws_intake *in);

#endif

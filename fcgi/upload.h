/* Bodies that are files: spooled to the disk of the state directory, never held in memory. Worker. */
#ifndef CGIBOX_UPLOAD_H
#define CGIBOX_UPLOAD_H

#include "fcgi/dialect.h"

struct upload {
	int fd; /* owned; -1: none */
	int64_t bytes;
	bool cut; /* the client went away after them */
};

/*
 * Reads the whole body of c into a spool. 0; -1: c's response is complete (413, 400, 500). keep_cut: what
 * came before the client went away is kept, and no error.
 */
int upload_body(struct dialect_call *c, bool keep_cut, struct upload *u);

/*
 * A part of a form. file is its spool (borrowed, at its start); the callback closes nothing. filename is ""
 * for a plain field. -1: c's response is complete, no more parts.
 */
typedef int upload_part_fn(struct dialect_call *c, void *arg, const char *name,
	const char *filename, int file, int64_t bytes);

/* Reads a form; fn is called for each part when that is whole. 0; -1: c's response is complete.
 * 1: the body is no form, and was not read. */
int upload_form(struct dialect_call *c, upload_part_fn *fn, void *arg);

void upload_close(struct upload *u);
#define OWN_UPLOAD __attribute__((cleanup(upload_close))) struct upload

/* A data descriptor for the answer of a file verb; -1 with c's response complete. */
int upload_spool(struct dialect_call *c);

#endif

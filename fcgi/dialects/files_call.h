/* What the dialects share of file verbs: asking, and answering for what went wrong. Runs in a worker. */
#ifndef CGIBOX_FILES_CALL_H
#define CGIBOX_FILES_CALL_H

#include "fcgi/dialect.h"
#include "fcgi/files.h"

/* One verb on the way; clear it with files_call_clear(). */
struct files_call {
	struct files_order o;
	struct buf texts;
	int data; /* owned; -1: one in memory is made, for answers that sandbox.conf keeps small */
	struct files_result r;
};
#define FILES_CALL(v)                                                                              \
	{                                                                                          \
		.o = {.verb = (v)}, .texts = BUF_INIT(FILES_TEXT_BYTES_MAX), .data = -1            \
	}

void files_call_clear(struct files_call *f);
#define OWN_FILES_CALL __attribute__((cleanup(files_call_clear))) struct files_call

void files_call_text(struct files_call *f, const char *s);

/* Asks; 0: f->r is filled, with any code. -1: c's response is complete (404, 409, 503, ...). */
int files_call(struct dialect_call *c, struct files_call *f);

/* The answers to a session that cannot be used, as all routes of a session give them. */
void files_refuse(struct dialect_call *c, const struct err *e, const char *doing);

/* The word for a code, "not_found" say. Pure. */
const char *files_code_name(uint32_t code);

#endif

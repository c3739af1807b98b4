/* The index's SQLite file: what each question of index.h means there. Only the program `index`. */
#ifndef CGIBOX_INDEX_DB_H
#define CGIBOX_INDEX_DB_H

#include "fcgi/index.h"
#include "isolate/buf.h"

struct index_db;

/*
 * Opens or makes the file at path. One that SQLite cannot read is moved aside as path.damaged with
 * a line in the log, and a new one is made: what it held is lost, the service goes on.
 */
struct index_db *index_db_open(const char *path, struct err *e);
void index_db_close(struct index_db *d); /* NULL is fine */

/*
 * Answers q, which came from another process and is checked. body: NULL, or n bytes. What GET and
 * LIST answer is added to out. The answer's version and total are set; bytes is out's length.
 */
int index_db_ask(struct index_db *d, const struct index_question *q, const char *body, size_t n,
	struct index_answer *a, struct buf *out, struct err *e);

#endif

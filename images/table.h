/* Rows of text: tab separated, or in columns. */
#ifndef CGIBOX_TABLE_H
#define CGIBOX_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "isolate/buf.h"

struct table {
	struct buf text; /* cells with a tab behind each, rows with a line feed */
};

#define TABLE_INIT ((struct table){BUF_INIT(64 << 20)})
static inline void table_clear(struct table *t)
{
	buf_clear(&t->text);
}
#define OWN_TABLE __attribute__((cleanup(table_clear))) struct table

/* Adds a cell; control bytes in it are shown as \xNN. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_row(struct table *t); /* ends the row */
/* The last column is never padded. Returns -1 when a cell found no memory. */
int table_print(const struct table *t, bool aligned, FILE *out);

/* Prints text with control bytes and backslashes as \xNN. */
void table_print_text(const char *text, FILE *out);

#endif

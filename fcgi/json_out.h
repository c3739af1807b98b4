/*
 * Writing JSON: compact separators, UTF-8 not escaped, as the original's answers. Strings may
 * be any bytes; what is not UTF-8 becomes U+FFFD. Errors collect in the buffer (buf_ok()).
 */
#ifndef CGIBOX_JSON_OUT_H
#define CGIBOX_JSON_OUT_H

#include <stddef.h>

#include "isolate/buf.h"

/* A quoted string. */
void json_out_string(struct buf *b, const void *p, size_t n);
void json_out_text(struct buf *b, const char *s);

/* The inside of a string, for one that is written in pieces; quotes are the caller's. */
void json_out_raw(struct buf *b, const void *p, size_t n);

/* {"detail":text} */
void json_out_detail(struct buf *b, const char *text);

#endif

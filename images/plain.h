/*
 * The plain bytes of an archive: at most one compression undone, gzip by gunzip.h, what else there
 * is by libarchive. What follows a compressed stream is not read. In the jail of a tree helper.
 */
#ifndef CGIBOX_PLAIN_H
#define CGIBOX_PLAIN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/err.h"

struct plain;

/*
 * Reads what is needed to know the form of fd, which is borrowed. NULL with e: ERR_REQUEST with
 * "Invalid or truncated archive: ..", ERR_LIMIT that names memory_limit (borrowed), ERR_SETUP.
 */
struct plain *plain_open(int fd, const char *memory_limit, struct err *e);
void plain_close(struct plain *s);

/* More bytes, as many as fit unless the end is near; 0 at the end, -1 with e as above. */
ssize_t plain_read(struct plain *s, void *p, size_t n, struct err *e);

/* Bytes of fd that have been used so far, without those that were only read ahead. */
uint64_t plain_packed(const struct plain *s);

/* From now on a read that waits for fd ends with ERR_SETUP as soon as stop (borrowed) is readable. */
void plain_stop_by(struct plain *s, int stop);

#endif

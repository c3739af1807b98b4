/*
 * An archive's plain bytes in blocks, which a second thread makes while the first one writes files.
 * The thread is started late, so that small archives do not pay for it, and where none can be had,
 * the blocks are made by the caller. In the jail of a tree helper, whose filter allows threads.
 */
#ifndef CGIBOX_AHEAD_H
#define CGIBOX_AHEAD_H

#include <stdint.h>
#include <sys/types.h>

#include "images/plain.h"
#include "isolate/err.h"

struct ahead;

/* Called with every byte, in order, by whoever makes the blocks. */
typedef void ahead_bytes_fn(void *arg, const void *p, size_t n);

/*
 * from is borrowed until ahead_free(), and nobody else reads it; so is what arg points at. bytes may
 * be NULL. NULL without memory.
 */
struct ahead *ahead_new(struct plain *from, ahead_bytes_fn *bytes, void *arg);

/*
 * The next block: its bytes, 0 at the end, -1 with the error of plain_read(). *p is valid until the
 * next call. packed: plain_packed() when the block was made.
 */
ssize_t ahead_next(struct ahead *a, const void **p, uint64_t *packed, struct err *e);

/* Ends the thread, wherever it waits. NULL is fine. */
void ahead_free(struct ahead *a);

enum {
	AHEAD_BLOCK_BYTES = 256 << 10,
	AHEAD_BLOCKS = 4,           /* one of them the consumer's */
	AHEAD_THREAD_FROM = 1 << 20 /* bytes that are made without a thread */
};

#endif

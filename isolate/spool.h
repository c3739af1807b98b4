/*
 * The kept output of one run: a file that pid 1 writes and that any number of processes read at
 * the same time, each from any offset, without a lock and without asking anybody.
 *
 *	head	one page, mapped: how far it is written, where what is kept begins, and the result
 *	marks	a ring of numbers, offset << 2 | stream: where the stream changes
 *	data	a ring: byte N of the output lies at N % head.ring
 *
 * The writer says what it will overwrite before it does (head.start), and what it has written after
 * it did (head.written). A reader looks at head.start once more when it has read: what was
 * overwritten meanwhile is then reported as expired, never handed out.
 */
#ifndef CGIBOX_SPOOL_H
#define CGIBOX_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/err.h"
#include "isolate/result.h"

enum {
	SPOOL_MAGIC = 0x63677331,
	SPOOL_HEAD = 4096,
	SPOOL_MARKS = 65536, /* changes of stream that are kept: 512 KiB at most */
	SPOOL_DATA = SPOOL_HEAD + SPOOL_MARKS * 8,
	SPOOL_RING_MIN = 4096,
};

enum spool_stream { SPOOL_OUTPUT, SPOOL_STDOUT, SPOOL_STDERR };

struct spool_head {
	uint32_t magic;
	uint32_t ended; /* the last to be written */
	uint64_t ring;  /* bytes of data kept at most */
	uint64_t written, start, nmarks;
	int64_t begun_us, ended_us; /* since the epoch */
	struct result result;
	struct err err; /* ERR_NONE, or why it could not be started */
};

struct spool {
	int fd; /* borrowed; -1 = none */
	struct spool_head *head;
};

#define SPOOL_NONE ((struct spool){.fd = -1})

struct spool_state {
	uint64_t start, written; /* bytes of the output that are kept: from start to written */
	bool ended;
};

/* Makes an empty file a spool that keeps the last `ring` bytes. Keeper. */
int spool_format(int fd, uint64_t ring, struct err *e);

/* Maps the head of fd, which must stay open. ERR_SETUP also for a file that is no spool. Any process. */
int spool_open(struct spool *s, int fd, bool write, struct err *e);
void spool_close(struct spool *s);

/* Appends n bytes. What cannot be written (a full disk) counts as written and expired. Pid 1. */
void spool_write(struct spool *s, enum spool_stream stream, const void *p, size_t n);

/* Forgets what was written: the output begins now. Nobody may be reading it yet. Pid 1. */
void spool_restart(struct spool *s);

/* The last word, once: what became of the run, or why it could not be started. Pid 1; when that is
 * gone, the keeper. */
void spool_end(struct spool *s, const struct result *r, const struct err *why);

void spool_look(const struct spool *s, struct spool_state *out);

/* Whether the run has ended; then *r and *why are filled. */
bool spool_result(const struct spool *s, struct result *r, struct err *why);

/*
 * Reads up to n bytes from offset `at`, all of one stream, which it stores. 0: nothing is there (yet).
 * -1 with errno ERANGE: expired, *first is the first byte kept; any other: the file cannot be read.
 */
ssize_t spool_read(const struct spool *s, uint64_t at, void *to, size_t n,
	enum spool_stream *stream, uint64_t *first);

#endif

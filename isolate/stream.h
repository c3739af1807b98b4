/*
 * The words between a container's pid 1 and its relay, where no descriptor can be passed: frames over one
 * stream of bytes, in this machine's byte order, for both ends run on it. What pid 1 says is hostile: it
 * lives among the tenant's processes. Pure functions; the caller reads and writes.
 *
 * Each direction has one bound: the other end always takes what is of control, and data only as far
 * as it has said that there is room (INPUT, by CREDIT) or as it reads (OUT, ERR: the relay always does).
 */
#ifndef CGIBOX_STREAM_H
#define CGIBOX_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STREAM_MAGIC = 0x7363,
	STREAM_DATA_MAX = 32768, /* bytes of one frame */
	STREAM_BUF = 131072,     /* of a buffer on either side */
	STREAM_WINDOW = 16384,   /* bytes of a run's input that pid 1 holds before it takes more */
	STREAM_PIPE = 4096,      /* of a pipe that only leads to the window */
	STREAM_RESERVE = 16384,  /* of a buffer is left for control while data is put in */
};

enum stream_type {
	/* to pid 1 */
	STREAM_BLOB = 1, /* bytes of the plan or the command that the next CLAIM or EXEC is about */
	STREAM_CLAIM,    /* the plan is complete; once, first. Answer: REPLY with READY or FAILED */
	STREAM_EXEC,     /* struct proto_request: flags SHELL, TREE, MERGE */
	STREAM_INPUT,    /* of a run */
	STREAM_EOF,      /* its input ends */
	STREAM_SIGNAL,   /* uint32_t: to its process group */
	STREAM_END,      /* uint32_t, a verdict: the run and its descendants end */
	STREAM_KILL,     /* the same: everything ends; run: the one that is the cause, 0 = none.
			  * Answer: REPLY with QUIET after what is told of runs */
	/* from pid 1 */
	STREAM_REPLY, /* struct proto_reply: READY, FAILED, STARTED, DONE (after its output), QUIET */
	STREAM_OUT,   /* output of a run */
	STREAM_ERR,   /* its standard error, unless MERGE */
	STREAM_CREDIT, /* uint32_t: so many bytes of its input are taken */
	STREAM_TYPES
};

struct stream_head {
	uint16_t magic, type;
	uint32_t run, bytes;
};

struct stream_frame {
	enum stream_type type;
	uint32_t run, bytes;
	const char *data; /* in the buffer, until it is fed again */
};

/* What was read and not taken, or is to be written. All zero: empty. */
struct stream_buf {
	size_t from, to;
	char p[STREAM_BUF];
};

/* Where the next bytes may be put, and how many at most; then stream_fed(). */
char *stream_space(struct stream_buf *b, size_t *room);
void stream_fed(struct stream_buf *b, size_t n);

/* Takes the next frame of those that `upwards` (from pid 1) or not: 1; 0: more bytes are wanted; -1: this is
 * no frame, or of a length that its type never has. */
int stream_next(struct stream_buf *b, bool upwards, struct stream_frame *out);

/* Bytes that can be put in. */
size_t stream_room(const struct stream_buf *b);

/* Appends a frame; false: there is no room for it, nothing was put in. */
bool stream_put(
	struct stream_buf *b, enum stream_type type, uint32_t run, const void *data, size_t n);

/* What is to be written, and stream_wrote() what was. */
static inline const char *stream_pending(const struct stream_buf *b, size_t *n)
{
	*n = b->to - b->from;
	return b->p + b->from;
}
void stream_wrote(struct stream_buf *b, size_t n);

#endif

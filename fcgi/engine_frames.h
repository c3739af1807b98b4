/*
 * The stream of an attached container as the Engine sends it: frames of one byte that names a stream, three
 * of nothing, four of length (big-endian), and so many bytes (Docker Engine API, "Attach to a container",
 * stream format). Pure; used by the relay.
 */
#ifndef CGIBOX_ENGINE_FRAMES_H
#define CGIBOX_ENGINE_FRAMES_H

#include <stddef.h>
#include <stdint.h>

enum {
	ENGINE_FRAME_MAX = 1 << 20,  /* bytes; an Engine sends 32 KiB at once */
	ENGINE_STDERR_MAX = 1 << 16, /* pid 1 writes none: what a runtime says when it fails */
};

/* All zero: at the beginning of a frame. */
struct engine_frames {
	unsigned char head[8];
	uint32_t have, left; /* bytes of the head; of the frame, still to come */
	uint32_t other;      /* bytes of the standard error so far */
};

/*
 * Takes up to n bytes of `in` apart: what belongs to the standard output goes to `out`, which has room for n
 * bytes. Returns how many went there; -1: no such stream, or a length over the limit: nothing that follows
 * can be understood.
 */
long engine_frames_take(struct engine_frames *f, const char *in, size_t n, char *out);

#endif

#include "fcgi/engine_frames.h"

#include <string.h>

enum { STREAM_STDOUT = 1, STREAM_STDERR = 2 };

/* -1: no head of a frame. */
static int read_head(struct engine_frames *f)
{
	const unsigned char *h = f->head;

	f->left = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7];
	if ((h[0] != STREAM_STDOUT && h[0] != STREAM_STDERR) || h[1] || h[2] || h[3] ||
		f->left > ENGINE_FRAME_MAX)
		return -1;
	if (h[0] == STREAM_STDERR)
		f->other += f->left;
	if (f->left == 0)
		f->have = 0;
	return f->other > ENGINE_STDERR_MAX ? -1 : 0;
}

long engine_frames_take(struct engine_frames *f, const char *in, size_t n, char *out)
{
	size_t at = 0, done = 0, part;

	while (at < n) {
		if (f->have < sizeof f->head) {
			f->head[f->have++] = (unsigned char)in[at++];
			if (f->have == sizeof f->head && read_head(f) < 0)
				return -1;
			continue;
		}
		part = n - at < f->left ? n - at : f->left;
		if (f->head[0] == STREAM_STDOUT) {
			memcpy(out + done, in + at, part);
			done += part;
		}
		at += part;
		f->left -= (uint32_t)part;
		if (f->left == 0)
			f->have = 0;
	}
	return (long)done;
}

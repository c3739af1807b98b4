/* What a hostile container sends to its relay: an Engine's frames, and in them those of pid 1. However it is
 * cut, the same comes out, and nothing is longer than its kind may be. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/engine_frames.h"
#include "isolate/proto.h"
#include "isolate/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct seen {
	unsigned frames, broken;
	uint64_t sum;
};

static void look(struct stream_buf *b, struct seen *s)
{
	struct stream_frame f;
	int got = 0;

	while (!s->broken && (got = stream_next(b, true, &f)) > 0) {
		if (f.type < STREAM_REPLY || f.type >= STREAM_TYPES || f.bytes > STREAM_DATA_MAX ||
			(f.type == STREAM_REPLY && f.bytes != sizeof(struct proto_reply)))
			abort();
		s->frames++;
		s->sum += f.run;
		for (uint32_t i = 0; i < f.bytes; i++)
			s->sum = s->sum * 31 + (unsigned char)f.data[i];
	}
	s->broken |= got < 0;
}

static struct seen feed(const uint8_t *p, size_t n, size_t step)
{
	static struct stream_buf b;
	struct engine_frames f = {.have = 0};
	struct seen s = {0};

	memset(&b, 0, sizeof b);
	for (size_t at = 0; at < n && !s.broken; at += step) {
		size_t room, part = n - at < step ? n - at : step;
		char *to = stream_space(&b, &room);
		long got;

		if (room < part)
			abort(); /* what is left is less than a frame */
		got = engine_frames_take(&f, (const char *)p + at, part, to);
		if (got < 0) {
			s.broken = 1;
			break;
		}
		if ((size_t)got > part)
			abort();
		stream_fed(&b, (size_t)got);
		look(&b, &s);
	}
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct seen whole, cut;

	if (n > 60000)
		return 0;
	whole = feed(p, n, 60000);
	cut = feed(p, n, 1 + n / 7);
	/* a broken frame ends it: how much of what was before came out with it differs */
	if (!whole.broken && (cut.broken || whole.frames != cut.frames || whole.sum != cut.sum))
		abort();
	return 0;
}

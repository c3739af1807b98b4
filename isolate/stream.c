#include "isolate/stream.h"

#include <string.h>

#include "isolate/proto.h"

_Static_assert(sizeof(struct stream_head) == 12, "no padding goes out");

static void close_up(struct stream_buf *b)
{
	if (b->from == 0)
		return;
	memmove(b->p, b->p + b->from, b->to - b->from);
	b->to -= b->from;
	b->from = 0;
}

char *stream_space(struct stream_buf *b, size_t *room)
{
	close_up(b);
	*room = sizeof b->p - b->to;
	return b->p + b->to;
}

void stream_fed(struct stream_buf *b, size_t n)
{
	b->to += n;
}

/* The only length that a type has; SIZE_MAX: any up to STREAM_DATA_MAX. */
static size_t length_of(unsigned type)
{
	switch (type) {
	case STREAM_CLAIM:
	case STREAM_EOF:
		return 0;
	case STREAM_EXEC:
		return sizeof(struct proto_request);
	case STREAM_REPLY:
		return sizeof(struct proto_reply);
	case STREAM_SIGNAL:
	case STREAM_END:
	case STREAM_KILL:
	case STREAM_CREDIT:
		return sizeof(uint32_t);
	default:
		return SIZE_MAX;
	}
}

static bool head_good(const struct stream_head *h, bool upwards)
{
	size_t want = length_of(h->type);

	if (h->magic != STREAM_MAGIC || h->type < STREAM_BLOB || h->type >= STREAM_TYPES ||
		(h->type >= STREAM_REPLY) != upwards)
		return false;
	return want == SIZE_MAX ? h->bytes > 0 && h->bytes <= STREAM_DATA_MAX : h->bytes == want;
}

int stream_next(struct stream_buf *b, bool upwards, struct stream_frame *out)
{
	struct stream_head h;

	if (b->to - b->from < sizeof h)
		return 0;
	memcpy(&h, b->p + b->from, sizeof h);
	if (!head_good(&h, upwards))
		return -1;
	if (b->to - b->from - sizeof h < h.bytes)
		return 0;
	*out = (struct stream_frame){.type = (enum stream_type)h.type,
		.run = h.run,
		.bytes = h.bytes,
		.data = b->p + b->from + sizeof h};
	b->from += sizeof h + h.bytes;
	return 1;
}

size_t stream_room(const struct stream_buf *b)
{
	return sizeof b->p - (b->to - b->from);
}

bool stream_put(
	struct stream_buf *b, enum stream_type type, uint32_t run, const void *data, size_t n)
{
	struct stream_head h = {
		.magic = STREAM_MAGIC, .type = (uint16_t)type, .run = run, .bytes = (uint32_t)n};

	if (n > STREAM_DATA_MAX || stream_room(b) < sizeof h + n)
		return false;
	close_up(b);
	memcpy(b->p + b->to, &h, sizeof h);
	if (n > 0)
		memcpy(b->p + b->to + sizeof h, data, n);
	b->to += sizeof h + n;
	return true;
}

void stream_wrote(struct stream_buf *b, size_t n)
{
	b->from += n;
	if (b->from == b->to)
		b->from = b->to = 0;
}

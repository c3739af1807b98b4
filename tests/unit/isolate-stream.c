/* Frames between a container's pid 1 and its relay: whatever comes, in whatever pieces. */
#include <string.h>

#include "isolate/own.h"
#include "isolate/proto.h"
#include "isolate/stream.h"
#include "tests/unit/tap.h"

static struct stream_buf a, b;

/* Moves what is pending in a to b, n bytes at a time. */
static void carry(size_t n)
{
	size_t pending, room;
	const char *p = stream_pending(&a, &pending);
	char *to = stream_space(&b, &room);

	n = n < pending ? n : pending;
	n = n < room ? n : room;
	memcpy(to, p, n);
	stream_fed(&b, n);
	stream_wrote(&a, n);
}

static void reset(void)
{
	memset(&a, 0, sizeof a);
	memset(&b, 0, sizeof b);
}

static void test_pieces(void)
{
	struct proto_reply rp = {.op = PROTO_DONE, .run = 7};
	struct stream_frame f;
	unsigned early = 0;

	reset();
	ok(stream_put(&a, STREAM_REPLY, 7, &rp, sizeof rp) &&
			stream_put(&a, STREAM_OUT, 8, "xy", 2),
		"two frames");
	for (size_t n = 0; n < sizeof(struct stream_head) + sizeof rp - 1; n++) {
		carry(1);
		early += stream_next(&b, true, &f) != 0;
	}
	ok(early == 0, "none before its last byte");
	carry(1);
	ok(stream_next(&b, true, &f) == 1 && f.type == STREAM_REPLY && f.run == 7 &&
			!memcmp(f.data, &rp, sizeof rp),
		"then it is whole");
	carry(100);
	ok(stream_next(&b, true, &f) == 1 && f.type == STREAM_OUT && f.run == 8 && f.bytes == 2 &&
			!memcmp(f.data, "xy", 2),
		"and the next");
	ok(stream_next(&b, true, &f) == 0, "and no more");
}

static int parsed(unsigned magic, unsigned type, uint32_t bytes, bool upwards)
{
	struct stream_head h = {
		.magic = (uint16_t)magic, .type = (uint16_t)type, .run = 1, .bytes = bytes};
	struct stream_frame f;
	size_t room;

	reset();
	memcpy(stream_space(&b, &room), &h, sizeof h);
	stream_fed(&b, sizeof h);
	return stream_next(&b, upwards, &f);
}

static void test_hostile(void)
{
	ok(parsed(STREAM_MAGIC, STREAM_OUT, STREAM_DATA_MAX, true) == 0, "control: the longest");
	ok(parsed(STREAM_MAGIC, STREAM_OUT, STREAM_DATA_MAX + 1, true) < 0, "one byte more");
	ok(parsed(STREAM_MAGIC, STREAM_OUT, UINT32_MAX, true) < 0, "4 GiB");
	ok(parsed(STREAM_MAGIC, STREAM_OUT, 0, true) < 0, "nothing");
	ok(parsed(STREAM_MAGIC, STREAM_REPLY, sizeof(struct proto_reply), true) == 0,
		"control: a reply");
	ok(parsed(STREAM_MAGIC, STREAM_REPLY, sizeof(struct proto_reply) - 1, true) < 0,
		"a short reply");
	ok(parsed(STREAM_MAGIC, STREAM_REPLY, sizeof(struct proto_reply) + 1, true) < 0,
		"a long one");
	ok(parsed(STREAM_MAGIC, STREAM_CREDIT, 3, true) < 0, "three bytes of a number");
	ok(parsed(STREAM_MAGIC ^ 1, STREAM_OUT, 1, true) < 0, "another magic");
	ok(parsed(STREAM_MAGIC, 0, 1, true) < 0 && parsed(STREAM_MAGIC, STREAM_TYPES, 1, true) < 0,
		"types that there are not");
	ok(parsed(STREAM_MAGIC, STREAM_BLOB, 1, true) < 0, "what only the relay says");
	ok(parsed(STREAM_MAGIC, STREAM_BLOB, 1, false) == 0, "control: it does");
	ok(parsed(STREAM_MAGIC, STREAM_OUT, 1, false) < 0, "what only pid 1 says");
}

static void test_room(void)
{
	static char data[STREAM_DATA_MAX + 1];
	unsigned n = 0;

	reset();
	ok(!stream_put(&a, STREAM_OUT, 1, data, sizeof data), "more than a frame holds");
	while (stream_put(&a, STREAM_OUT, 1, data, STREAM_DATA_MAX))
		n++;
	ok(n == STREAM_BUF / (STREAM_DATA_MAX + sizeof(struct stream_head)), "as many as fit (%u)",
		n);
	carry(STREAM_DATA_MAX + sizeof(struct stream_head));
	ok(stream_put(&a, STREAM_OUT, 1, data, STREAM_DATA_MAX), "what was written makes room");
	ok(!stream_put(&a, STREAM_OUT, 1, data, STREAM_DATA_MAX), "for one");
}

int main(void)
{
	test_pieces();
	test_hostile();
	test_room();
	return done();
}

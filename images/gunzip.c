#include "images/gunzip.h"

#include <stdlib.h>

enum {
	HEAD_BYTES = 10,
	TRAILER_BYTES = 8,
	MAGIC1 = 0x1f,
	MAGIC2 = 0x8b,
	METHOD_DEFLATE = 8,
	/* flags */
	HAS_HCRC = 0x02,
	HAS_EXTRA = 0x04,
	HAS_NAME = 0x08,
	HAS_COMMENT = 0x10,
	RESERVED = 0xe0
};

/* Parts of a member, in their order. */
enum part {
	PART_HEAD,
	PART_EXTRA_LENGTH,
	PART_EXTRA,
	PART_NAME,
	PART_COMMENT,
	PART_HCRC,
	PART_BODY,
	PART_TRAILER,
	PART_NONE, /* what follows is no member */
	PART_BAD
};

struct gunzip {
	struct inflate *body;
	const char *why; /* PART_BAD */
	enum part part;
	uint8_t field[HEAD_BYTES]; /* of the current part */
	size_t got;                /* bytes of it */
	size_t extra;              /* bytes to come of PART_EXTRA */
	uint8_t flags;
	uint32_t head_crc, crc,
		size;     /* of the header, and of the contents as the trailer has them */
	uint64_t members; /* that ended well */
};

struct gunzip *gunzip_new(void)
{
	struct gunzip *g = calloc(1, sizeof *g);

	if (g)
		g->body = inflate_new();
	if (g && !g->body) {
		free(g);
		return NULL;
	}
	return g;
}

void gunzip_free(struct gunzip *g)
{
	if (g)
		inflate_free(g->body);
	free(g);
}

static void bad(struct gunzip *g, const char *why)
{
	g->part = PART_BAD;
	g->why = why;
}

static uint32_t little_endian(const uint8_t *p, size_t n)
{
	uint32_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static bool has_part(const struct gunzip *g)
{
	switch (g->part) {
	case PART_EXTRA_LENGTH:
		return g->flags & HAS_EXTRA;
	case PART_EXTRA:
		return g->flags & HAS_EXTRA && g->extra > 0;
	case PART_NAME:
		return g->flags & HAS_NAME;
	case PART_COMMENT:
		return g->flags & HAS_COMMENT;
	case PART_HCRC:
		return g->flags & HAS_HCRC;
	default:
		return true;
	}
}

/* From the part that ended to the next one that this member has. */
static void next_part(struct gunzip *g)
{
	g->got = 0;
	do {
		g->part++;
	} while (!has_part(g));
}

static void check_head(struct gunzip *g)
{
	uint8_t c = g->field[g->got - 1];

	if ((g->got == 1 && c != MAGIC1) || (g->got == 2 && c != MAGIC2)) {
		if (g->members)
			g->part = PART_NONE;
		else
			bad(g, "not in gzip format");
	} else if (g->got == 3 && c != METHOD_DEFLATE) {
		bad(g, "a gzip member has an unknown method");
	} else if (g->got == 4 && c & RESERVED) {
		bad(g, "a gzip member has unknown flags");
	} else if (g->got == HEAD_BYTES) {
		g->flags = g->field[3];
		next_part(g);
	}
}

static void end_member(struct gunzip *g)
{
	if (little_endian(g->field, 4) != g->crc) {
		bad(g, "the checksum of a gzip member is wrong");
	} else if (little_endian(g->field + 4, 4) != g->size) {
		bad(g, "the size of a gzip member is wrong");
	} else {
		inflate_reset(g->body);
		g->members++;
		g->part = PART_HEAD;
		g->got = 0;
		g->head_crc = g->crc = g->size = 0;
	}
}

/* One byte of anything but the body. */
static void take_byte(struct gunzip *g, uint8_t c)
{
	if (g->part < PART_HCRC)
		g->head_crc = inflate_crc(g->head_crc, &c, 1);
	switch (g->part) {
	case PART_HEAD:
		g->field[g->got++] = c;
		check_head(g);
		break;
	case PART_EXTRA_LENGTH:
		g->field[g->got++] = c;
		g->extra = little_endian(g->field, 2);
		if (g->got == 2)
			next_part(g);
		break;
	case PART_EXTRA:
		if (--g->extra == 0)
			next_part(g);
		break;
	case PART_NAME:
	case PART_COMMENT:
		if (c == '\0')
			next_part(g);
		break;
	case PART_HCRC:
		g->field[g->got++] = c;
		if (g->got < 2)
			break;
		if (little_endian(g->field, 2) != (g->head_crc & 0xffff))
			bad(g, "the checksum of a gzip member's header is wrong");
		else
			next_part(g);
		break;
	case PART_TRAILER:
		g->field[g->got++] = c;
		if (g->got == TRAILER_BYTES)
			end_member(g);
		break;
	case PART_BODY:
	case PART_NONE:
	case PART_BAD:
		break;
	}
}

static enum inflated run_body(struct gunzip *g, struct inflate_io *io)
{
	uint8_t *from = io->out, rest[INFLATE_REST_MAX];
	enum inflated r = inflate_run(g->body, io);
	size_t n;

	g->crc = inflate_crc(g->crc, from, (size_t)(io->out - from));
	g->size += (uint32_t)(io->out - from);
	if (r == INFLATE_BAD)
		bad(g, "damaged gzip data");
	if (r != INFLATE_END)
		return r;
	next_part(g);
	n = inflate_rest(g->body, rest); /* no more than the trailer's bytes */
	for (size_t i = 0; i < n; i++)
		take_byte(g, rest[i]);
	return INFLATE_MORE;
}

enum inflated gunzip_run(struct gunzip *g, struct inflate_io *io)
{
	enum inflated r;

	for (;;) {
		if (g->part == PART_BAD)
			return INFLATE_BAD;
		if (g->part == PART_NONE)
			return INFLATE_END;
		if (g->part == PART_BODY) {
			r = run_body(g, io);
			if (g->part == PART_BODY)
				return r;
		} else if (io->in_n == 0) {
			return INFLATE_MORE;
		} else {
			take_byte(g, *io->in);
			io->in += g->part != PART_NONE;
			io->in_n -= g->part != PART_NONE;
		}
	}
}

bool gunzip_whole(const struct gunzip *g)
{
	return g->members > 0 && (g->part == PART_NONE || (g->part == PART_HEAD && g->got < 2));
}

const char *gunzip_why(const struct gunzip *g)
{
	return g->part == PART_BAD ? g->why : "truncated gzip data";
}

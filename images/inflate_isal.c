#include "images/inflate.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>

enum { PIECE_MAX = 1 << 30 }; /* the library counts in 32 bits */

struct inflate {
	struct inflate_state state;
};

struct inflate *inflate_new(void)
{
	struct inflate *f = malloc(sizeof *f);

	if (f)
		isal_inflate_init(&f->state);
	return f;
}

void inflate_free(struct inflate *f)
{
	free(f);
}

void inflate_reset(struct inflate *f)
{
	isal_inflate_reset(&f->state);
}

static uint32_t piece(size_t n)
{
	return n > PIECE_MAX ? PIECE_MAX : (uint32_t)n;
}

enum inflated inflate_run(struct inflate *f, struct inflate_io *io)
{
	struct inflate_state *s = &f->state;
	uint32_t in_n = piece(io->in_n), out_n = piece(io->out_n);
	int r;

	s->next_in = (uint8_t *)io->in; /* which it only reads */
	s->avail_in = in_n;
	s->next_out = io->out;
	s->avail_out = out_n;
	r = isal_inflate(s);
	io->in += in_n - s->avail_in;
	io->in_n -= in_n - s->avail_in;
	io->out += out_n - s->avail_out;
	io->out_n -= out_n - s->avail_out;
	if (r != ISAL_DECOMP_OK)
		return INFLATE_BAD;
	if (s->block_state == ISAL_BLOCK_FINISH)
		return INFLATE_END;
	return io->out_n == 0 ? INFLATE_FULL : INFLATE_MORE;
}

size_t inflate_rest(const struct inflate *f, uint8_t rest[INFLATE_REST_MAX])
{
	int bits = f->state.read_in_length;
	uint64_t held = f->state.read_in >> (bits % 8); /* the last byte of the stream is padded */
	size_t n = bits > 0 ? (size_t)bits / 8 : 0;

	for (size_t i = 0; i < n; i++)
		rest[i] = (uint8_t)(held >> 8 * i);
	return n;
}

uint32_t inflate_crc(uint32_t crc, const void *p, size_t n)
{
	return crc32_gzip_refl(crc, p, n);
}

#include "images/inflate.h"

#include <stdlib.h>
#include <zlib.h>

enum { PIECE_MAX = 1 << 30 /* the library counts in 32 bits */, RAW_WINDOW = -15 };

struct inflate {
	z_stream z;
};

struct inflate *inflate_new(void)
{
	struct inflate *f = calloc(1, sizeof *f);

	if (f && inflateInit2(&f->z, RAW_WINDOW) != Z_OK) {
		free(f);
		return NULL;
	}
	return f;
}

void inflate_free(struct inflate *f)
{
	if (f)
		inflateEnd(&f->z);
	free(f);
}

void inflate_reset(struct inflate *f)
{
	inflateReset(&f->z);
}

static uInt piece(size_t n)
{
	return n > PIECE_MAX ? PIECE_MAX : (uInt)n;
}

enum inflated inflate_run(struct inflate *f, struct inflate_io *io)
{
	uInt in_n = piece(io->in_n), out_n = piece(io->out_n);
	int r;

	f->z.next_in = (Bytef *)io->in; /* which it only reads */
	f->z.avail_in = in_n;
	f->z.next_out = io->out;
	f->z.avail_out = out_n;
	r = inflate(&f->z, Z_NO_FLUSH);
	io->in += in_n - f->z.avail_in;
	io->in_n -= in_n - f->z.avail_in;
	io->out += out_n - f->z.avail_out;
	io->out_n -= out_n - f->z.avail_out;
	if (r == Z_STREAM_END)
		return INFLATE_END;
	if (r != Z_OK && r != Z_BUF_ERROR) /* the latter: nothing to read, or no room */
		return INFLATE_BAD;
	return io->out_n == 0 ? INFLATE_FULL : INFLATE_MORE;
}

size_t inflate_rest(const struct inflate *f, uint8_t rest[INFLATE_REST_MAX])
{
	(void)f;
	(void)rest;
	return 0;
}

uint32_t inflate_crc(uint32_t crc, const void *p, size_t n)
{
	const Bytef *at = p;

	for (uInt part; n; at += part, n -= part) {
		part = piece(n);
		crc = (uint32_t)crc32(crc, at, part);
	}
	return crc;
}

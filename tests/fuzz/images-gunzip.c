/*
 * gunzip.h against zlib: both must take the same, and make the same of it. One difference is none: zlib takes
 * no set of Huffman codes with codes to spare, ISA-L does, and RFC 1951 does not say. zlib's words are the same
 * for a set with too many; size and checksum of what is taken are right in any case. The first byte says how
 * large the pieces are (bits 0 to 5), and whether what follows is a gzip file or a deflate stream, which gets a
 * header and the right trailer, so that a checksum does not stand before everything.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "images/gunzip.h"
#include "isolate/buf.h"

enum { PLAIN_MAX = 1 << 16 };

static bool about_codes(const char *why)
{
	return why && (!strcmp(why, "invalid code lengths set") ||
			      !strcmp(why, "invalid literal/lengths set") ||
			      !strcmp(why, "invalid distances set"));
}

/* All members, as long as there is room. true: the input is whole members and then what is none. strict: it is
 * not, for a set of codes. */
static bool by_zlib(const uint8_t *p, size_t n, struct buf *out, bool *strict)
{
	z_stream z = {.next_in = (Bytef *)p, .avail_in = (uInt)n};
	bool first = true;
	int r = Z_OK;

	if (inflateInit2(&z, 15 + 16) != Z_OK)
		abort();
	while (out->len < PLAIN_MAX) {
		if (z.avail_in < 2 || z.next_in[0] != 0x1f || z.next_in[1] != 0x8b)
			break;
		do {
			size_t room = PLAIN_MAX - out->len;

			z.next_out = (Bytef *)buf_room(out, room + 1);
			z.avail_out = (uInt)room;
			r = inflate(&z, Z_NO_FLUSH);
			out->len += room - z.avail_out;
		} while (r == Z_OK && z.avail_in && out->len < PLAIN_MAX);
		if (r != Z_STREAM_END)
			break;
		first = false;
		inflateReset(&z);
	}
	*strict = r == Z_DATA_ERROR && about_codes(z.msg);
	inflateEnd(&z);
	return !first && r == Z_STREAM_END && out->len < PLAIN_MAX;
}

static bool by_us(const uint8_t *p, size_t n, size_t in_n, size_t out_n, struct buf *out)
{
	struct gunzip *g = gunzip_new();
	struct inflate_io io = {.in = p};
	enum inflated r = INFLATE_MORE;
	bool whole;

	while (out->len < PLAIN_MAX &&
		(r == INFLATE_FULL || (r == INFLATE_MORE && (n || io.in_n)))) {
		if (r == INFLATE_MORE && io.in_n == 0) {
			io.in_n = n < in_n ? n : in_n;
			n -= io.in_n;
		}
		io.out = (uint8_t *)buf_room(out, out_n);
		io.out_n = out_n;
		r = gunzip_run(g, &io);
		out->len += out_n - io.out_n;
	}
	whole = r == INFLATE_END || (r == INFLATE_MORE && gunzip_whole(g));
	gunzip_free(g);
	return whole && out->len < PLAIN_MAX;
}

/* Makes a member of a stream that zlib takes. */
static void wrap(const uint8_t *p, size_t n, struct buf *out)
{
	struct buf plain = BUF_INIT(4 * PLAIN_MAX);
	z_stream z = {.next_in = (Bytef *)p, .avail_in = (uInt)n};
	uint32_t tail[2];
	int r;

	if (inflateInit2(&z, -15) != Z_OK)
		abort();
	z.next_out = (Bytef *)buf_room(&plain, PLAIN_MAX);
	z.avail_out = PLAIN_MAX;
	r = inflate(&z, Z_FINISH);
	tail[0] = (uint32_t)crc32(0, (const Bytef *)plain.p, PLAIN_MAX - z.avail_out);
	tail[1] = PLAIN_MAX - z.avail_out;
	buf_add(out, "\x1f\x8b\x08\0\0\0\0\0\0\3", 10);
	buf_add(out, p, n - z.avail_in);
	buf_add(out, tail, sizeof tail);
	if (r == Z_STREAM_END)
		buf_add(out, z.next_in, z.avail_in);
	inflateEnd(&z);
	buf_clear(&plain);
}

static void compare(const uint8_t *p, size_t n, size_t in_n, size_t out_n)
{
	struct buf theirs = BUF_INIT(4 * PLAIN_MAX), ours = BUF_INIT(4 * PLAIN_MAX);
	bool strict, good = by_zlib(p, n, &theirs, &strict), same = by_us(p, n, in_n, out_n, &ours);

	if (good != same && !strict)
		abort();
	if (good &&
		(ours.len != theirs.len || (ours.len && memcmp(ours.p, theirs.p, ours.len) != 0)))
		abort();
	buf_clear(&theirs);
	buf_clear(&ours);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const size_t sizes[] = {1, 2, 3, 7, 17, 64, 300, 65536};
	struct buf wrapped = BUF_INIT(4 << 20);
	uint8_t how;

	if (n < 2)
		return 0;
	how = *p++;
	n--;
	if (how & 0x40) {
		wrap(p, n, &wrapped);
		p = (const uint8_t *)wrapped.p;
		n = wrapped.len;
	}
	compare(p, n, n, PLAIN_MAX);
	compare(p, n, sizes[how & 7], sizes[how >> 3 & 7]);
	buf_clear(&wrapped);
	return 0;
}

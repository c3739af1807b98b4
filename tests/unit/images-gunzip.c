/* gunzip.h piece by piece, against zlib: members, headers, and everything that may be wrong. */
#include "images/gunzip.h"

#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "isolate/buf.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

enum { PLAIN_MAX = 1 << 20 };

static char plain[PLAIN_MAX]; /* something like text */

static void fill_plain(void)
{
	unsigned x = 1;

	for (size_t i = 0; i < sizeof plain; i++) {
		x = x * 1103515245 + 12345;
		plain[i] =
			(char)("etaoin shrdlu\n"[x >> 16 & 7] + (i % 4096 < 64 ? x >> 24 & 1 : 0));
	}
}

/* Adds the first n bytes of plain as a member with the header h, whose flags say what it holds. */
static void put_member(struct buf *b, const void *h, size_t hn, size_t n, int level)
{
	z_stream z = {0};
	uLong room;
	uint32_t tail[2] = {(uint32_t)crc32(0, (const Bytef *)plain, (uInt)n), (uint32_t)n};

	buf_add(b, h, hn);
	if (deflateInit2(&z, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	room = deflateBound(&z, n);
	z.next_out = (Bytef *)buf_room(b, room);
	z.avail_out = (uInt)room;
	z.next_in = (Bytef *)plain;
	z.avail_in = (uInt)n;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	b->len += room - z.avail_out;
	deflateEnd(&z);
	buf_add(b, tail, sizeof tail); /* little-endian machines only, as the other tests */
}

static const char short_head[10] = "\x1f\x8b\x08\0\0\0\0\0\0\3";

static void put(struct buf *b, size_t n)
{
	put_member(b, short_head, sizeof short_head, n, 6);
}

static struct buf out; /* of run() */

/*
 * Feeds the bytes in pieces of in_n and takes them in pieces of out_n. INFLATE_MORE: cut off,
 * INFLATE_END: whole. *why then says what gunzip_why() does.
 */
static enum inflated run(
	const struct buf *b, size_t in_n, size_t out_n, const char **why, size_t *rest)
{
	struct gunzip *g = gunzip_new();
	struct inflate_io io = {.in = (const uint8_t *)b->p};
	enum inflated r = INFLATE_MORE;
	size_t left = b->len;

	buf_clear(&out);
	while (r == INFLATE_FULL || (r == INFLATE_MORE && (left || io.in_n))) {
		if (r == INFLATE_MORE && io.in_n == 0) {
			io.in_n = left < in_n ? left : in_n;
			left -= io.in_n;
		}
		io.out = (uint8_t *)buf_room(&out, out_n);
		io.out_n = out_n;
		r = gunzip_run(g, &io);
		out.len += out_n - io.out_n;
	}
	if (r == INFLATE_MORE && gunzip_whole(g))
		r = INFLATE_END;
	*why = gunzip_why(g);
	*rest = left + io.in_n;
	gunzip_free(g);
	return r;
}

static bool gives(const struct buf *b, size_t in_n, size_t out_n, size_t n)
{
	const char *why;
	size_t rest;

	return run(b, in_n, out_n, &why, &rest) == INFLATE_END && out.len == n &&
	       (n == 0 || !memcmp(out.p, plain, n));
}

static void pieces(void)
{
	static const size_t sizes[] = {0, 1, 7, 100, 32767, 32768, 32769, 65535, 65536, 300000};
	static const int levels[] = {0, 1, 6, 9};
	bool same = true;

	for (size_t i = 0; i < NELEM(sizes); i++)
		for (size_t k = 0; k < NELEM(levels); k++) {
			OWN_BUF b = BUF_INIT(8 << 20);

			put_member(&b, short_head, sizeof short_head, sizes[i], levels[k]);
			same &= gives(&b, b.len, PLAIN_MAX, sizes[i]) &&
				gives(&b, 1, 4096, sizes[i]) && gives(&b, 4096, 1, sizes[i]) &&
				gives(&b, 13, 17, sizes[i]) && gives(&b, 1, 1, sizes[i]);
		}
	ok(same, "lengths, levels, and any size of piece");
}

static void members(void)
{
	struct buf b = BUF_INIT(8 << 20), twice = BUF_INIT(8 << 20);
	const char *why;
	size_t rest;

	put(&b, 100);
	for (int i = 0; i < 3; i++) {
		put(&twice, 100);
		put(&twice, 0);
	}
	ok(run(&twice, 1, 4096, &why, &rest) == INFLATE_END && out.len == 300 &&
			!memcmp(out.p + 200, plain, 100),
		"members in a row, empty ones too");
	buf_add(&b, "\0\0\0\0 padding", 12);
	ok(gives(&b, b.len, 4096, 100) && gives(&b, 1, 4096, 100), "padding means nothing");
	run(&b, b.len, 4096, &why, &rest);
	ok(rest == 12, "and is left in the input");
	b.len -= 12;
	buf_adds(&b, "\x1f");
	ok(gives(&b, b.len, 4096, 100), "half a magic is padding, too");
	buf_adds(&b, "\x8b");
	ok(run(&b, b.len, 4096, &why, &rest) == INFLATE_MORE,
		"a whole one begins a member: cut off");
	is_str(why, "truncated gzip data", "which is said");
	buf_clear(&b);
	buf_clear(&twice);
	buf_clear(&out);
}

static void headers(void)
{
	/* FEXTRA of 5 bytes, FNAME, FCOMMENT, FHCRC to come; FTEXT, which means nothing */
	static const char all[] = "\x1f\x8b\x08\x1f\0\0\0\0\0\3\5\0abc\0d"
				  "name\0comment",
			  no_extra[] = "\x1f\x8b\x08\x0c\0\0\0\0\0\3\0\0n";
	uint32_t sum = (uint32_t)crc32(0, (const Bytef *)all, sizeof all);
	struct buf b = BUF_INIT(8 << 20);
	const char *why;
	char head[sizeof all + 2];
	size_t rest;

	memcpy(head, all, sizeof all);
	head[sizeof all] = (char)(sum & 0xff);
	head[sizeof all + 1] = (char)(sum >> 8 & 0xff);
	put_member(&b, head, sizeof head, 1000, 6);
	ok(gives(&b, b.len, 4096, 1000) && gives(&b, 1, 4096, 1000), "every part of a header");
	b.p[14] ^= 1;
	ok(run(&b, 3, 4096, &why, &rest) == INFLATE_BAD && out.len == 0, "one bit of it is wrong");
	is_str(why, "the checksum of a gzip member's header is wrong", "which is said");
	b.len = 0;
	put_member(&b, no_extra, sizeof no_extra, 1000, 6);
	ok(gives(&b, b.len, 4096, 1000), "an extra part of no bytes");
	buf_clear(&b);
}

static void wrong(const char *what, size_t at, char bits, bool second, const char *want)
{
	struct buf b = BUF_INIT(8 << 20);
	const char *why;
	size_t from = 0, rest;

	if (second) {
		put(&b, 1000);
		from = b.len;
	}
	put(&b, 1000);
	b.p[at < 100 ? from + at : b.len - (at - 100)] ^= bits;
	ok(run(&b, b.len, 8192, &why, &rest) == INFLATE_BAD, "refused: %s", what);
	is_str(why, want, "which is said");
	buf_clear(&b);
}

static void damaged(void)
{
	wrong("no magic", 0, 1, false, "not in gzip format");
	wrong("another method", 2, 1, false, "a gzip member has an unknown method");
	wrong("another method, later", 2, 1, true, "a gzip member has an unknown method");
	wrong("reserved flags", 3, 0x20, false, "a gzip member has unknown flags");
	wrong("a type of block that there is not", 10, 0x06 ^ 0x04, false, "damaged gzip data");
	wrong("CRC-32", 108, 1, false, "the checksum of a gzip member is wrong");
	wrong("CRC-32, later", 105, 0x40, true, "the checksum of a gzip member is wrong");
	wrong("ISIZE", 104, 1, false, "the size of a gzip member is wrong");
	wrong("ISIZE, last bit", 101, (char)0x80, true, "the size of a gzip member is wrong");
}

/* Every cut is seen, wherever it is. */
static void cuts(void)
{
	struct buf b = BUF_INIT(8 << 20);
	size_t first, whole, seen = 0, rest;
	const char *why;

	put(&b, 3000);
	first = b.len;
	put(&b, 3000);
	whole = b.len;
	for (b.len = 0; b.len < whole; b.len++)
		seen += run(&b, b.len ? b.len : 1, 8192, &why, &rest) == INFLATE_MORE &&
			!strcmp(why, "truncated gzip data");
	ok(seen == whole - 2,
		"%zu of %zu cuts are seen: not the one between two members, nor that "
		"behind half a magic",
		seen, whole);
	b.len = first;
	ok(gives(&b, b.len, 8192, 3000), "control: between two members");
	buf_clear(&b);
}

/* A wrong bit is found, or means nothing: the time, padding before a trailer. */
static void bits(void)
{
	struct buf b = BUF_INIT(8 << 20);
	size_t missed = 0, found = 0, rest;
	const char *why;

	put(&b, 2000);
	for (size_t i = 0; i < b.len * 8; i++) {
		b.p[i / 8] ^= (char)(1 << i % 8);
		if (run(&b, b.len, 8192, &why, &rest) != INFLATE_END)
			found++;
		else if (out.len != 2000 || memcmp(out.p, plain, 2000))
			missed++;
		b.p[i / 8] ^= (char)(1 << i % 8);
	}
	ok(missed == 0 && found > b.len * 8 - 70,
		"of %zu wrong bits %zu are found, %zu change contents", b.len * 8, found, missed);
	buf_clear(&b);
}

int main(void)
{
	out = BUF_INIT(8 << 20);
	fill_plain();
	pieces();
	members();
	headers();
	damaged();
	cuts();
	bits();
	buf_clear(&out);
	return done();
}

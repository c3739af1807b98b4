/* isolate/buf: the edges of the bound, and quote(). */
#include "isolate/buf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "tests/unit/tap.h"

static bool is_bytes(const struct buf *b, const char *want, size_t n)
{
	return b->len == n && (n == 0 || (!memcmp(b->p, want, n) && b->p[n] == '\0'));
}

static void test_bound(void)
{
	OWN_BUF b = BUF_INIT(8);

	ok(b.p == NULL && buf_ok(&b), "an empty buffer holds no memory");
	ok(buf_adds(&b, "1234567") == 0 && is_bytes(&b, "1234567", 7), "one under the bound");
	ok(buf_addc(&b, '8') == 0 && is_bytes(&b, "12345678", 8), "at the bound");
	ok(buf_add(&b, "", 0) == 0 && buf_ok(&b), "nothing more still fits");
	ok(buf_addc(&b, '9') == -1 && !buf_ok(&b), "one over the bound is refused");
	ok(is_bytes(&b, "12345678", 8), "and what was there is whole");
	ok(buf_add(&b, "", 0) == -1, "a bad buffer stays bad, even for nothing");
	ok(buf_take(&b) == NULL, "nor can it be taken");
	buf_clear(&b);
	ok(buf_ok(&b) && b.len == 0 && b.max == 8 && b.p == NULL, "clear: empty, the bound stays");
	ok(buf_adds(&b, "123456789") == -1 && b.len == 0, "all or nothing");
}

static void test_bound_zero_and_huge(void)
{
	OWN_BUF none = BUF_INIT(0), huge = BUF_INIT(SIZE_MAX);
	char *p;

	ok(buf_add(&none, NULL, 0) == 0 && is_bytes(&none, "", 0), "a bound of 0 takes nothing");
	ok(buf_addc(&none, 'x') == -1, "and no byte");
	ok(buf_adds(&huge, "x") == 0, "no bound");
	ok(buf_room(&huge, SIZE_MAX) == NULL && !buf_ok(&huge), "a sum that would wrap is refused");
	buf_clear(&huge);
	buf_adds(&huge, "x");
	ok(buf_room(&huge, SIZE_MAX - 1) == NULL, "also when it would wrap with the NUL only");
	buf_clear(&huge);
	buf_adds(&huge, "x");
	ok(buf_room(&huge, PTRDIFF_MAX) == NULL, "and at the largest object");
	p = buf_take(&none);
	ok(p == NULL, "the refusal above is remembered");
}

static void test_room(void)
{
	OWN_BUF b = BUF_INIT(1000);
	char *to = buf_room(&b, 1000);

	if (!ok(to != NULL, "room up to the bound"))
		return;
	memset(to, 'r', 1000); /* under ASan this proves the room */
	to[1000] = '\0';
	ok(b.len == 0, "room alone adds nothing");
	b.len += 1000;
	ok(buf_room(&b, 0) == b.p + 1000, "room for nothing at the bound");
	ok(buf_room(&b, 1) == NULL && !buf_ok(&b), "no room behind the bound");
}

static void test_growth(void)
{
	OWN_BUF b = BUF_INIT(100000);
	bool same = true;

	for (int i = 0; i < 100000; i++)
		if (buf_addc(&b, (char)('a' + i % 26)) < 0)
			same = false;
	for (int i = 0; same && i < 100000; i++)
		same = b.p[i] == (char)('a' + i % 26);
	ok(same && b.p[100000] == '\0', "100000 single bytes survive the growth");
	ok(buf_addc(&b, 'x') == -1, "and the bound holds");
}

static void test_format(void)
{
	OWN_BUF b = BUF_INIT(12);
	OWN_BUF c = BUF_INIT(100);

	ok(buf_addf(&b, "%s-%d", "abc", 12345678) == 0 && is_bytes(&b, "abc-12345678", 12),
		"a formatted text at the bound");
	ok(buf_addf(&b, "%s", "") == 0 && buf_ok(&b), "an empty one behind it");
	ok(buf_addf(&b, "%c", 'x') == -1 && !buf_ok(&b) && is_bytes(&b, "abc-12345678", 12),
		"one byte more is refused whole");
	/* No character: in the C locale vsnprintf() fails with EILSEQ. */
	ok(buf_addf(&c, "%lc", (wint_t)0x110000) == -1 && !buf_ok(&c),
		"a text that cannot be formatted is remembered too");
}

static void test_take(void)
{
	OWN_BUF b = BUF_INIT(10);
	char *p = buf_take(&b);

	is_str(p, "", "an untouched buffer gives an empty string");
	free(p);
	buf_add(&b, "a\0b", 3);
	p = buf_take(&b);
	ok(p && !memcmp(p, "a\0b", 4), "bytes, NUL and all");
	ok(b.p == NULL && b.len == 0 && b.max == 10 && buf_ok(&b), "the buffer is empty again");
	free(p);
	ok(buf_adds(&b, "0123456789") == 0, "and takes its whole bound again");
}

static void test_quote(void)
{
	char out[2000], all[256];
	bool clean = true;

	is_str(quote("", 0, out, sizeof out), "\"\"", "nothing");
	is_str(quote("a b", 3, out, sizeof out), "\"a b\"", "plain");
	is_str(quote("a\nb\r\t\"\\", 7, out, sizeof out), "\"a\\nb\\r\\t\\\"\\\\\"", "C escapes");
	is_str(quote("\0\x01\x1b\x7f\x80\xff", 6, out, sizeof out),
		"\"\\x00\\x01\\x1b\\x7f\\x80\\xff\"", "control and high bytes in hexadecimal");
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	quote(all, sizeof all, out, sizeof out);
	for (const char *p = out; *p; p++)
		clean = clean && *p >= 0x20 && *p < 0x7f;
	ok(clean && strlen(out) > 256, "no byte of any value comes out raw");
}

static void test_quote_sizes(void)
{
	static const char *const in[] = {"aaaaaaaaaaaaaaaaaaaaaaaaa", "\n\n\n\n\n\n\n\n\n\n\n\n\n",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
	char *out, want[64];
	bool good = true;

	for (size_t i = 0; i < sizeof in / sizeof *in; i++)
		for (size_t size = 8; size < 60; size++) {
			size_t n = strlen(in[i]), len;

			out = malloc(size); /* exact, so that ASan sees a byte too many */
			if (!out)
				return;
			len = strlen(quote(in[i], n, out, size));
			good = good && len < size && out[0] == '"' && out[len - 1] == '"';
			quote(in[i], n, want, sizeof want);
			if (strcmp(out, want) != 0)
				good = good && len >= 5 && !strcmp(out + len - 4, "...\"");
			free(out);
		}
	ok(good, "every size from 8: in bounds, closed, and \"...\" when cut");
	is_str(quote("abcdef", 6, want, 8), "\"...\"", "the least size");
}

int main(void)
{
	test_bound();
	test_bound_zero_and_huge();
	test_room();
	test_growth();
	test_format();
	test_take();
	test_quote();
	test_quote_sizes();
	return done();
}

/* The lines of a layer's list, and the escape. */
#include "images/treefile.h"

#include <stdlib.h>
#include <unistd.h>

#include "images/escape.h"
#include "images/inventory.h"
#include "tests/unit/tap.h"

static struct tree_entry en, back;

static void round_trip(const char *line)
{
	struct buf out = BUF_INIT(TREEFILE_LINE_MAX);

	if (ok(treefile_parse(line, &en), "read: %s", line)) {
		treefile_format(&en, &out);
		out.p[out.len - 1] = '\0';
		is_str(out.p, line, "written as it was");
		ok(treefile_parse(out.p, &back) && !strcmp(en.path, back.path), "and read again");
	}
	buf_clear(&out);
}

static void refused(const char *line)
{
	ok(!treefile_parse(line, &en), "refused: \"%s\"", line);
}

static void test_lines(void)
{
	static const char *const bad[] = {"", "f", "f ", "x 644 0 0 0 0.000000000 - a",
		"f 644 0 0 0 0.000000000 00000000", "f 644 0 0 0 0.000000000 00000000 ",
		"f 644 0 0 0 0.000000000 0000000 a", "f 644 0 0 0 0.000000000 0000000g a",
		"f 10000 0 0 0 0.000000000 00000000 a", "f 648 0 0 0 0.000000000 00000000 a",
		"f 644 -1 0 0 0.000000000 00000000 a",
		"f 644 4294967296 0 0 0.000000000 00000000 a",
		"f 644 0 0 99999999999999999999 0.000000000 00000000 a",
		"f 644 0 0 0 0.1000000000 00000000 a", "f 644 0 0 0 0 00000000 a",
		"f 644 0 0 0 0.000000000 00000000 /a", "f 644 0 0 0 0.000000000 00000000 a/../b",
		"f 644 0 0 0 0.000000000 00000000 a//b", "f 644 0 0 0 0.000000000 00000000 ..",
		"f 644 0 0 0 0.000000000 00000000 a/", "f 644 0 0 0 0.000000000 00000000 \\x00",
		"f 644 0 0 0 0.000000000 00000000 \\x0", "f 644 0 0 0 0.000000000 00000000 a\\",
		"h 644 0 0 0 0.000000000 ../x a", "d 755 0 0 0 0.000000000 opaque2 a",
		"c 644 0 0 0 0.000000000 1 a", "w 0 0 0 0 0.000000000 x a"};

	round_trip("f 4755 0 65534 5 1700000000.000000001 0123abcd bin/su");
	round_trip("d 1777 0 0 0 0.000000000 - .");
	round_trip("d 755 4294967295 0 0 0.000000000 opaque a/b");
	round_trip("l 777 0 0 0 1.999999999 ../\\x20\\x5c\\x0a a\\xff");
	round_trip("h 644 0 0 7 1.000000000 a/b c");
	round_trip("w 0 0 0 0 0.000000000 - a/b");
	round_trip("c 666 0 0 0 0.000000000 1:3 dev/null");
	round_trip("p 600 0 0 0 0.000000000 - dev/p");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		refused(bad[i]);
}

static void test_escape(void)
{
	char all[256], out[256];
	struct buf b = BUF_INIT(2000);

	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	all[255] = '\0';
	escape_put(all, &b);
	ok(!strpbrk(b.p, " \n\t"), "one word");
	ok(escape_take(b.p, b.len, out, sizeof out) && !strcmp(out, all),
		"every byte but NUL comes back");
	ok(!escape_take(b.p, b.len, out, sizeof out - 1), "one byte too small: refused");
	ok(!escape_take("\\X41", 4, out, sizeof out) && !escape_take("\\x4G", 4, out, sizeof out),
		"malformed escapes");
	buf_clear(&b);
}

/* A file of lines, read back with its checksum; cut anywhere but behind a line it is refused. */
static void test_file(void)
{
	static const char text[] = TREEFILE_MAGIC "d 755 0 0 0 0.000000000 - .\n"
						  "w 0 0 0 0 0.000000000 - a\n";
	unsigned good = 0, whole = 0;

	for (size_t n = 0; n < sizeof text; n++) {
		char name[] = "/tmp/treefile-XXXXXX";
		int fd = mkstemp(name), r = 1;
		struct treefile t;
		struct err e;

		unlink(name);
		if (fd < 0 || write(fd, text, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) < 0)
			break;
		r = treefile_open(&t, fd, &e);
		while (r == 0 && (r = treefile_next(&t, &e)) > 0)
			r = 0;
		good += r == 0;
		whole += r == 0 && t.crc == inventory_crc(0, text, sizeof text - 1);
		treefile_close(&t);
	}
	ok(good == 3, "cut behind a line: read (%u)", good);
	ok(whole == 1, "whole: with its checksum");
}

static void test_crc(void)
{
	static const char zeros[40000];

	ok(inventory_crc(0, "123456789", 9) == 0xcbf43926, "the check value of CRC-32");
	ok(inventory_crc(7, NULL, sizeof zeros) == inventory_crc(7, zeros, sizeof zeros),
		"a hole is zeros");
}

int main(void)
{
	test_lines();
	test_escape();
	test_file();
	test_crc();
	return done();
}

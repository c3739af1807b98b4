#include "fcgi/utf8.h"

#include "fcgi/json_out.h"
#include "isolate/own.h"
#include "tests/unit/python.h"
#include "tests/unit/tap.h"

static void test_prefix(void)
{
	static const struct {
		const char *text;
		size_t n, good;
	} cases[] = {
		{"", 0, 0},
		{"plain ascii, longer than eight", 30, 30},
		{"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, 9},
		{"\xf4\x8f\xbf\xbf", 4, 4},
		{"ab\xc3", 3, 2},
		{"a\x80", 2, 1},
		{"\xc0\xaf", 2, 0},
		{"\xe0\x9f\xbf", 3, 0},
		{"\xed\xa0\x80", 3, 0},
		{"\xed\x9f\xbf", 3, 3},
		{"\xf0\x8f\xbf\xbf", 4, 0},
		{"\xf4\x90\x80\x80", 4, 0},
		{"\xf5\x80\x80\x80", 4, 0},
		{"12345678\xff", 9, 8},
	};

	for (size_t i = 0; i < NELEM(cases); i++)
		ok(utf8_valid_prefix(cases[i].text, cases[i].n) == cases[i].good,
			"case %zu: %zu good bytes", i, cases[i].good);
	ok(utf8_cut_tail("ab\xe2\x82", 4) == 2 && utf8_cut_tail("\xf0\x9f\x98", 3) == 3,
		"the start of a cut character");
	ok(utf8_cut_tail("\xe2\x82\xac", 3) == 0 && utf8_cut_tail("a\x82", 2) == 0 &&
			utf8_cut_tail("\xff", 1) == 0 && utf8_cut_tail("", 0) == 0,
		"whole and wrong ends are not cut");
	ok(utf8_clip("ab\xe2\x82\xac", 5, 4) == 2 && utf8_clip("ab", 2, 4) == 2,
		"clip keeps characters whole");
}

static const char script[] =
	"import sys,json\n"
	"for l in open(sys.argv[1]):\n"
	" t=bytes.fromhex(l.strip()).decode(errors=\"replace\")\n"
	" sys.stdout.buffer.write(json.dumps(t,ensure_ascii=False).encode()+b\"\\n\")\n";

static size_t make(unsigned *x, unsigned char *to)
{
	static const unsigned char bits[] = {0x41, 0x80, 0xbf, 0xc2, 0xe0, 0xa0, 0xed, 0x9f, 0xf0,
		0x90, 0xf4, 0x8f, 0xff, 0x22, 0x5c, 0x0a, 0x01, 0x7f, 0xe2, 0x82};
	size_t n = (*x = *x * 1103515245 + 12345) >> 16 & 15;

	for (size_t i = 0; i < n; i++)
		to[i] = bits[((*x = *x * 1103515245 + 12345) >> 16) % sizeof bits];
	return n;
}

/* U+FFFD where and as often as Python puts it, and its escapes. */
static void test_python(void)
{
	unsigned x = 7, seen = 0, differ = 0;
	char path[64], want[512];
	unsigned char text[16];
	FILE *f, *out;

	if (!python_there())
		return;
	f = python_data(path);
	for (int i = 0; f && i < 5000; i++) {
		size_t n = make(&x, text);

		for (size_t k = 0; k < n; k++)
			fprintf(f, "%02x", text[k]);
		fputc('\n', f);
	}
	if (f)
		fclose(f);
	out = python_run(script, path);
	for (x = 7; out && fgets(want, sizeof want, out); seen++) {
		OWN_BUF b = BUF_INIT(4096);
		size_t n = make(&x, text);

		json_out_string(&b, text, n);
		want[strcspn(want, "\n")] = '\0';
		if (strcmp(b.p, want)) {
			printf("# ours %s python %s\n", b.p, want);
			differ++;
		}
	}
	ok(out && pclose(out) == 0 && seen == 5000, "python answered for %u strings", seen);
	ok(differ == 0, "%u strings differ", differ);
	unlink(path);
}

int main(void)
{
	test_prefix();
	test_python();
	return done();
}

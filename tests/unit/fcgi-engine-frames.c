/* What an Engine sends of an attached container: frames of its two streams, in any pieces. */
#include <stdio.h>
#include <string.h>

#include "fcgi/engine_frames.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

static struct engine_frames f;
static char out[4096];

static size_t frame(char *to, unsigned stream, const char *text)
{
	size_t n = strlen(text);
	const unsigned char head[8] = {(unsigned char)stream, 0, 0, 0, (unsigned char)(n >> 24),
		(unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n};

	memcpy(to, head, sizeof head);
	memcpy(to + sizeof head, text, n);
	return sizeof head + n;
}

static long head_only(const unsigned char head[8])
{
	memset(&f, 0, sizeof f);
	return engine_frames_take(&f, (const char *)head, 8, out);
}

static void test_pieces(void)
{
	char in[100];
	size_t n = frame(in, 1, "one ");
	unsigned good = 0;

	n += frame(in + n, 2, "not this");
	n += frame(in + n, 1, "");
	n += frame(in + n, 1, "two");
	for (size_t cut = 0; cut <= n; cut++) {
		long a, b;

		memset(&f, 0, sizeof f);
		a = engine_frames_take(&f, in, cut, out);
		b = a < 0 ? -1 : engine_frames_take(&f, in + cut, n - cut, out + a);
		good += b >= 0 && a + b == 7 && !memcmp(out, "one two", 7);
	}
	ok(good == n + 1, "the standard output, cut anywhere");
	ok(f.other == 8, "the other stream is counted");
}

static void test_hostile(void)
{
	ok(head_only((const unsigned char[]){1, 0, 0, 0, 0, 16, 0, 0}) == 0, "control: 1 MiB");
	ok(head_only((const unsigned char[]){1, 0, 0, 0, 0, 16, 0, 1}) < 0, "a byte more");
	ok(head_only((const unsigned char[]){1, 0, 0, 0, 255, 255, 255, 255}) < 0, "4 GiB");
	ok(head_only((const unsigned char[]){0, 0, 0, 0, 0, 0, 0, 1}) < 0, "the standard input");
	ok(head_only((const unsigned char[]){3, 0, 0, 0, 0, 0, 0, 1}) < 0,
		"the Engine's own error");
	ok(head_only((const unsigned char[]){1, 0, 1, 0, 0, 0, 0, 1}) < 0, "something between");
	ok(head_only((const unsigned char[]){2, 0, 0, 0, 0, 1, 0, 0}) == 0,
		"control: 64 KiB of standard error");
	ok(head_only((const unsigned char[]){2, 0, 0, 0, 0, 1, 0, 1}) < 0, "no more of that");
}

int main(void)
{
	test_pieces();
	test_hostile();
	return done();
}

#include "fcgi/record.h"

#include <stdlib.h>

#include "fcgi/gate.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct {
	const char *what, *bytes;
	size_t n;
	long used; /* -1: refused */
	size_t name, value;
} pairs[] = {
	{"two short lengths", "\1\2abb", 5, 5, 1, 2},
	{"more follows", "\1\1ab\1\1cd", 8, 4, 1, 1},
	{"both empty", "\0\0", 2, 2, 0, 0},
	{"a long form of a small number", "\x80\0\0\1\x80\0\0\1ab", 10, 10, 1, 1},
	{"nothing", "", 0, -1, 0, 0},
	{"one length", "\1", 1, -1, 0, 0},
	{"half of a long length", "\x80\0\0", 3, -1, 0, 0},
	{"half of the second", "\1\x80\0\0", 4, -1, 0, 0},
	{"a name cut short", "\2\0a", 3, -1, 0, 0},
	{"a value cut short", "\1\2ab", 4, -1, 0, 0},
	{"lengths that wrap when added",
		"\xff\xff\xff\xff\xff\xff\xff\xff"
		"ab",
		10, -1, 0, 0},
	{"2 GiB - 1 of value",
		"\1\xff\xff\xff\xff"
		"ab",
		7, -1, 0, 0},
};

static void test_pairs(void)
{
	for (size_t i = 0; i < NELEM(pairs); i++) {
		/* On the heap: a sanitizer sees a read past the end. */
		uint8_t *p = malloc(pairs[i].n + !pairs[i].n);
		struct record_pair got = {0};
		long used;

		memcpy(p, pairs[i].bytes, pairs[i].n);
		used = record_pair(p, pairs[i].n, &got);
		ok(used == pairs[i].used, "%s: %ld", pairs[i].what, used);
		if (used >= 0)
			ok(got.name_len == pairs[i].name && got.value_len == pairs[i].value &&
					got.value == got.name + got.name_len &&
					got.value + got.value_len == p + used,
				"%s: the parts", pairs[i].what);
		free(p);
	}
}

static void test_headers(void)
{
	uint8_t h[REC_HEADER];
	struct record r;

	record_encode(h, REC_STDOUT, 0xabcd, 0xfffe);
	ok(record_decode(h, &r) && r.type == REC_STDOUT && r.id == 0xabcd && r.content == 0xfffe &&
			r.padding == 0,
		"a header comes back");
	h[0] = 2;
	ok(!record_decode(h, &r), "version 2");
	h[0] = 0;
	ok(!record_decode(h, &r), "version 0");
}

static void test_values(void)
{
	static const uint8_t max[] = "\x0e\0FCGI_MAX_CONNS", bad[] = "\x0e\0FCGI_MAX";
	uint8_t out[REC_VALUES_MAX], many[160];
	struct record r;
	long once = record_values(max, sizeof max - 1, out);

	ok(once == REC_HEADER + 2 + 14 + 3 && record_decode(out, &r) &&
			r.type == REC_GET_VALUES_RESULT && r.id == 0 &&
			r.content == once - REC_HEADER,
		"one name: %ld", once);
	for (size_t i = 0; i < 10; i++)
		memcpy(many + i * 16, max, 16);
	ok(record_values(many, sizeof many, out) == once, "ten times the same: once");
	ok(record_values((const uint8_t *)"", 0, out) == REC_HEADER, "no name: an empty answer");
	ok(record_values((const uint8_t *)"\1\0x", 3, out) == REC_HEADER,
		"a strange name is left out");
	ok(record_values(bad, sizeof bad - 1, out) == -1, "cut short: refused");
}

static void test_reply(void)
{
	uint8_t out[64];
	struct record r;

	ok(record_reply(out, 2 * REC_HEADER + REC_FIXED + 3, 7, "abc") == 35, "it just fits");
	ok(record_decode(out + 11, &r) && r.type == REC_STDOUT && r.content == 0 && r.id == 7,
		"the end of output");
	ok(record_decode(out + 19, &r) && r.type == REC_END && r.content == 8,
		"END_REQUEST is last");
	ok(record_reply(out, 2 * REC_HEADER + REC_FIXED + 2, 7, "abc") == 0,
		"a byte less: it does not");
	ok(record_reply(out, 5, 7, "") == 0, "no room at all");
}

static void test_peek(void)
{
	uint8_t b[16] = {1, REC_BEGIN, 0, 9, 0, 8, 0, 0, 0, 1}, v[8] = {1, REC_GET_VALUES};
	uint16_t id;

	ok(gate_peek(b, 16, &id) == 1 && id == 9, "BEGIN is worth a worker");
	ok(gate_peek(b, 15, &id) == 0, "not yet whole");
	ok(gate_peek(b, 7, &id) == 0 && gate_peek(b, 0, &id) == 0, "half a header: wait");
	ok(gate_peek(v, 8, &id) == 1 && id == 0, "FCGI_GET_VALUES, too");
	b[1] = REC_PARAMS;
	ok(gate_peek(b, 16, &id) == -1, "PARAMS first");
	ok(gate_peek((const uint8_t *)"GET ", 4, &id) == -1, "HTTP");
}

static enum gate_verdict next(struct gate *g, uint8_t type, uint16_t id, uint16_t content)
{
	struct record r = {.type = type, .id = id, .content = content};

	return gate_next(g, &r);
}

static enum gate_verdict in_body(struct gate *g, uint8_t type, uint16_t id, uint16_t content)
{
	struct record r = {.type = type, .id = id, .content = content};

	return gate_body(g, &r);
}

static void test_gate(void)
{
	struct gate g = gate_new(100);
	enum gate_verdict v;
	unsigned n = 0;

	ok(next(&g, REC_PARAMS, 1, 5) == GATE_BAD, "PARAMS before BEGIN");
	ok(next(&g, REC_BEGIN, 1, 8) == GATE_BEGIN, "BEGIN");
	ok(next(&g, REC_BEGIN, 1, 8) == GATE_BAD, "BEGIN twice");
	ok(next(&g, REC_BEGIN, 2, 8) == GATE_MULTIPLEX, "another's BEGIN");
	ok(next(&g, REC_PARAMS, 2, 8) == GATE_SKIP, "another's PARAMS");
	ok(next(&g, REC_STDIN, 1, 0) == GATE_BAD, "STDIN before the end of PARAMS");
	ok(next(&g, REC_PARAMS, 1, 100) == GATE_PARAMS && !g.over, "exactly the limit");
	ok(next(&g, REC_PARAMS, 1, 1) == GATE_SKIP && g.over, "one byte more");
	ok(next(&g, REC_PARAMS, 1, 0) == GATE_DONE, "the end");
	ok(in_body(&g, REC_STDIN, 1, 9) == GATE_BODY, "body");
	ok(in_body(&g, REC_STDIN, 2, 9) == GATE_SKIP, "another's body");
	ok(in_body(&g, REC_GET_VALUES, 0, 9) == GATE_VALUES, "FCGI_GET_VALUES amid the body");
	ok(in_body(&g, 77, 0, 9) == GATE_UNKNOWN, "an unknown record amid the body");
	ok(in_body(&g, REC_BEGIN, 0, 8) == GATE_BAD, "BEGIN of request 0");
	ok(in_body(&g, REC_PARAMS, 1, 9) == GATE_BAD, "PARAMS after their end");
	ok(in_body(&g, REC_ABORT, 1, 0) == GATE_ABORT, "ABORT");
	for (n = 0; n < 1000000 && (v = in_body(&g, 77, 0, 0)) == GATE_UNKNOWN; n++)
		;
	ok(v == GATE_BAD && n > 1000, "strange records without content end, too: %u", n);
	ok(in_body(&g, REC_STDIN, 1, 0) == GATE_DONE, "the end of the body");
	g = gate_new(100);
	next(&g, REC_BEGIN, 1, 8);
	for (n = 0; n < 10000 && (v = next(&g, REC_PARAMS, 1, 65535)) == GATE_SKIP; n++)
		;
	ok(v == GATE_DONE && g.over && n < 1000, "endless parameters end after %u records", n);
}

int main(void)
{
	test_headers();
	test_pairs();
	test_values();
	test_reply();
	test_peek();
	test_gate();
	return done();
}

/* The pure parts of the daiv dialect. */
#include "fcgi/dialects/daiv.h"

#include "isolate/own.h"
#include "tests/unit/tap.h"

static void test_ids(void)
{
	static const char *const bad[] = {"", "x", "0123456789ab-4def-8123-456789abcdef",
		"01234567-89ab-4def-8123-456789abcde", "01234567-89ab-4def-8123-456789abcdeff",
		"01234567-89AB-4DEF-8123-456789ABCDEF", "01234567-89ab-4def-8123-456789abcdeg",
		"../4567-89ab-4def-8123-456789abcdef", "01234567/89ab/4def/8123/456789abcdef"};

	ok(daiv_id_valid("01234567-89ab-4def-8123-456789abcdef"), "an id");
	for (size_t i = 0; i < NELEM(bad); i++)
		ok(!daiv_id_valid(bad[i]), "no id: \"%s\"", bad[i]);
}

static void test_workdir(void)
{
	static const struct {
		const char *in;
		size_t n;
		const char *out; /* NULL: refused */
	} cases[] = {
#define W(s) s, sizeof(s) - 1
		{W(""), ""},
		{W("."), ""},
		{W("./"), ""},
		{W("a"), "a"},
		{W("a/b/"), "a/b"},
		{W("a//./b"), "a/b"},
		{W("/repo"), ""},
		{W("/repo/"), ""},
		{W("/repo/a"), "a"},
		{W("..a/b.."), "..a/b.."},
		{W("/"), NULL},
		{W("/etc"), NULL},
		{W("/repository"), NULL},
		{W("/repo/../etc"), NULL},
		{W(".."), NULL},
		{W("a/.."), NULL},
		{W("a/../b"), NULL},
		{W("a\0b"), NULL},
	};
	char out[64], longest[64 + 1];

	for (size_t i = 0; i < NELEM(cases); i++) {
		const char *why = daiv_workdir(cases[i].in, cases[i].n, out, sizeof out);

		if (cases[i].out)
			is_str(why ? why : out, cases[i].out, cases[i].in);
		else
			ok(why != NULL, "\"%s\" is refused", cases[i].in);
	}
	memset(longest, 'a', sizeof longest);
	ok(!daiv_workdir(longest, 63, out, sizeof out) && strlen(out) == 63,
		"63 bytes fit into 64");
	ok(daiv_workdir(longest, 64, out, sizeof out) != NULL, "64 do not");
}

int main(void)
{
	test_ids();
	test_workdir();
	return done();
}

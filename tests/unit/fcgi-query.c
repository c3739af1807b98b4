#include "fcgi/query.h"

#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct {
	const char *uri, *name;
	int got;
	const char *value;
} cases[] = {
	{"/x", "from", 0, ""},
	{"/x?", "from", 0, ""},
	{"/x?from=12", "from", 1, "12"},
	{"/x?a=b&from=12&from=13", "from", 1, "12"},
	{"/x?from", "from", 1, ""},
	{"/x?fromage=1", "from", 0, ""},
	{"/x?xfrom=1", "from", 0, ""},
	{"/from=1", "from", 0, ""},
	{"/x?a=%66%6F+o", "a", 1, "fo o"},
	{"/x?a=b#&from=1", "from", 0, ""},
	{"/x#?from=1", "from", 0, ""},
	{"/x?a=%", "a", -1, ""},
	{"/x?a=%4", "a", -1, ""},
	{"/x?a=%4&b", "a", -1, ""},
	{"/x?a=%zz", "a", -1, ""},
	{"/x?a=%00", "a", -1, ""},
	{"/x?a=1234567", "a", 1, "1234567"},
	{"/x?a=12345678", "a", -1, ""},
	{"/x?&&a=1", "a", 1, "1"},
};

static const struct {
	const char *uri;
	int got;
	uint64_t value;
} numbers[] = {
	{"/x?n=0", 1, 0},
	{"/x?n=007", 1, 7},
	{"/x?n=9223372036854775799", 1, 9223372036854775799U},
	{"/x?n=9223372036854775808", -1, 0},
	{"/x?n=99999999999999999999999", -1, 0},
	{"/x?n=-1", -1, 0},
	{"/x?n=+1", -1, 0},
	{"/x?n=", -1, 0},
	{"/x?n=1x", -1, 0},
	{"/x", 0, 0},
};

static const struct {
	const char *uri;
	int got;
	bool value;
} flags[] = {
	{"/x?f=true", 1, true},
	{"/x?f=True", 1, true},
	{"/x?f=1", 1, true},
	{"/x?f=YES", 1, true},
	{"/x?f=off", 1, false},
	{"/x?f=0", 1, false},
	{"/x?f=", -1, false},
	{"/x?f", -1, false},
	{"/x?f=2", -1, false},
	{"/x?f=truetrue", -1, false},
	{"/x?f=%00", -1, false},
	{"/x?g=true", 0, false},
};

static void test_flags(void)
{
	for (size_t i = 0; i < NELEM(flags); i++) {
		bool v = !flags[i].value;

		ok(query_flag(flags[i].uri, "f", &v) == flags[i].got &&
				v == (flags[i].got == 1 ? flags[i].value : !flags[i].value),
			"yes or no: %s", flags[i].uri);
	}
}

int main(void)
{
	test_flags();
	for (size_t i = 0; i < NELEM(cases); i++) {
		char out[8] = "";
		int got = query_get(cases[i].uri, cases[i].name, out, sizeof out);

		ok(got == cases[i].got && (got != 1 || !strcmp(out, cases[i].value)), "%s: %s",
			cases[i].uri, cases[i].name);
	}
	for (size_t i = 0; i < NELEM(numbers); i++) {
		uint64_t v = 0;

		ok(query_number(numbers[i].uri, "n", &v) == numbers[i].got && v == numbers[i].value,
			"%s", numbers[i].uri);
	}
	return done();
}

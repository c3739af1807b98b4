/* Members of JSON objects as they were written. */
#include "fcgi/json_member.h"

#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct {
	const char *text, *name, *value; /* NULL: none */
} cases[] = {
	{"{\"event\":1}", "event", "1"},
	{" {\t\"a\" : [1,{\"event\":2}] ,\n\"event\" : {\"x\":\"}\\\"]\"} }", "event",
		"{\"x\":\"}\\\"]\"}"},
	{"{\"event\":1180591620717411303424}", "event", "1180591620717411303424"},
	{"{\"event\":\"a,b\" , \"b\":2}", "event", "\"a,b\""},
	{"{\"event\":[ ]\t\n}", "event", "[ ]"},
	{"{\"events\":1,\"even\":2}", "event", NULL},
	{"{\"a\":{\"event\":1}}", "event", NULL},
	{"{\"a\":\"\\\"event\\\":1\"}", "event", NULL},
	{"{\"\\u0065vent\":1}", "event", NULL},
	{"{}", "event", NULL},
	{"[\"event\",1]", "event", NULL},
	{"", "event", NULL},
	{"{\"event\":1", "event", NULL}, /* no JSON, and no byte behind it is read */
	{"{\"event\":\"x", "event", NULL},
	{"{\"event\\", "event", NULL},
};

/* How much of a string stays, of at most `max` bytes between its quotes. */
static const struct {
	const char *text;
	size_t max;
	const char *stays;
} clips[] = {
	{"\"abc\"", 3, "\"abc"},
	{"\"abcd\"", 3, "\"abc"},
	{"\"abcd\"", 0, "\""},
	{"\"\"", 0, "\""},
	{"\"ab\\n\"", 3, "\"ab"},
	{"\"ab\\nc\"", 4, "\"ab\\n"},
	{"\"a\\u0001b\"", 6, "\"a"},
	{"\"a\\u0001b\"", 7, "\"a\\u0001"},
	{"\"\\ud83d\\ude00xx\"", 11, "\""},
	{"\"\\ud83d\\ude00xx\"", 12, "\"\\ud83d\\ude00"},
	{"\"a\xc3\xa9xx\"", 2, "\"a"},
	{"\"a\xc3\xa9xx\"", 3, "\"a\xc3\xa9"},
	{"\"a\\\\\\\\x\"", 4, "\"a\\\\"},
	{"\"ab\\", 2, "\"ab"},
	{"\"ab\\u", 2, "\"ab"},
	{"\"", 2, ""},
	{"", 2, ""},
};

static void clip(size_t i)
{
	size_t n = strlen(clips[i].text), got;
	char *copy = malloc(n ? n : 1);

	memcpy(copy, clips[i].text, n);
	got = json_string_clip(copy, n, clips[i].max);
	ok(got == strlen(clips[i].stays) && !memcmp(copy, clips[i].stays, got),
		"%zu bytes of %s: %zu", clips[i].max, clips[i].text, got);
	free(copy);
}

int main(void)
{
	for (size_t i = 0; i < NELEM(clips); i++)
		clip(i);
	for (size_t i = 0; i < NELEM(cases); i++) {
		size_t n = strlen(cases[i].text), len = 0;
		char *copy = malloc(n + 1); /* a sanitizer sees a byte too many */
		const char *got;

		memcpy(copy, cases[i].text, n);
		copy = realloc(copy, n ? n : 1);
		got = json_member(copy, n, cases[i].name, &len);
		ok(cases[i].value ? got && len == strlen(cases[i].value) &&
					    !memcmp(got, cases[i].value, len)
				  : !got,
			"%s", cases[i].text);
		free(copy);
	}
	return done();
}

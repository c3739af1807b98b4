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

int main(void)
{
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

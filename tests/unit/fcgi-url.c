#include "fcgi/url.h"

#include <stdlib.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct {
	const char *uri;
	int kind;           /* enum err_kind */
	const char *joined; /* segments with '|' between, and a '/' when the path ends with one */
} cases[] = {
	{"/session/", 0, "session/"},
	{"/session", 0, "session"},
	{"/", 0, ""},
	{"/api/v1/session/abc/?x=/y/#z", 0, "api|v1|session|abc/"},
	{"/-/health/?", 0, "-|health/"},
	{"http://host:80/session/?q", 0, "session/"},
	{"HTTPS://host/session", 0, "session"},
	{"/se%73sion/%C3%A9", 0, "session|\xc3\xa9"},
	{"/a%2fb/c", 0, "a/b|c"},
	{"/a%252fb", 0, "a%2fb"},
	{"/%2e%2e/..", 0, "..|.."},
	{"/./a", 0, ".|a"},
	{"", ERR_REQUEST, NULL},
	{"session/", ERR_REQUEST, NULL},
	{"*", ERR_REQUEST, NULL},
	{"http://host", ERR_REQUEST, NULL},
	{"?/", ERR_REQUEST, NULL},
	{"/a%00b", ERR_REQUEST, NULL},
	{"/a%", ERR_REQUEST, NULL},
	{"/a%4", ERR_REQUEST, NULL},
	{"/a%4?1", ERR_REQUEST, NULL},
	{"/a%zz", ERR_REQUEST, NULL},
	{"/%c0%af", ERR_REQUEST, NULL},
	{"/%ff", ERR_REQUEST, NULL},
	{"/\xff", ERR_REQUEST, NULL},
	{"/%c3/%a9", ERR_REQUEST, NULL},
	{"//session/", ERR_NOTFOUND, NULL},
	{"/session//", ERR_NOTFOUND, NULL},
	{"/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", 0, "1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16"},
};

static void test_case(size_t i)
{
	char joined[256] = "";
	struct err e = {0};
	struct url u;
	int rc = url_parse(cases[i].uri, &u, &e);

	if (cases[i].kind) {
		ok(rc < 0 && e.kind == cases[i].kind, "%s is refused", cases[i].uri);
		return;
	}
	for (size_t k = 0; rc == 0 && k < u.nsegments; k++)
		snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s",
			k ? "|" : "", u.segment[k]);
	if (rc == 0 && u.slash)
		strcat(joined, "/");
	is_str(rc == 0 ? joined : e.msg, cases[i].joined, cases[i].uri);
}

int main(void)
{
	char longest[URL_PATH_MAX + 8];
	struct err e = {0};
	struct url u;

	for (size_t i = 0; i < NELEM(cases); i++)
		test_case(i);
	memset(longest, 'a', sizeof longest);
	longest[0] = '/';
	longest[URL_PATH_MAX] = '\0';
	ok(url_parse(longest, &u, &e) == 0 && strlen(u.segment[0]) == URL_PATH_MAX - 1,
		"the longest path");
	longest[URL_PATH_MAX] = 'a';
	longest[URL_PATH_MAX + 1] = '\0';
	ok(url_parse(longest, &u, &e) < 0 && e.kind == ERR_NOTFOUND, "a longer one");
	ok(url_path_length("/a?b") == 2 && url_path_length("/a") == 2, "path without query");
	return done();
}

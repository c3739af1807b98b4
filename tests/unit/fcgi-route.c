#include "fcgi/route.h"

#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct route table[] = {
	{HTTP_POST, "session", ROUTE_JSON, NULL},
	{HTTP_POST, "session/*", ROUTE_JSON, NULL},
	{HTTP_DELETE, "session/*", 0, NULL},
	{HTTP_GET, "-/health", ROUTE_OPEN, NULL},
	{HTTP_GET, "health", ROUTE_OPEN | ROUTE_SLASH, NULL},
	{HTTP_GET, "api/*", ROUTE_OPEN, NULL},
};

static const struct {
	const char *prefix;
	enum http_method method;
	const char *uri;
	int row; /* -1: none */
	const char *param, *allow;
} cases[] = {
	{"/api/v1", HTTP_POST, "/session/", 0, NULL, NULL},
	{"/api/v1", HTTP_POST, "/session", 0, NULL, NULL},
	{"/api/v1", HTTP_POST, "/api/v1/session/", 0, NULL, NULL},
	{"/api/v1", HTTP_POST, "/api/v1/session", 0, NULL, NULL},
	{"api/v1/", HTTP_POST, "/api/v1/session", 0, NULL, NULL},
	{"/api/v1", HTTP_POST, "/session/x/", 1, "x", NULL},
	{"/api/v1", HTTP_DELETE, "/api/v1/session/x", 2, "x", NULL},
	{"/api/v1", HTTP_GET, "/session/x/", -1, NULL, "POST"},
	{"/api/v1", HTTP_DELETE, "/session/", -1, NULL, "POST"},
	{"/api/v1", HTTP_HEAD, "/-/health/", -1, NULL, "GET"},
	{"/api/v1", HTTP_OPTIONS, "/session/", -1, NULL, "POST"},
	{"/api/v1", HTTP_GET, "/-/health", 3, NULL, NULL},
	{"/api/v1", HTTP_GET, "/health/", 4, NULL, NULL},
	{"/api/v1", HTTP_GET, "/health", -1, NULL, NULL},
	{"/api/v1", HTTP_POST, "/api/v1/api/v1/session/", -1, NULL, NULL},
	{"/api/v1", HTTP_POST, "/session/x/y", -1, NULL, NULL},
	{"/api/v1", HTTP_POST, "/api/v2/session/", -1, NULL, NULL},
	{"/api/v1", HTTP_GET, "/", -1, NULL, NULL},
	{"/api/v1", HTTP_GET, "/api/v1", 5, "v1", NULL},
	{"", HTTP_POST, "/session/", 0, NULL, NULL},
	{"/", HTTP_POST, "/session/", 0, NULL, NULL},
	{"", HTTP_POST, "/api/v1/session/", -1, NULL, NULL},
	{"/api/v1", HTTP_POST, "/Session/", -1, NULL, NULL},
	{"/api/v1", HTTP_POST, "/session%2fx/", -1, NULL, NULL},
};

static const struct route twice[] = {
	{HTTP_GET, "a/*/b/*", 0, NULL},
	{HTTP_GET, "a/*/f/**", 0, NULL},
};

static void test_two(void)
{
	const char *params[ROUTE_PARAMS], *allow;
	struct url u;

	url_parse("/a/one/b/two", &u, NULL);
	ok(route_find(twice, 2, "", &u, HTTP_GET, params, &allow) == &twice[0], "two parameters");
	is_str(params[0], "one", "the first");
	is_str(params[1], "two", "the second");
	url_parse("/a/one/f/x/y/z", &u, NULL);
	ok(route_find(twice, 2, "", &u, HTTP_GET, params, &allow) == &twice[1], "one and a path");
	is_str(params[0], "one", "the parameter");
	is_str(params[1], "x/y/z", "the path");
	url_parse("/a/one/f", &u, NULL);
	ok(!route_find(twice, 2, "", &u, HTTP_GET, params, &allow), "the path is not empty");
}

int main(void)
{
	for (size_t i = 0; i < NELEM(cases); i++) {
		const char *params[ROUTE_PARAMS], *param, *allow = NULL;
		const struct route *r;
		struct url u;
		bool good;

		if (!ok(url_parse(cases[i].uri, &u, NULL) == 0, "parse %s", cases[i].uri))
			continue;
		r = route_find(
			table, NELEM(table), cases[i].prefix, &u, cases[i].method, params, &allow);
		param = params[0];
		good = r == (cases[i].row < 0 ? NULL : &table[cases[i].row]);
		if (good && r)
			good = (!param && !cases[i].param) ||
			       (param && cases[i].param && !strcmp(param, cases[i].param));
		ok(good, "%s with prefix \"%s\" is row %d", cases[i].uri, cases[i].prefix,
			cases[i].row);
		if (!r)
			is_str(allow, cases[i].allow, "allow");
	}
	test_two();
	return done();
}

/* Routes that sandbox.conf switches: off is as if there were none, open asks for no key. */
#include "fcgi/routes.h"

#include <string.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct {
	const char *key; /* NULL: nothing switches it */
	enum http_method method;
	const char *uri;
} routes[] = {
	{"daiv", HTTP_POST, "/session/"},
	{"daiv", HTTP_POST, "/session/x/fs/ls"},
	{"daiv", HTTP_GET, "/version/"},
	{"native", HTTP_GET, "/session/x/runs"},
	{"native", HTTP_GET, "/session/x/files/a"},
	{"native", HTTP_GET, "/session/x/patch"},
	{"native", HTTP_GET, "/images/"},
	{"native", HTTP_GET, "/system/"},
	{"kweaver", HTTP_POST, "/sessions"},
	{"kweaver_runtime", HTTP_POST, "/workspace/se/session/x"},
	{"kweaver_runtime", HTTP_GET, "/workspace/se/download/x/a/b"},
	{"kweaver_runtime", HTTP_POST, "/workspace/se/v2/execute_code"},
	{"docs", HTTP_GET, "/openapi.json"},
	{"docs", HTTP_GET, "/api/docs"},
	{NULL, HTTP_GET, "/-/health/"},
	{NULL, HTTP_GET, "/-/version/"},
	{NULL, HTTP_GET, "/-/metrics"},
};

static const struct route *find(const struct conf *c, enum http_method method, const char *uri)
{
	const char *params[ROUTE_PARAMS], *allow;
	struct url u;

	if (url_parse(uri, &u, NULL) < 0)
		return NULL;
	return routes_find(c, &u, method, params, &allow);
}

/* With key = word, and everything else as it is by default. */
static void test_one(const char *key, const char *word)
{
	struct conf c;
	struct err e;

	if (!ok(conf_init(&c) == 0 && conf_set(&c, key, word, &e) == 0, "%s = %s", key, word))
		return;
	for (size_t i = 0; i < NELEM(routes); i++) {
		bool ours = routes[i].key && !strcmp(routes[i].key, key);
		const struct route *r = find(&c, routes[i].method, routes[i].uri);

		ok((r != NULL) == !(ours && !strcmp(word, "off")), "%s is %s", routes[i].uri,
			r ? "there" : "not there");
		if (r && ours)
			ok(routes_open(&c, r) == !strcmp(word, "open"), "%s a key",
				routes_open(&c, r) ? "without" : "with");
		if (r && !ours && strncmp(routes[i].uri, "/openapi", 8) != 0 &&
			strncmp(routes[i].uri, "/api/", 5) != 0)
			ok(!routes_open(&c, r), "another's needs one as before");
	}
	conf_clear(&c);
}

int main(void)
{
	static const char *const keys[] = {"daiv", "native", "kweaver", "kweaver_runtime", "docs"};
	static const char *const words[] = {"off", "key", "open"};

	for (size_t i = 0; i < NELEM(keys); i++)
		for (size_t k = 0; k < NELEM(words); k++)
			test_one(keys[i], words[k]);
	return done();
}

/* The OpenAPI document that is carried inside: it is JSON, and names the prefix in force. */
#include "fcgi/dialects/docs.h"

#include <json-c/json.h>
#include <string.h>

#include "fcgi/dialect.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

static const struct route *find(const char *path)
{
	for (size_t i = 0; i < docs_nroutes; i++)
		if (!strcmp(docs_routes[i].path, path))
			return &docs_routes[i];
	return NULL;
}

static void test_prefix(const char *prefix, const char *url)
{
	struct conf conf;
	struct err e;
	struct http_response rs = {.stream = -1, .body = BUF_INIT(1 << 20)};
	struct dialect_call c = {.conf = &conf, .rs = &rs};
	struct json_object *o, *servers = NULL, *first = NULL;

	if (!ok(conf_init(&conf) == 0 && conf_set(&conf, "api_prefix", prefix, &e) == 0,
		    "api_prefix = \"%s\"", prefix))
		return;
	find("openapi.json")->handle(&c);
	buf_addc(&rs.body, '\0');
	o = json_tokener_parse(rs.body.p);
	ok(rs.status == 200 && o, "the document is JSON");
	if (json_object_object_get_ex(o, "servers", &servers) &&
		json_object_array_length(servers) == 2)
		json_object_object_get_ex(json_object_array_get_idx(servers, 0), "url", &first);
	is_str(first ? json_object_get_string(first) : NULL, url, "its first server");
	json_object_put(o);
	buf_clear(&rs.body);
	conf_clear(&conf);
}

int main(void)
{
	test_prefix("/api/v1", "/api/v1");
	test_prefix("", "/");
	test_prefix("/a/\"b\\", "/a/\"b\\");
	return done();
}

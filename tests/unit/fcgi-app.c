/* Routes, the order of the checks, request bodies, and the making of sessions. */
#include "tests/unit/app.h"

static void test_routes(void)
{
	static const char *const health[] = {"/-/health/", "/-/health", "/api/v1/-/health/",
		"/api/v1/-/health", "/health/", "/api/v1/health/"};
	static const char *const nowhere[] = {
		"/session/a/b/", "/../session/", "/api/v2/session/", "/-/", "//session/", "/x%2fy"};
	static const char *const broken[] = {"/session/%00/", "/session/%zz/", "/%c0%ae/", "*", ""};

	key = NULL;
	for (size_t i = 0; i < NELEM(health); i++)
		want(200, "{\"status\":\"ok\"}", call(HTTP_GET, health[i], ""), health[i]);
	is_str(rs.content_type, "application/json", "content type");
	want(200, "{\"version\":\"v" VERSION "\"}", call(HTTP_GET, "/-/version/", ""), "version");
	for (size_t i = 0; i < NELEM(nowhere); i++)
		want(404, "{\"detail\":\"Not Found\"}", POST(nowhere[i], "{}"), nowhere[i]);
	for (size_t i = 0; i < NELEM(broken); i++)
		want(400, "{\"detail\":\"Bad Request\"}", POST(broken[i], "{}"), broken[i]);
	want(405, NULL, POST("/", "{}"), "the root is named, and no more");
	want(405, "{\"detail\":\"Method Not Allowed\"}", call(HTTP_HEAD, "/-/health/", ""), "HEAD");
	is_str(rs.allow, "GET", "allow");
	want(405, NULL, call(HTTP_PATCH, RUN, ""), "PATCH on a session");
	is_str(rs.allow, "POST", "allow names the first route");
	want(405, NULL, call(HTTP_OTHER, "/session/", ""), "TRACE");
	be.fail_at = 'h';
	err_set(&be.fail, ERR_BUSY, ECONNREFUSED, "connect /var/lib/x");
	want(503, "{\"detail\":\"Sandbox backend is not responding\"}",
		call(HTTP_GET, "/-/health/", ""), "health without a keeper");
	be.fail_at = 0;
	key = "secret";
}

static void test_order(void)
{
	static const char *const wrong[] = {"", "s", "secre", "secrets", "Secret", "secretsecret"};
	unsigned opens = be.opens;

	key = NULL;
	want(404, NULL, POST("/nowhere/", "{"), "1st: the path");
	want(422,
		"{\"detail\":[{\"type\":\"json_invalid\",\"loc\":[\"body\",1],\"msg\":\"JSON "
		"decode "
		"error\",\"input\":{},\"ctx\":{\"error\":\"Expecting property name enclosed in "
		"double "
		"quotes\"}}]}",
		POST(RUN, "{"), "2nd: the syntax, without a key");
	want(403, "{\"detail\":\"API Key header is missing\"}", POST(RUN, "{}"), "3rd: the key");
	for (size_t i = 0; i < NELEM(wrong); i++) {
		key = wrong[i];
		want(403,
			*key ? "{\"detail\":\"Invalid API Key\"}"
			     : "{\"detail\":\"API Key header is missing\"}",
			POST(RUN, "{}"), "a wrong key");
	}
	want(403, NULL, call(HTTP_DELETE, RUN, ""), "DELETE needs it too");
	want(403, NULL, POST("/session/", ""), "and an empty body is not looked at");
	key = "secret";
	want(422,
		"{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"commands\"],\"msg\":"
		"\"Field "
		"required\",\"input\":{}}]}",
		POST("/session/" NO_ID "/", "{}"), "4th: the schema");
	want(404, NOT_FOUND, POST("/session/" NO_ID "/", "{\"commands\":[]}"), "5th: the session");
	want(404, NOT_FOUND, POST("/session/no-id/", "{\"commands\":[]}"),
		"a malformed id likewise");
	want(404, NOT_FOUND, POST("/session/%2e%2e/", "{\"commands\":[]}"), "dots likewise");
	want(404, NOT_FOUND, POST("/session/a%2fb/", "{\"commands\":[]}"), "a slash likewise");
	ok(be.opens == opens && be.destroys == 0, "no session was touched");
}

static void test_body(void)
{
	want(422,
		"{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\"],\"msg\":\"Field required\","
		"\"input\":null}]}",
		POST(RUN, ""), "empty body");
	want(422, NULL, POST(RUN, "null"), "null");
	ok(strstr(rs.body.p, "\"missing\",\"loc\":[\"body\"]") != NULL, "is missing too");
	want(422,
		"{\"detail\":[{\"type\":\"model_attributes_type\",\"loc\":[\"body\"],\"msg\":"
		"\"Input "
		"should be a valid dictionary or object to extract fields from\",\"input\":[1]}]}",
		POST(RUN, "[1]"), "a list");
	want(422, NULL, POST(RUN, "7"), "a number");
	ok(strstr(rs.body.p, "\"input\":7}") != NULL, "is echoed");
	type = "text/plain";
	want(422,
		"{\"detail\":[{\"type\":\"model_attributes_type\",\"loc\":[\"body\"],\"msg\":"
		"\"Input "
		"should be a valid dictionary or object to extract fields from\",\"input\":"
		"\"{\\\"commands\\\":[]}\"}]}",
		POST(RUN, "{\"commands\":[]}"), "text/plain");
	type = "application/vnd.x+json; charset=utf-8";
	want(200, NULL, POST(RUN, "{\"commands\":[]}"), "+json");
	type = NULL;
	want(200, NULL, POST(RUN, "{\"commands\":[]}"), "no content type");
	type = "Application/JSON;charset=utf-8";
	want(200, NULL, POST(RUN, "{\"commands\":[]}"), "in capitals");
	type = "application/json";
	input_fail = ERR_REQUEST;
	want(400, "{\"detail\":\"the body is not as announced\"}", POST(RUN, "{\"comm"),
		"short body");
	input_fail = ERR_LIMIT;
	want(413, "{\"detail\":\"the body is not as announced\"}", POST(RUN, "{\"comm"),
		"long body");
	input_fail = 0;
	conf_set(&conf, "json_max_bytes", "1024", NULL);
	{
		char big[1200];

		snprintf(big, sizeof big, "{\"commands\":[\"%1100s\"]}", "x");
		want(413,
			"{\"detail\":\"the JSON body without its archive is larger than 1024 "
			"bytes\"}",
			POST(RUN, big), "over json_max_bytes");
	}
	conf_set(&conf, "json_max_bytes", "8388608", NULL);
}

static void test_create_refusals(void)
{
	unsigned creates = be.creates;

	want(422, VALUE_ERROR("\"base_image\"", "not an image reference", "\"no image\""),
		POST("/session/", "{\"base_image\":\"no image\"}"), "image reference");
	want(422, NULL, POST("/session/", "{\"base_image\":\"host\\u0000x\"}"), "NUL in it");
	want(422,
		VALUE_ERROR("\"environment\",\"A-B\"",
			"a variable's name must match [A-Za-z_][A-Za-z0-9_]*", "\"x\""),
		POST("/session/", "{\"base_image\":\"host\",\"environment\":{\"A-B\":\"x\"}}"),
		"variable name");
	want(422, NULL, POST("/session/", "{\"base_image\":\"host\",\"environment\":{\"\":\"x\"}}"),
		"no name");
	want(422, NULL,
		POST("/session/", "{\"base_image\":\"host\",\"environment\":{\"1A\":\"x\"}}"),
		"name with a digit first");
	want(422,
		VALUE_ERROR("\"environment\",\"A\"", "a variable must not contain a NUL character",
			"\"x\\u0000y\""),
		POST("/session/",
			"{\"base_image\":\"host\",\"environment\":{\"A\":\"x\\u0000y\"}}"),
		"NUL in a variable");
	conf_set(&conf, "environment_max_bytes", "8", NULL);
	want(200, NULL,
		POST("/session/", "{\"base_image\":\"host\",\"environment\":{\"A\":\"12345\"}}"),
		"8 bytes of environment fit");
	want(422, NULL,
		POST("/session/", "{\"base_image\":\"host\",\"environment\":{\"A\":\"123456\"}}"),
		"9 do not");
	conf_set(&conf, "environment_max_bytes", "65536", NULL);
	want(422,
		PROBLEM("greater_than_equal", "\"memory_bytes\"",
			"Input should be greater than or equal to 0", "-1", ",\"ctx\":{\"ge\":0}"),
		POST("/session/", "{\"base_image\":\"host\",\"memory_bytes\":-1}"), "memory");
	want(422, NULL, POST("/session/", "{\"base_image\":\"host\",\"cpus\":-0.5}"), "cpus");
	want(422, NULL, POST("/session/", "{\"base_image\":\"host\",\"cpus\":1e999}"),
		"infinite cpus");
	want(422,
		PROBLEM("unenforceable_limit", "\"network_enabled\"",
			"Network access is not allowed on this host (network = none in "
			"sandbox.conf)",
			"true", ""),
		POST("/session/", "{\"base_image\":\"host\",\"network_enabled\":true}"), "network");
	want(422, NULL, POST("/session/", "{\"base_image\":\"host\",\"dockerfile\":\"FROM x\"}"),
		"dockerfile");
	ok(be.creates == creates + 1, "none of them made a session");
}

static void test_create_failures(void)
{
	be.fail_at = 'c';
	err_set(&be.fail, ERR_NOTFOUND, 0, "no image \"x\": type cgibox image pull x");
	want(422,
		PROBLEM("image_not_found", "\"base_image\"",
			"no image \\\"x\\\": type cgibox image pull x", "\"x\"", ""),
		POST("/session/", "{\"base_image\":\"x\"}"), "no such image");
	err_set(&be.fail, ERR_LIMIT, 0, "memory_bytes: no cgroup here");
	want(422, PROBLEM("unenforceable_limit", "\"memory_bytes\"", "no cgroup here", "64", ""),
		POST("/session/", "{\"base_image\":\"x\",\"memory_bytes\":64}"),
		"a limit not held");
	err_set(&be.fail, ERR_BUSY, EUSERS, "1000 sessions");
	want(503, "{\"detail\":\"Service is busy, try again later\"}",
		POST("/session/", "{\"base_image\":\"x\"}"), "admission");
	ok(rs.retry_after_s > 0, "with Retry-After");
	err_set(&be.fail, ERR_SETUP, EACCES, "open /var/lib/cgibox/secret");
	want(500,
		"{\"detail\":\"Internal Server Error; the log has the details of request "
		"0123456789abcdef\"}",
		POST("/session/", "{\"base_image\":\"x\"}"), "our own trouble, without paths");
	be.fail_at = 0;
}

static void test_create(void)
{
	be.unenforced = UNENFORCED_MEMORY | UNENFORCED_CPUS;
	want(200, "{\"session_id\":\"" ID "\",\"unenforced\":[\"memory_bytes\",\"cpus\"]}",
		POST("/session/", "{\"base_image\":\"x\",\"memory_bytes\":64,\"cpus\":1}"),
		"limits that are reported and not held");
	be.unenforced = UNENFORCED_CPUS;
	want(200, "{\"session_id\":\"" ID "\",\"unenforced\":[\"cpus\"]}",
		POST("/session/", "{\"base_image\":\"x\",\"cpus\":1}"), "one of them");
	be.unenforced = 0;
	want(200, "{\"session_id\":\"" ID "\"}",
		POST("/api/v1/session", "{\"base_image\":\"python:3.12\"}"), "defaults");
	ok(!strcmp(be.spec.image, "python:3.12") && !be.spec.ephemeral && !be.spec.extract_patch &&
			!be.spec.network && be.spec.memory_bytes == 0 && be.spec.cpus == 0 &&
			be.spec.env_bytes == 0,
		"the spec's defaults");
	want(200, NULL,
		POST("/session/",
			"{\"base_image\":\"host\",\"ephemeral\":true,\"extract_patch\":\"yes\","
			"\"network_enabled\":false,\"environment\":{\"A\":\"1\",\"_b2\":"
			"\"\xc3\xa9\"},"
			"\"memory_bytes\":\"1048576\",\"cpus\":1.5,\"dockerfile\":null,\"later\":{}"
			"}"),
		"everything");
	ok(be.spec.ephemeral && be.spec.extract_patch && be.spec.memory_bytes == 1048576 &&
			be.spec.cpus == 1.5,
		"the spec");
	ok(be.spec.env_bytes == 11 && !memcmp(be.env, "A=1\0_b2=\xc3\xa9\0", 11),
		"the environment");
	POST("/session/", "{\"base_image\":\"host\",\"persist_workdir\":false}");
	ok(be.spec.ephemeral, "persist_workdir false is ephemeral");
	POST("/session/", "{\"base_image\":\"host\",\"persist_workdir\":true}");
	ok(!be.spec.ephemeral, "true is not");
	POST("/session/",
		"{\"base_image\":\"host\",\"persist_workdir\":false,\"ephemeral\":false}");
	ok(!be.spec.ephemeral, "the new name wins");
	conf_set(&conf, "network", "host", NULL);
	want(200, NULL, POST("/session/", "{\"base_image\":\"host\",\"network_enabled\":true}"),
		"network where it is allowed");
	ok(be.spec.network, "is asked for");
	conf_set(&conf, "network", "none", NULL);
	want(204, "", call(HTTP_DELETE, RUN, ""), "DELETE");
	ok(be.destroys == 1 && !rs.content_type, "destroyed, without a body");
	want(204, "", call(HTTP_DELETE, "/session/nonsense", ""), "DELETE of no id");
	ok(be.destroys == 1, "asks nobody");
	be.fail_at = 'd';
	err_set(&be.fail, ERR_BUSY, EWOULDBLOCK, "lock");
	want(409, "{\"detail\":\"Session is busy\"}", call(HTTP_DELETE, RUN, ""), "DELETE, locked");
	be.fail_at = 0;
}

int main(void)
{
	if (!app_start())
		return done();
	test_routes();
	test_order();
	test_body();
	test_create();
	test_create_refusals();
	test_create_failures();
	return app_stop();
}

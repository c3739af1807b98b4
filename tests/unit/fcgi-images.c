/* The images API over a backend of the test's own: names in paths, answers, streams. */
#include "tests/unit/app.h"

static const char *GET(const char *uri)
{
	return call(HTTP_GET, uri, "");
}

/* How a reference is found in a path. */
static void named(const char *uri, const char *ref)
{
	be.image_text = "{\"id\":\"x\",\"lowers\":[]}";
	GET(uri);
	ok(rs.status == 200 && be.image_verb == IMAGE_INSPECT && !strcmp(be.image_ref, ref),
		"%s is %s", uri, ref);
	if (strcmp(be.image_ref, ref) != 0)
		printf("# got: %s, %d\n", be.image_ref, rs.status);
}

static void names(void)
{
	named("/api/v1/images/debian", "debian");
	named("/images/debian:12/", "debian:12");
	named("/api/v1/images/docker.io/library/debian:12", "docker.io/library/debian:12");
	named("/api/v1/images/docker.io%2Flibrary%2Fdebian%3A12", "docker.io/library/debian:12");
	named("/api/v1/images/127.0.0.1:5000/a/b@sha256:00", "127.0.0.1:5000/a/b@sha256:00");
	named("/api/v1/images/pull", "pull");
	want(404, "{\"detail\":\"Not Found\"}", GET("/api/v1/images//x"), "an empty segment");
	want(405, NULL, call(HTTP_PUT, "/api/v1/images/x", ""), "another method");
	key = NULL;
	want(403, NULL, GET("/api/v1/images/"), "a list without the key");
	want(403, NULL, call(HTTP_DELETE, "/api/v1/images/x", ""), "a removal without the key");
	want(403, NULL, call(HTTP_POST, "/api/v1/images/pull", "{\"image\":\"x\"}"),
		"a pull without the key");
	key = "secret";
}

static void answers(void)
{
	be.image_text = "[{\"reference\":\"host\"}]\n";
	want(200, "[{\"reference\":\"host\"}]", GET("/api/v1/images/"), "the list");
	be.image_text = "{}";
	want(500, NULL, GET("/api/v1/images/"), "a list that is none");
	be.image_text = "";
	want(500, NULL, GET("/api/v1/images/x"), "an empty answer");
	be.image_text = "{\"id\":\"a\",\"lowers\":[\"/s/images/layers/x/images/layers/"
			"0123456789012345678901234567890123456789012345678901234567890123/fs\"],"
			"\"binds\":[\"/usr\"]}";
	want(200,
		"{\"id\":\"a\",\"layers\":["
		"\"0123456789012345678901234567890123456789012345678901234567890123\"]}",
		GET("/images/x"), "no path of the host is shown");
	be.image_text = "{\"event\":\"removed\",\"what\":\"reference\",\"name\":\"x\"}\n"
			"{\"event\":\"kept\",\"what\":\"layer\",\"by\":\"session\"}\n";
	want(200,
		"{\"removed\":[{\"what\":\"reference\",\"name\":\"x\"}],"
		"\"kept\":[{\"what\":\"layer\",\"by\":\"session\"}]}",
		call(HTTP_DELETE, "/images/x", ""), "what was removed, and what was not");
	want(422, NULL, call(HTTP_DELETE, "/images/host", ""), "host stays");
}

static void failures(void)
{
	static const struct {
		int code, status;
	} codes[] = {{66, 404}, {65, 422}, {75, 503}, {71, 500}, {-1, 500}};

	be.image_text = "{\"event\":\"error\",\"message\":\"malformed\"}\n";
	for (size_t i = 0; i < NELEM(codes); i++) {
		be.image_code = codes[i].code;
		want(codes[i].status, NULL, GET("/images/x"), "an error of the program");
	}
	be.image_code = 65;
	want(422, "{\"detail\":\"malformed\"}", GET("/images/x"), "with its message");
	be.image_code = 0;
	be.fail_at = 'i';
	err_set(&be.fail, ERR_BUSY, EUSERS, "busy");
	want(503, NULL, GET("/images/x"), "too many at once");
	want(503, NULL, call(HTTP_POST, "/images/pull", "{\"image\":\"x\"}"), "too many pulls");
	err_set(&be.fail, ERR_REQUEST, 0, "not allowed");
	want(422, "{\"detail\":\"not allowed\"}",
		call(HTTP_POST, "/images/pull", "{\"image\":\"x\"}"), "pulls that are not allowed");
	be.fail_at = 0;
	want(422, NULL, call(HTTP_POST, "/images/pull", "{}"), "no image");
	want(422, NULL, call(HTTP_POST, "/images/pull", "{\"image\":1}"),
		"an image that is a number");
}

/* Feeds one line through and compares what comes out. */
static void line(const char *in, const char *expect, const char *what)
{
	struct buf out = BUF_INIT(4096);

	rs.line(&rs, in, &out);
	is_str(out.p ? out.p : "", expect, what);
	buf_clear(&out);
}

static void stream(void)
{
	be.image_text = "";
	want(200, "{\"event\":\"start\",\"image\":\"a\\\"b\"}\n",
		call(HTTP_POST, "/images/pull", "{\"image\":\"a\\\"b\"}"),
		"a pull begins with an event");
	is_str(be.image_ref, "a\"b", "the name as it was given");
	if (!ok(rs.line != NULL, "and streams"))
		return;
	is_str(rs.content_type, "application/x-ndjson", "as lines of JSON");
	line("{\"event\":\"layer\",\"bytes\":1}", "{\"event\":\"layer\",\"bytes\":1}\n",
		"progress");
	line("noise", "", "what is no event is left out");
	line("{\"event\":\"error\",\"message\":\"open /s/images\"}",
		"{\"event\":\"error\",\"message\":\"open STATE/images\"}\n",
		"an error without our paths");
	line("{\"event\":\"done\"}", "", "nothing follows the last event");
	line(NULL, "", "an end that was told");
	close(rs.stream);
	call(HTTP_POST, "/images/pull", "{\"image\":\"x\"}");
	line("{\"event\":\"layer\"}", "{\"event\":\"layer\"}\n", "progress of another");
	line(NULL, "{\"event\":\"error\",\"message\":\"the puller died\"}\n",
		"an end that was not told");
	close(rs.stream);
}

int main(void)
{
	struct err e;

	if (!app_start())
		return done();
	ok(conf_set(&conf, "state_dir", "/s", &e) == 0, "a state directory");
	names();
	answers();
	failures();
	stream();
	return app_stop();
}

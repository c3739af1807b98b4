/* What passes between a client and a server inside a sandbox, at the edges of its limits; names and places of volumes. */
#include <stdlib.h>

#include "fcgi/forward.h"
#include "fcgi/upstream.h"
#include "fcgi/volume_name.h"
#include "isolate/conf.h"
#include "tests/unit/tap.h"

#define STATUS "HTTP/1.1 200 OK\r\n"

/* A head whose one header makes it n bytes long. */
static char *head_of(size_t n)
{
	char *p = malloc(n + 1);
	size_t at = (size_t)snprintf(p, n + 1, "%sA: ", STATUS);

	memset(p + at, 'x', n - at);
	memcpy(p + n - 4, "\r\n\r\n", 5);
	return p;
}

static void test_head(void)
{
	char *p = head_of(UPSTREAM_HEAD_MAX), *q = head_of(UPSTREAM_HEAD_MAX + 1);
	struct upstream_head h;
	struct err e;

	ok(upstream_head_size(p, UPSTREAM_HEAD_MAX) == UPSTREAM_HEAD_MAX, "the longest head");
	ok(upstream_head_parse(p, UPSTREAM_HEAD_MAX, &h, NULL, NULL, &e) == 0, "is good");
	ok(upstream_head_size(q, UPSTREAM_HEAD_MAX + 1) == -1, "one byte more is not");
	ok(upstream_head_size(p, UPSTREAM_HEAD_MAX - 1) == 0, "nor is it there before its end");
	ok(upstream_head_size("\r\n", 2) == 2, "an empty line ends it at once");
	ok(upstream_head_parse("\r\n", 2, &h, NULL, NULL, &e) < 0, "which is no status line");
	free(p);
	free(q);
}

/* The result for prefix, n times ch, and suffix, in a chunked body. */
static int chunked(const char *prefix, size_t n, char ch, const char *suffix, bool *ended)
{
	struct upstream_head h = {.status = 200, .length = -1, .chunked = true};
	struct buf out = BUF_INIT(1 << 20), in = BUF_INIT(1 << 20);
	struct upstream_body b;
	int ret;

	buf_adds(&in, prefix);
	for (size_t i = 0; i < n; i++)
		buf_addc(&in, ch);
	buf_adds(&in, suffix);
	upstream_body_init(&b, &h, false);
	ret = upstream_body_feed(&b, in.p, in.len, &out, NULL);
	*ended = b.done;
	buf_clear(&out);
	buf_clear(&in);
	return ret;
}

static void test_chunks(void)
{
	bool ended;

	ok(chunked("1;", UPSTREAM_LINE_MAX - 3, 'x', "\r\na\r\n0\r\n\r\n", &ended) == 0 && ended,
		"the longest extension");
	ok(chunked("1;", UPSTREAM_LINE_MAX - 2, 'x', "\r\na\r\n0\r\n\r\n", &ended) < 0,
		"and a longer one");
	ok(chunked("", 14, '0', "1\r\na\r\n0\r\n\r\n", &ended) == 0 && ended, "15 digits");
	ok(chunked("", 15, '0', "1\r\na\r\n0\r\n\r\n", &ended) < 0, "16 digits");
	ok(chunked("0\r\n", UPSTREAM_TRAILERS_MAX - 4, 'x', "\r\n\r\n", &ended) == 0 && ended,
		"the longest trailers");
	ok(chunked("0\r\n", UPSTREAM_TRAILERS_MAX - 3, 'x', "\r\n\r\n", &ended) < 0,
		"and longer ones");
	ok(chunked("1\r\nab", 0, 0, "\r\n", &ended) < 0, "a chunk longer than it says");
	ok(chunked("3\r\nabc", 0, 0, "", &ended) == 0 && !ended, "half a body has not ended");
}

static char *request_of(char *const *params, const char *target)
{
	struct forward f = {.params = params,
		.method = "GET",
		.prefix = "/p",
		.target = target,
		.port = 8080,
		.mark = "m_",
		.keys = {"the-key", "metrics"},
		.page_rights = ""};
	struct buf out = BUF_INIT(65536);

	if (!forward_request(&f, &out)) {
		buf_clear(&out);
		return NULL;
	}
	return buf_take(&out);
}

/* Whether the request made of one parameter holds the text. */
static bool goes_in(const char *param, const char *text)
{
	char *copy = strdup(param);
	char *const params[] = {copy, NULL};
	char *got = request_of(params, "/");
	bool found = got && strstr(got, text);

	free(got);
	free(copy);
	return found;
}

static void test_request(void)
{
	static char user[] = "REMOTE_USER=me", basic[] = "HTTP_AUTHORIZATION=Basic abc";
	char *const both[] = {user, basic, NULL}, *const none[] = {NULL};
	char *got = request_of(both, "/");

	ok(goes_in("HTTP_AUTHORIZATION=Basic abc", "Authorization: Basic abc"),
		"a password of the application");
	ok(got && !strstr(got, "abc"), "not one that the web server asked for");
	free(got);
	ok(!goes_in("HTTP_AUTHORIZATION=Bearer the-key", "the-key"), "not the key");
	ok(!goes_in("HTTP_AUTHORIZATION=Bearer metrics", "metrics"), "nor that of the metrics");
	ok(!goes_in("HTTP_X_API_KEY=the-key", "the-key"), "in no header");
	ok(goes_in("HTTP_COOKIE=a=1; m_b=2;m_c=3", "Cookie: b=2; c=3\r\n"), "marked cookies");
	ok(!goes_in("HTTP_X_A=1\r\nB: 2", "B: 2"), "no line end in a value");
	ok(!goes_in("HTTP_X A=1", "X A"), "no blank in a name");
	ok(!goes_in("HTTP_TRANSFER_ENCODING=chunked", "chunked"), "no framing of the client's");
	ok((got = request_of(none, "/a b")) == NULL, "no blank in a path");
	got = request_of(none, "?q=1");
	ok(got && !strncmp(got, "GET /?q=1 HTTP/1.1\r\n", 20), "a query alone");
	free(got);
}

static void test_cookie(void)
{
	static const char value[] = "a=1; Domain\t=b.c; domain =b.c;\tDOMAIN=b.c; Secure";
	const struct forward f = {.prefix = "/p", .mark = "m_", .keys = {"", ""}, .port = 80};
	OWN_BUF out = BUF_INIT(1000);

	forward_header(&f, 200, "Set-Cookie", 10, value, sizeof value - 1, &out);
	ok(buf_ok(&out) && !strcmp(out.p, "Set-Cookie: m_a=1; Secure; Path=/p/\r\n"),
		"no cookie of a domain, however it is written");
}

static void test_volumes(void)
{
	char name[80];
	struct conf c;
	struct err e;

	memset(name, 'a', sizeof name);
	name[VOLUME_SHARED_MAX] = '\0';
	ok(volume_shared_ok(name), "the longest name");
	name[VOLUME_SHARED_MAX] = 'a';
	name[VOLUME_SHARED_MAX + 1] = '\0';
	ok(!volume_shared_ok(name), "a longer one");
	ok(volume_name_ok("01234567-89ab-4def-8123-456789abcdef.v"), "a session's own");
	ok(!volume_name_ok("01234567-89ab-4def-8123-456789abcdef.."), "not its parent");
	ok(!volume_name_ok("..") && !volume_name_ok("a/b") && !volume_name_ok(""), "no paths");
	ok(!volume_path_fault("/mnt/x") && !volume_path_fault("/procs"), "places");
	ok(volume_path_fault("/proc") && volume_path_fault("/a/..") && volume_path_fault("/") &&
			volume_path_fault("/a/"),
		"and none");
	conf_init(&c);
	ok(conf_set(&c, "manager_page_rights", "allow-scripts allow-forms", &e) == 0,
		"page rights");
	ok(conf_set(&c, "manager_page_rights", "allow-scripts allow-same-origin", &e) < 0 &&
			conf_set(&c, "manager_page_rights", "x; script-src *", &e) < 0 &&
			conf_set(&c, "manager_page_rights", "allow-scripts; x", &e) < 0,
		"but the origin, and other words");
	conf_clear(&c);
}

int main(void)
{
	test_head();
	test_chunks();
	test_request();
	test_cookie();
	test_volumes();
	return done();
}

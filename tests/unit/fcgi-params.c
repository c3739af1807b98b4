#include "fcgi/params.h"

#include <stdlib.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

#define BYTES(s) s, sizeof(s) - 1

static const struct {
	const char *what, *bytes;
	size_t n;
	long count; /* -1: refused */
} scans[] = {
	{"nothing", BYTES(""), 0},
	{"two", BYTES("\1\1ab\1\1cd"), 2},
	{"an empty value", BYTES("\1\0a"), 1},
	{"a name twice that decides nothing", BYTES("\1\1ab\1\1ac"), 2},
	{"an empty name", BYTES("\0\1b"), -1},
	{"\"=\" in a name", BYTES("\3\1a=bc"), -1},
	{"\"=\" in a value", BYTES("\1\3ab=c"), 1},
	{"NUL in a name", BYTES("\3\1a\0bc"), -1},
	{"NUL in a value", BYTES("\1\3ab\0c"), -1},
	{"cut short", BYTES("\1\1ab\1\2cd"), -1},
	{"one byte left over", BYTES("\1\1ab\1"), -1},
	{"REMOTE_ADDR twice", BYTES("\x0b\1REMOTE_ADDRa\x0b\1REMOTE_ADDRa"), -1},
	{"HTTP_X_API_KEY twice", BYTES("\x0e\1HTTP_X_API_KEYa\x0e\1HTTP_X_API_KEYb"), -1},
	{"a longer name is another", BYTES("\x0e\1HTTP_X_API_KEYa\x0f\1HTTP_X_API_KEYSb"), 2},
	{"a shorter name is another", BYTES("\x0e\1HTTP_X_API_KEYa\x0d\1HTTP_X_API_KEb"), 2},
};

static const struct {
	const char *what, *envp[5];
	int rc;
	int64_t length;
} takes[] = {
	{"least", {"REQUEST_METHOD=GET", "REQUEST_URI=/"}, 0, -1},
	{"an empty length", {"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH="}, 0, -1},
	{"a length", {"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH=0012"}, 0, 12},
	{"the largest",
		{"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH=9223372036854775807"}, 0,
		INT64_MAX},
	{"one more", {"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH=9223372036854775808"},
		0, INT64_MAX},
	{"far more",
		{"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH=99999999999999999999999"},
		0, INT64_MAX},
	{"negative", {"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH=-1"}, -1, 0},
	{"a sign", {"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH=+1"}, -1, 0},
	{"a blank", {"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH= 1"}, -1, 0},
	{"hexadecimal", {"REQUEST_METHOD=GET", "REQUEST_URI=/", "CONTENT_LENGTH=0x1"}, -1, 0},
	{"no method", {"REQUEST_URI=/"}, -1, 0},
	{"an empty method", {"REQUEST_METHOD=", "REQUEST_URI=/"}, -1, 0},
	{"no URI", {"REQUEST_METHOD=GET"}, -1, 0},
	{"an empty URI", {"REQUEST_METHOD=GET", "REQUEST_URI="}, -1, 0},
	{"a blank in the URI", {"REQUEST_METHOD=GET", "REQUEST_URI=/a b"}, -1, 0},
	{"a line break in the URI", {"REQUEST_METHOD=GET", "REQUEST_URI=/a\n"}, -1, 0},
	{"DEL in the URI", {"REQUEST_METHOD=GET", "REQUEST_URI=/a\x7f"}, -1, 0},
	{"a byte above ASCII in the URI", {"REQUEST_METHOD=GET", "REQUEST_URI=/\xc3\xa9"}, -1, 0},
};

static void test_scan(void)
{
	for (size_t i = 0; i < NELEM(scans); i++) {
		uint8_t *p = malloc(scans[i].n + !scans[i].n);
		struct err e = {0};
		size_t count = 99;
		int rc;

		memcpy(p, scans[i].bytes, scans[i].n);
		rc = params_scan(p, scans[i].n, &count, &e);
		ok(scans[i].count < 0 ? rc == -1 && e.kind == ERR_REQUEST
				      : rc == 0 && count == (size_t)scans[i].count,
			"scan: %s: %d, %zu", scans[i].what, rc, count);
		free(p);
	}
}

static void test_take(void)
{
	for (size_t i = 0; i < NELEM(takes); i++) {
		struct http_request rq = {0};
		struct err e = {0};
		int rc = params_take(&rq, (char *const *)takes[i].envp, &e);

		ok(rc == takes[i].rc && (rc == 0 ? rq.content_length == takes[i].length
						 : e.kind == ERR_REQUEST),
			"take: %s: %d, %lld", takes[i].what, rc, (long long)rq.content_length);
	}
}

static void test_fields(void)
{
	const char *envp[] = {"REQUEST_METHODX=PUT", "REQUEST_METHOD=POST", "REQUEST_URI=/a?b=c",
		"HTTP_X_API_KEY=k=1", "CONTENT_TYPE=", "REMOTE_ADDR=::1", NULL};
	struct http_request rq = {0};
	struct err e;

	ok(params_take(&rq, (char *const *)envp, &e) == 0 && rq.method == HTTP_POST,
		"the whole name counts");
	is_str(rq.uri, "/a?b=c", "URI");
	is_str(rq.api_key, "k=1", "key");
	is_str(rq.remote_addr, "::1", "peer");
	ok(!rq.content_type, "an empty type is none");
	envp[1] = "REQUEST_METHOD=post";
	ok(params_take(&rq, (char *const *)envp, &e) == 0 && rq.method == HTTP_OTHER,
		"methods have a case");
}

int main(void)
{
	test_scan();
	test_take();
	test_fields();
	return done();
}

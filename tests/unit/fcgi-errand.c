#include "fcgi/errand.h"

#include <stdlib.h>

#include "fcgi/record.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

enum { BYTES_MAX = 4096 };

struct bytes {
	uint8_t p[BYTES_MAX];
	size_t n;
};

static void add(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n > sizeof b->p)
		abort();
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void add_header(struct bytes *b, uint8_t type, size_t content)
{
	uint8_t h[REC_HEADER];

	record_encode(h, type, 1, (uint16_t)content);
	add(b, h, sizeof h);
}

static void add_begin(struct bytes *b)
{
	add_header(b, REC_BEGIN, REC_BEGIN_BODY);
	add(b, "\0\1\0\0\0\0\0", REC_BEGIN_BODY);
}

static void add_pair(struct bytes *b, const char *name, const char *value)
{
	uint8_t sizes[2] = {(uint8_t)strlen(name), (uint8_t)strlen(value)};

	add(b, sizes, sizeof sizes);
	add(b, name, sizes[0]);
	add(b, value, sizes[1]);
}

static void add_pairs(struct bytes *b, const char *method, const char *uri)
{
	add_pair(b, "SERVER_SOFTWARE", "a web server");
	if (uri)
		add_pair(b, "REQUEST_URI", uri);
	add_pair(b, "HTTP_X", "GET");
	if (method)
		add_pair(b, "REQUEST_METHOD", method);
	add_pair(b, "HTTP_Y", "/health");
}

static struct bytes request(const char *method, const char *uri)
{
	struct bytes b = {.n = 0}, pairs = {.n = 0};

	add_pairs(&pairs, method, uri);
	add_begin(&b);
	add_header(&b, REC_PARAMS, pairs.n);
	add(&b, pairs.p, pairs.n);
	return b;
}

static int look(const struct bytes *b, size_t n, enum errand *out)
{
	/* On the heap: a sanitizer sees a read past the end. */
	uint8_t *p = malloc(n + !n);
	int known;

	memcpy(p, b->p, n);
	known = errand_of(p, n, out);
	free(p);
	return known;
}

static void test_requests(void)
{
	static const struct {
		const char *method, *uri;
		enum errand want;
	} rows[] = {
		{"GET", "/-/health/", ERRAND_HEALTH},
		{"GET", "/-/health", ERRAND_HEALTH},
		{"HEAD", "/api/v1/health?a=/b", ERRAND_HEALTH},
		{"DELETE", "/-/health/", ERRAND_BRIEF},
		{"POST", "/-/health/", ERRAND_ANY},
		{"GET", "/session/?q=/health", ERRAND_BRIEF},
		{"GET", "/healthy", ERRAND_BRIEF},
		{"GET", "", ERRAND_BRIEF},
		{"DELETE", "/session/x/", ERRAND_BRIEF},
		{"GETS", "/session/", ERRAND_ANY},
		{"get", "/-/health/", ERRAND_ANY},
		{"", "/-/health/", ERRAND_ANY},
		{"PUT", "/session/x/", ERRAND_ANY},
		{NULL, "/-/health/", ERRAND_ANY},
		{"GET", NULL, ERRAND_ANY},
	};

	for (size_t i = 0; i < NELEM(rows); i++) {
		struct bytes b = request(rows[i].method, rows[i].uri);
		enum errand got;
		int known = look(&b, b.n, &got);

		ok(known == 1 && got == rows[i].want, "%s %s: %d",
			rows[i].method ? rows[i].method : "no method",
			rows[i].uri ? rows[i].uri : "no address", (int)got);
	}
}

/* Nothing is said of a request before method and address are there, and then it stays. */
static void test_pieces(void)
{
	struct bytes b = request("GET", "/-/health/");
	size_t first = 0, wrong = 0;

	for (size_t n = 0; n <= b.n; n++) {
		enum errand got;
		int known = look(&b, n, &got);

		if (known && !first)
			first = n;
		wrong += known != (first > 0) || got != (known ? ERRAND_HEALTH : ERRAND_ANY);
	}
	ok(wrong == 0 && first == b.n - strlen("HTTP_Y/health") - 2,
		"byte by byte: known from %zu of %zu on", first, b.n);
}

static void test_others(void)
{
	struct bytes b = {.n = 0}, pairs = {.n = 0};
	enum errand got;

	add_begin(&b);
	ok(look(&b, b.n, &got) == 0, "no parameters yet");
	add_header(&b, REC_PARAMS, 0);
	ok(look(&b, b.n, &got) == 1 && got == ERRAND_ANY, "none at all");

	b.n = 0;
	add_pairs(&pairs, "GET", "/-/health/");
	add_begin(&b);
	add_header(&b, REC_PARAMS, 10);
	add(&b, pairs.p, 10);
	add_header(&b, REC_PARAMS, pairs.n - 10);
	add(&b, pairs.p + 10, pairs.n - 10);
	ok(look(&b, b.n, &got) == 1 && got == ERRAND_ANY, "parameters in two records");

	b.n = 0;
	add(&b, "GET / HTTP/1.1\r\n", 16);
	ok(look(&b, b.n, &got) == 1 && got == ERRAND_ANY, "HTTP");
	b.n = 0;
	add_begin(&b);
	add_begin(&b);
	add(&b, pairs.p, pairs.n);
	ok(look(&b, b.n, &got) == 1 && got == ERRAND_ANY, "begun twice");
}

int main(void)
{
	test_requests();
	test_pieces();
	test_others();
	return done();
}

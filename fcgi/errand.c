#include "fcgi/errand.h"

#include <stdbool.h>
#include <string.h>

#include "fcgi/gate.h"
#include "fcgi/record.h"

struct text {
	const uint8_t *p; /* NULL: not seen yet */
	size_t n;
};

static bool is(struct text t, const char *s)
{
	return t.n == strlen(s) && memcmp(t.p, s, t.n) == 0;
}

static bool ends_in(struct text t, const char *s)
{
	size_t n = strlen(s);

	return t.n >= n && memcmp(t.p + t.n - n, s, n) == 0;
}

static enum errand judge(struct text method, struct text uri)
{
	const uint8_t *query = memchr(uri.p, '?', uri.n);
	bool looks = is(method, "GET") || is(method, "HEAD");

	if (query)
		uri.n = (size_t)(query - uri.p);
	if (looks && (ends_in(uri, "/health") || ends_in(uri, "/health/")))
		return ERRAND_HEALTH;
	return looks || is(method, "DELETE") ? ERRAND_BRIEF : ERRAND_ANY;
}

/* False: the two are not among the pairs that are complete. */
static bool find(const uint8_t *p, size_t n, enum errand *out)
{
	struct text method = {NULL, 0}, uri = {NULL, 0};
	struct record_pair pair;
	long used;

	for (; n && (used = record_pair(p, n, &pair)) >= 0; p += used, n -= (size_t)used) {
		struct text name = {pair.name, pair.name_len};

		if (is(name, "REQUEST_METHOD"))
			method = (struct text){pair.value, pair.value_len};
		else if (is(name, "REQUEST_URI"))
			uri = (struct text){pair.value, pair.value_len};
		if (method.p && uri.p) {
			*out = judge(method, uri);
			return true;
		}
	}
	return false;
}

int errand_of(const uint8_t *p, size_t n, enum errand *out)
{
	struct gate g = gate_new(SIZE_MAX);
	struct record r;

	*out = ERRAND_ANY;
	while (n >= REC_HEADER) {
		enum gate_verdict v;
		size_t rest;

		if (!record_decode(p, &r))
			return 1;
		v = gate_next(&g, &r);
		p += REC_HEADER;
		n -= REC_HEADER;
		if (v == GATE_PARAMS)
			return find(p, n < r.content ? n : r.content, out) || n >= r.content;
		if (v == GATE_DONE || v == GATE_ABORT || v == GATE_BAD)
			return 1;
		rest = (size_t)r.content + r.padding;
		if (rest > n)
			return 0;
		p += rest;
		n -= rest;
	}
	return 0;
}

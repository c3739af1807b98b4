/* A peer's bytes through the gate as a worker goes through them: bounded, and never out of order. */
#include "fcgi/record.h"

#include <stdlib.h>

#include "fcgi/gate.h"

enum { MAX = 300 };

static void take(const uint8_t *p, size_t n)
{
	struct gate g = gate_new(MAX);
	size_t params = 0;
	bool body = false;

	while (n >= REC_HEADER) {
		uint8_t out[REC_VALUES_MAX];
		enum gate_verdict v;
		struct record r;

		if (!record_decode(p, &r))
			return;
		v = body ? gate_body(&g, &r) : gate_next(&g, &r);
		p += REC_HEADER;
		n -= REC_HEADER;
		if (r.content > n || r.padding > n - r.content)
			return;
		if (v == GATE_BAD || v == GATE_ABORT)
			return;
		if ((v == GATE_PARAMS || v == GATE_BODY || v == GATE_DONE) && !g.begun)
			abort();
		if (v == GATE_BEGIN && (r.content != REC_BEGIN_BODY || r.id == 0))
			abort();
		if (v == GATE_PARAMS && (params += r.content) > MAX)
			abort();
		if (v == GATE_VALUES && record_values(p, r.content, out) > REC_VALUES_MAX)
			abort();
		if (v == GATE_BEGIN && !gate_begin(&g, p))
			return;
		if (v == GATE_DONE && body)
			return;
		body = body || v == GATE_DONE;
		p += r.content + r.padding;
		n -= (size_t)r.content + r.padding;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct record_pair pair;
	uint16_t id;

	if (gate_peek(p, n < GATE_PEEK ? n : GATE_PEEK, &id) == 1 && n < REC_HEADER)
		abort();
	take(p, n);
	for (long used; n && (used = record_pair(p, n, &pair)) >= 0; p += used, n -= (size_t)used)
		if (pair.value + pair.value_len > p + n)
			abort();
	return 0;
}

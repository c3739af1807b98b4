/* The answer of a server inside a sandbox: any bytes, in pieces of any size, give the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/forward.h"
#include "fcgi/upstream.h"

static char host[] = "HTTP_HOST=h", cookie[] = "HTTP_COOKIE=m_a=1; b=2";
static char *const params[] = {host, cookie, NULL};
static const struct forward fw = {.params = params,
	.method = "GET",
	.prefix = "/p/ports/80",
	.target = "/",
	.port = 80,
	.mark = "m_",
	.keys = {"", ""},
	.page_rights = ""};

static void pass(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
	forward_header(&fw, 302, name, name_len, value, value_len, arg);
}

/* Decodes in steps; -1 when it is malformed. */
static int decode(const struct upstream_head *h, const char *p, size_t n, size_t step,
	struct buf *out, struct upstream_body *b)
{
	upstream_body_init(b, h, false);
	for (size_t at = 0; at < n && !b->done; at += step) {
		size_t k = n - at < step ? n - at : step;

		if (upstream_body_feed(b, p + at, k, out, NULL) < 0)
			return -1;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct buf headers = BUF_INIT(1 << 20), whole = BUF_INIT(1 << 20),
		   steps = BUF_INIT(1 << 20);
	const char *p = (const char *)data;
	struct upstream_body a, b;
	struct upstream_head h;
	struct err e;
	long size = upstream_head_size(p, n);
	int x, y;

	if (size <= 0 || upstream_head_parse(p, (size_t)size, &h, pass, &headers, &e) < 0) {
		buf_clear(&headers);
		return 0;
	}
	/* a line end of a tenant's in a header would be a header of its own */
	for (size_t i = 0; i < headers.len; i++)
		if ((headers.p[i] == '\n') != (i > 0 && headers.p[i - 1] == '\r'))
			abort();
	x = decode(&h, p + size, n - (size_t)size, n + 1, &whole, &a);
	y = decode(&h, p + size, n - (size_t)size, 1, &steps, &b);
	if (x != y || a.done != b.done || (x == 0 && whole.len != steps.len) ||
		(x == 0 && whole.len && memcmp(whole.p, steps.p, whole.len)))
		abort();
	buf_clear(&headers);
	buf_clear(&whole);
	buf_clear(&steps);
	return 0;
}

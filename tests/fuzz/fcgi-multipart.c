/* Forms. The first byte says how the body is cut; what comes out must not depend on that. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/multipart.h"

struct out {
	char p[1 << 16];
	size_t n;
};

static int put(void *arg, const void *p, size_t n, struct err *e)
{
	struct out *o = arg;

	(void)e;
	if (n > sizeof o->p - o->n)
		n = sizeof o->p - o->n;
	if (n)
		memcpy(o->p + o->n, p, n);
	o->n += n;
	return 0;
}

static int begin(void *arg, const char *name, const char *filename, struct err *e)
{
	put(arg, name, strlen(name), e);
	return put(arg, filename, strlen(filename), e);
}

static int end(void *arg, struct err *e)
{
	return put(arg, ";", 1, e);
}

static int parse(const char *p, size_t n, size_t step, struct out *o)
{
	struct multipart m;
	struct err e = {0};

	o->n = 0;
	if (!multipart_init(&m, "multipart/form-data; boundary=b"))
		abort();
	m.begin = begin;
	m.data = put;
	m.end = end;
	m.arg = o;
	for (size_t at = 0; at < n; at += step)
		if (multipart_feed(&m, p + at, n - at < step ? n - at : step, &e) < 0)
			return -1;
	return multipart_end(&m, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct out a, b;
	struct multipart m;
	char *type;
	int ra, rb;

	if (n == 0)
		return 0;
	type = strndup((const char *)p, n);
	if (type)
		multipart_init(&m, type);
	free(type);
	ra = parse((const char *)p + 1, n - 1, n, &a);
	rb = parse((const char *)p + 1, n - 1, (size_t)*p % 7 + 1, &b);
	if (ra != rb || a.n != b.n || memcmp(a.p, b.p, a.n))
		abort();
	return 0;
}

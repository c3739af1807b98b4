#include <stdio.h>
#include <string.h>

#include "fcgi/dialects/native.h"
#include "fcgi/query.h"

int native_flag(struct dialect_call *c, const char *name, bool *out)
{
	char text[64];

	if (query_flag(c->rq->uri, name, out) >= 0)
		return 0;
	snprintf(text, sizeof text, "%s: true or false", name);
	dialect_detail(c, 422, text);
	return -1;
}

int native_word(struct dialect_call *c, const char *name, const char *value, bool *out)
{
	char text[64];
	int got = query_get(c->rq->uri, name, text, sizeof text);

	*out = got > 0;
	if (got == 0 || (got > 0 && !strcmp(text, value)))
		return 0;
	snprintf(text, sizeof text, "%s: %s, or nothing", name, value);
	dialect_detail(c, 422, text);
	return -1;
}

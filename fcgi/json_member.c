#include "fcgi/json_member.h"

#include <stdbool.h>
#include <string.h>

struct cursor {
	const char *p, *end;
};

static void skip_space(struct cursor *c)
{
	while (c->p < c->end && strchr(" \t\r\n", *c->p) && *c->p)
		c->p++;
}

/* From an opening quote to behind the closing one. */
static void skip_string(struct cursor *c)
{
	for (c->p++; c->p < c->end && *c->p != '"'; c->p++)
		if (*c->p == '\\' && c->p + 1 < c->end)
			c->p++;
	c->p += c->p < c->end;
}

/* To the comma or bracket behind a value. */
static void skip_value(struct cursor *c)
{
	unsigned depth = 0;

	for (; c->p < c->end; c->p++) {
		switch (*c->p) {
		case '"':
			skip_string(c);
			c->p--;
			break;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (depth == 0)
				return;
			depth--;
			break;
		case ',':
			if (depth == 0)
				return;
		}
	}
}

const char *json_member(const char *text, size_t n, const char *name, size_t *len)
{
	struct cursor c = {text, text + n};
	size_t want = strlen(name);

	skip_space(&c);
	if (c.p == c.end || *c.p++ != '{')
		return NULL;
	for (skip_space(&c); c.p < c.end && *c.p == '"'; skip_space(&c)) {
		const char *at = c.p + 1;
		bool found;

		skip_string(&c);
		found = (size_t)(c.p - at) == want + 1 && !memcmp(at, name, want);
		skip_space(&c);
		if (c.p >= c.end || *c.p++ != ':')
			return NULL;
		skip_space(&c);
		at = c.p;
		skip_value(&c);
		if (c.p >= c.end)
			return NULL;
		if (found) {
			*len = (size_t)(c.p - at);
			while (*len > 0 && strchr(" \t\r\n", at[*len - 1]))
				(*len)--;
			return at;
		}
		if (*c.p++ != ',')
			return NULL;
	}
	return NULL;
}

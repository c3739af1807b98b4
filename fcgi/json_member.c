#include "fcgi/json_member.h"

#include <stdbool.h>
#include <string.h>

#include "fcgi/utf8.h"

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

size_t json_string_clip(const char *p, size_t n, size_t max)
{
	size_t end = n > 0 ? n - 1 : 0, at = 1;

	if (n < 2 || n - 2 <= max)
		return end;
	while (at < end) {
		size_t step = p[at] != '\\' ? 1 : at + 1 < end && p[at + 1] == 'u' ? 6 : 2;

		/* the other half of a character beyond U+FFFF, which is written as two */
		if (step == 6 && at + 8 <= end && (p[at + 2] | 32) == 'd' &&
			memchr("89abAB", p[at + 3], 6))
			step = 12;
		if (at + step > max + 1)
			break;
		at += step;
	}
	if (at > end)
		at = end;
	return at - utf8_cut_tail(p + 1, at - 1);
}

#include "images/challenge.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "isolate/own.h"

struct cursor {
	const char *p, *end;
};

static void blanks(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
		c->p++;
}

static bool token_char(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* RFC 9110 token; returns its length. */
static size_t word(struct cursor *c, const char **at)
{
	*at = c->p;
	while (c->p < c->end && token_char(*c->p))
		c->p++;
	return (size_t)(c->p - *at);
}

static bool take(struct cursor *c, char what)
{
	if (c->p == c->end || *c->p != what)
		return false;
	c->p++;
	return true;
}

/* A token or a quoted string into out. */
static bool value(struct cursor *c, char *out, size_t size)
{
	size_t n = 0;

	if (!take(c, '"')) {
		while (c->p < c->end && token_char(*c->p) && n + 1 < size)
			out[n++] = *c->p++;
		out[n] = '\0';
		return n > 0 && (c->p == c->end || !token_char(*c->p));
	}
	while (c->p < c->end && *c->p != '"') {
		if (*c->p == '\\' && ++c->p == c->end)
			return false;
		if ((unsigned char)*c->p < 0x20 || *c->p == 0x7f || n + 1 >= size)
			return false;
		out[n++] = *c->p++;
	}
	out[n] = '\0';
	return take(c, '"');
}

static bool store(struct challenge *ch, const char *name, size_t n, const char *text)
{
	const struct {
		const char *name;
		char *to;
		size_t size;
	} known[] = {
		{"realm", ch->realm, sizeof ch->realm},
		{"service", ch->service, sizeof ch->service},
		{"scope", ch->scope, sizeof ch->scope},
		{"error", ch->error, sizeof ch->error},
	};
	size_t len = strlen(text);

	for (size_t i = 0; i < NELEM(known); i++) {
		if (strlen(known[i].name) != n || strncasecmp(known[i].name, name, n) != 0)
			continue;
		if (known[i].to[0] || len >= known[i].size) /* twice: which one holds? */
			return false;
		memcpy(known[i].to, text, len + 1);
	}
	return true;
}

/* name=value; false and the cursor where it was when the next thing is none. */
static int parameter(struct cursor *c, struct challenge *ch)
{
	struct cursor back = *c;
	char text[2048];
	const char *name;
	size_t n = word(c, &name);

	blanks(c);
	if (n == 0 || !take(c, '=')) {
		*c = back;
		return 0;
	}
	blanks(c);
	if (!value(c, text, sizeof text) || !store(ch, name, n, text))
		return -1;
	blanks(c);
	return 1;
}

/* After a scheme: its parameters, separated by commas. A token68 is skipped. */
static int parameters(struct cursor *c, struct challenge *ch)
{
	int r;

	for (;;) {
		struct cursor back = *c;

		while (c->p < c->end && (*c->p == ',' || *c->p == ' ' || *c->p == '\t'))
			c->p++;
		r = parameter(c, ch);
		if (r <= 0) {
			*c = back;
			return r;
		}
		if (c->p < c->end && *c->p != ',')
			return -1;
	}
}

static enum challenge_scheme scheme_of(const char *name, size_t n)
{
	if (n == 6 && !strncasecmp(name, "Bearer", n))
		return CHALLENGE_BEARER;
	return n == 5 && !strncasecmp(name, "Basic", n) ? CHALLENGE_BASIC : CHALLENGE_NONE;
}

bool challenge_read(const char *text, size_t len, struct challenge *out)
{
	struct cursor c = {text, text + len};
	struct challenge best = *out;
	const char *name;
	size_t n;

	while (c.p < c.end) {
		struct challenge one = {0};

		while (c.p < c.end && (*c.p == ',' || *c.p == ' ' || *c.p == '\t'))
			c.p++;
		if (c.p == c.end)
			break;
		n = word(&c, &name);
		if (n == 0 || (c.p < c.end && *c.p != ' ' && *c.p != ',' && *c.p != '\t'))
			return false;
		one.scheme = scheme_of(name, n);
		if (parameters(&c, &one) < 0)
			return false;
		blanks(&c);
		if (c.p < c.end && *c.p != ',')
			return false;
		if (one.scheme == CHALLENGE_BEARER && !one.realm[0])
			one.scheme = CHALLENGE_NONE; /* nobody to ask for a token */
		if (one.scheme > best.scheme)
			best = one;
	}
	*out = best;
	return true;
}

/* A decimal number that fits; -1 otherwise. */
static int64_t number(const char **p)
{
	int64_t v = 0;

	if (!isdigit((unsigned char)**p))
		return -1;
	for (; isdigit((unsigned char)**p); ++*p)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, **p - '0', &v))
			return -1;
	return v;
}

bool range_read(const char *text, int64_t *first, int64_t *last, int64_t *total)
{
	if (strncasecmp(text, "bytes ", 6) != 0)
		return false;
	text += 6;
	*first = number(&text);
	if (*first < 0 || *text++ != '-')
		return false;
	*last = number(&text);
	if (*last < *first || *text++ != '/')
		return false;
	if (!strcmp(text, "*")) {
		*total = -1;
		return true;
	}
	*total = number(&text);
	return *total > *last && !*text;
}

unsigned retry_after_s(const char *text, time_t now)
{
	enum { MOST_S = 3600 };
	const char *p = text;
	int64_t s = number(&p);
	time_t at;

	if (s < 0 || *p) {
		at = isdigit((unsigned char)*text) ? -1 : curl_getdate(text, NULL);
		s = at > now ? (int64_t)(at - now) : 0;
	}
	return s > MOST_S ? MOST_S : (unsigned)s;
}

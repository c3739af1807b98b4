#include "fcgi/deps.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define ALNUM  LOWER UPPER DIGITS

/* What is left to read, and where the normal form goes; both bounded. */
struct scan {
	const char *p, *end;
	char *out;
	size_t len;
	bool full;
};

static bool in_set(char c, const char *set)
{
	return c && strchr(set, c);
}

static void blanks(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'))
		s->p++;
}

static void put(struct scan *s, char c)
{
	if (s->len < DEPS_REQUIREMENT_MAX)
		s->out[s->len++] = c;
	else
		s->full = true;
}

/* Copies bytes of the set. Returns how many. */
static size_t copy(struct scan *s, const char *set)
{
	const char *from = s->p;

	while (s->p < s->end && in_set(*s->p, set))
		put(s, *s->p++);
	return (size_t)(s->p - from);
}

static bool take(struct scan *s, char c)
{
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

/* A name as PEP 503 has it: lower case, runs of . _ - are one hyphen; it begins and ends otherwise. */
static bool python_name(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && in_set(*s->p, ALNUM "._-")) {
		bool mark = in_set(*s->p, "._-");

		if (!mark)
			put(s, (char)tolower((unsigned char)*s->p));
		else if (s->p == from || (!in_set(s->p[-1], "._-")))
			put(s, '-');
		s->p++;
	}
	return s->p > from && in_set(*from, ALNUM) && in_set(s->p[-1], ALNUM);
}

static bool python_extras(struct scan *s)
{
	if (!take(s, '['))
		return true;
	put(s, '[');
	do {
		if (s->out[s->len - 1] != '[')
			put(s, ',');
		blanks(s);
		if (!python_name(s))
			return false;
		blanks(s);
	} while (take(s, ','));
	put(s, ']');
	return take(s, ']');
}

static bool python_version(struct scan *s)
{
	static const char *const ops[] = {"===", "~=", "==", "!=", "<=", ">=", "<", ">"};

	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
		size_t n = strlen(ops[i]);

		if ((size_t)(s->end - s->p) < n || memcmp(s->p, ops[i], n))
			continue;
		s->p += n;
		for (size_t k = 0; k < n; k++)
			put(s, ops[i][k]);
		blanks(s);
		return copy(s, ALNUM ".*+!_-") > 0;
	}
	return false;
}

static const char *python(struct scan *s)
{
	if (!python_name(s))
		return "is no name of a distribution";
	blanks(s);
	if (!python_extras(s))
		return "has malformed extras";
	blanks(s);
	if (s->p == s->end)
		return NULL;
	for (bool more = true; more; more = take(s, ',')) {
		if (in_set(s->out[s->len - 1], ALNUM ".*+!_-") && strcspn(s->out, "<>=!~") < s->len)
			put(s, ',');
		blanks(s);
		if (!python_version(s))
			return "has a malformed version";
		blanks(s);
	}
	return s->p == s->end ? NULL : "is more than a name, extras and versions";
}

static bool npm_part(struct scan *s)
{
	if (s->p == s->end || !in_set(*s->p, LOWER DIGITS))
		return false;
	copy(s, LOWER DIGITS "._-");
	return true;
}

static const char *javascript(struct scan *s)
{
	if (take(s, '@')) {
		put(s, '@');
		if (!npm_part(s) || !take(s, '/'))
			return "has a malformed scope";
		put(s, '/');
	}
	if (!npm_part(s))
		return "is no name of a package";
	if (s->p == s->end)
		return NULL;
	if (!take(s, '@'))
		return "is more than a name and a version";
	put(s, '@');
	if (s->p == s->end || in_set(*s->p, "-.") || !copy(s, ALNUM ".^~<>=*+-") || s->p < s->end)
		return "has a malformed version";
	return NULL;
}

static const char *other(struct scan *s)
{
	if (s->p == s->end || !in_set(*s->p, ALNUM))
		return "is no name of a package";
	copy(s, ALNUM "._+-");
	if (s->p == s->end)
		return NULL;
	if (!in_set(*s->p, "=@~<>^!"))
		return "is more than a name and a version";
	copy(s, "=@~<>^!");
	return copy(s, ALNUM "._+*-") && s->p == s->end ? NULL : "has a malformed version";
}

const char *deps_normalise(
	const char *language, const char *p, size_t n, char out[DEPS_REQUIREMENT_MAX + 1])
{
	struct scan s = {.p = p, .end = p + n, .out = out};
	const char *fault;

	memset(out, 0, DEPS_REQUIREMENT_MAX + 1);
	blanks(&s);
	while (s.end > s.p && (s.end[-1] == ' ' || s.end[-1] == '\t'))
		s.end--;
	if (!strcmp(language, "python"))
		fault = python(&s);
	else if (!strcmp(language, "javascript"))
		fault = javascript(&s);
	else
		fault = other(&s);
	if (s.full)
		return "is longer than 200 bytes";
	return fault;
}

const char *deps_index_fault(const char *url)
{
	size_t scheme = !strncmp(url, "https://", 8) ? 8 : !strncmp(url, "http://", 7) ? 7 : 0;
	const char *p = url + scheme;

	if (!*url)
		return NULL;
	if (!scheme)
		return "is no http or https URL";
	if (strlen(url) > DEPS_INDEX_MAX)
		return "is longer than 512 bytes";
	if (!in_set(*p, ALNUM))
		return "has no host";
	p += strspn(p, ALNUM ".-");
	if (*p == ':') {
		size_t digits = strspn(p + 1, DIGITS);

		if (digits < 1 || digits > 5)
			return "has a malformed port";
		p += 1 + digits;
	}
	if (*p && *p != '/')
		return "is more than a host, a port and a path";
	return p[strspn(p, ALNUM "/._~%+-")] ? "is more than a host, a port and a path" : NULL;
}

bool deps_key_valid(const char *key)
{
	return strspn(key, DIGITS "abcdef") == DEPS_KEY_LEN && !key[DEPS_KEY_LEN];
}

const char *deps_add(struct deps_set *s, const char *language, const char *p, size_t n)
{
	char norm[DEPS_REQUIREMENT_MAX + 1];
	const char *fault = deps_normalise(language, p, n, norm);
	size_t at = 0;
	int order = 1;

	if (fault)
		return fault;
	while (at < s->n && (order = strcmp(norm, s->req[at])) > 0)
		at++;
	if (at < s->n && order == 0)
		return NULL;
	if (s->n == DEPS_MAX)
		return "is one too many: at most 50 at once";
	memmove(s->req[at + 1], s->req[at], (s->n - at) * sizeof s->req[0]);
	memcpy(s->req[at], norm, sizeof norm);
	s->n++;
	return NULL;
}

#include "fcgi/ignore_glob.h"

#include <ctype.h>
#include <string.h>

struct span {
	const char *p, *end;
};

static const struct {
	const char *name;
	int (*is)(int);
} classes[] = {
	{"alnum", isalnum},
	{"alpha", isalpha},
	{"blank", isblank},
	{"cntrl", iscntrl},
	{"digit", isdigit},
	{"graph", isgraph},
	{"lower", islower},
	{"print", isprint},
	{"punct", ispunct},
	{"space", isspace},
	{"upper", isupper},
	{"xdigit", isxdigit},
};

/* "[:name:]" at p: 1 or 0 as c is in it, -1 when it is no class. Moves p behind it. */
static int class_match(const char **p, const char *end, unsigned char c)
{
	const char *name = *p + 2;
	const char *close;

	if (end - *p < 4 || (*p)[1] != ':')
		return -1;
	close = memmem(name, (size_t)(end - name), ":]", 2);
	if (!close)
		return -1;
	for (unsigned i = 0; i < sizeof classes / sizeof classes[0]; i++) {
		size_t n = strlen(classes[i].name);

		if ((size_t)(close - name) == n && !memcmp(name, classes[i].name, n)) {
			*p = close + 2;
			return classes[i].is(c) != 0;
		}
	}
	return -1;
}

/* One byte of a set, which a backslash may quote. NULL at the end of the pattern. */
static const char *set_byte(const char *p, const char *end, unsigned char *c)
{
	if (p < end && *p == '\\')
		p++;
	if (p >= end)
		return NULL;
	*c = (unsigned char)*p;
	return p + 1;
}

/* The set after "[" at p. Returns what follows "]", or NULL: not closed, matches nothing. */
static const char *set_match(const char *p, const char *end, unsigned char c, bool *hit)
{
	bool negated = p < end && (*p == '!' || *p == '^'), in = false, first = true;

	p += negated;
	for (; p < end && (first || *p != ']'); first = false) {
		unsigned char lo, hi;
		int k = *p == '[' ? class_match(&p, end, c) : -1;

		if (k >= 0) {
			in |= k;
			continue;
		}
		p = set_byte(p, end, &lo);
		if (!p)
			return NULL;
		hi = lo;
		if (end - p >= 2 && *p == '-' && p[1] != ']') {
			p = set_byte(p + 1, end, &hi);
			if (!p)
				return NULL;
		}
		in |= c >= lo && c <= hi;
	}
	if (p >= end)
		return NULL;
	*hit = in != negated;
	return p + 1;
}

/* One byte c against what stands at p (no star). Returns what follows, NULL when it differs. */
static const char *one_match(const char *p, const char *end, unsigned char c)
{
	bool hit = false;

	if (p >= end)
		return NULL;
	switch (*p) {
	case '?':
		return p + 1;
	case '[':
		p = set_match(p + 1, end, c, &hit);
		return hit ? p : NULL;
	case '\\':
		if (++p >= end)
			return NULL;
		break;
	default:
		break;
	}
	return (unsigned char)*p == c ? p + 1 : NULL;
}

static bool span_match(struct span pat, struct span name)
{
	const char *p = pat.p, *s = name.p, *star = NULL, *again = NULL;

	while (s < name.end) {
		const char *next;

		if (p < pat.end && *p == '*') {
			star = ++p;
			again = s;
			continue;
		}
		next = one_match(p, pat.end, (unsigned char)*s);
		if (next) {
			p = next;
			s++;
		} else if (star) {
			p = star;
			s = ++again;
		} else {
			return false;
		}
	}
	while (p < pat.end && *p == '*')
		p++;
	return p == pat.end;
}

bool glob_name(const char *pattern, const char *name)
{
	return span_match((struct span){pattern, pattern + strlen(pattern)},
		(struct span){name, name + strlen(name)});
}

/* The component at p; a NULL p is the end. */
static struct span component(const char *p)
{
	return (struct span){p, strchrnul(p, '/')};
}

static const char *after(struct span c)
{
	return *c.end ? c.end + 1 : NULL;
}

static bool is_any(struct span c)
{
	return c.end - c.p == 2 && !memcmp(c.p, "**", 2);
}

bool glob_path(const char *pattern, const char *path)
{
	const char *p = pattern, *s = path, *star = NULL, *again = NULL;

	while (s) {
		struct span sc = component(s), pc = p ? component(p) : sc;

		if (p && is_any(pc)) {
			/* "a/" + "**" is what lies inside a; never a itself. */
			if (!after(pc))
				return true;
			star = p = after(pc);
			again = s;
		} else if (p && span_match(pc, sc)) {
			p = after(pc);
			s = after(sc);
		} else if (star) {
			p = star;
			s = again = after(component(again));
		} else {
			return false;
		}
	}
	return !p;
}

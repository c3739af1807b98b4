#include "fcgi/dialects/native_range.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Digits at *p; -1 when there are none or too many. Moves *p behind them. */
static int64_t number(const char **p)
{
	int64_t v = 0;

	if (**p < '0' || **p > '9')
		return -1;
	for (; **p >= '0' && **p <= '9'; (*p)++) {
		if (v > (INT64_MAX - 9) / 10)
			return -1;
		v = v * 10 + (**p - '0');
	}
	return v;
}

struct native_range native_range(const char *h)
{
	struct native_range none = {.given = false}, r = {.given = true};
	int64_t to;

	if (!h || strncasecmp(h, "bytes=", 6))
		return none;
	h += 6;
	if (*h == '-') {
		h++;
		r.last = number(&h);
		return r.last > 0 && !*h ? r : none;
	}
	r.from = number(&h);
	if (r.from < 0 || *h != '-')
		return none;
	h++;
	if (!*h)
		return r;
	to = number(&h);
	if (to < r.from || *h)
		return none;
	r.length = to - r.from + 1;
	return r;
}

bool native_piece(const char *h, struct native_piece *out)
{
	*out = (struct native_piece){.probe = false};
	if (strncasecmp(h, "bytes ", 6))
		return false;
	h += 6;
	if (*h == '*') {
		out->probe = true;
		h++;
	} else {
		out->first = number(&h);
		if (out->first < 0 || *h++ != '-')
			return false;
		out->last = number(&h);
		if (out->last < out->first)
			return false;
	}
	if (*h++ != '/')
		return false;
	out->total = number(&h);
	return !*h && out->total > 0 && (out->probe || out->last < out->total);
}

const char *native_tag(const struct files_result *r, char out[NATIVE_TAG_MAX])
{
	/* The time of change, which no tool sets, and what tells files apart. */
	snprintf(out, NATIVE_TAG_MAX, "\"%llx-%llx-%llx\"", (unsigned long long)r->ctime_ns,
		(unsigned long long)r->size, (unsigned long long)r->ino);
	return out;
}

bool native_tag_matches(const char *h, const char *tag)
{
	size_t n = strlen(tag);

	if (!h)
		return false;
	if (!strcmp(h, "*"))
		return true;
	while (*h) {
		h += strspn(h, ", \t");
		if (!strncmp(h, "W/", 2))
			h += 2;
		if (!strncmp(h, tag, n) && (!h[n] || strchr(", \t", h[n])))
			return true;
		h += strcspn(h, ",");
	}
	return false;
}

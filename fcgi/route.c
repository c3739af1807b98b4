#include "fcgi/route.h"

#include <string.h>

/* Takes the next segment of path, whose text is at **path. */
static size_t next_segment(const char **path, const char **at)
{
	size_t n;

	while (**path == '/')
		(*path)++;
	*at = *path;
	n = strcspn(*path, "/");
	*path += n;
	return n;
}

/* Number of segments when url starts with prefix, else 0. */
static size_t prefix_length(const char *prefix, const struct url *url)
{
	size_t n = 0, len;
	const char *at;

	while ((len = next_segment(&prefix, &at)) > 0) {
		if (n == url->nsegments || strlen(url->segment[n]) != len ||
			memcmp(url->segment[n], at, len))
			return 0;
		n++;
	}
	return n;
}

static bool path_matches(const struct route *r, struct url *url, size_t from, const char **param)
{
	const char *path = r->path, *at;
	size_t i = from, len, stars = 0;

	*param = NULL;
	if ((r->flags & ROUTE_SLASH) && !url->slash)
		return false;
	for (; (len = next_segment(&path, &at)) > 0; i++) {
		if (i == url->nsegments)
			return false;
		if (len == 2 && !memcmp(at, "**", 2)) {
			*param = url->segment[i];
			return true;
		}
		if (len == 1 && *at == '*') {
			*param = url->segment[i];
			if (stars < URL_STARS_MAX)
				url->star[stars++] = *param;
		} else if (strlen(url->segment[i]) != len || memcmp(url->segment[i], at, len))
			return false;
	}
	return i == url->nsegments;
}

static const char *method_name(enum http_method m)
{
	switch (m) {
	case HTTP_GET:
		return "GET";
	case HTTP_POST:
		return "POST";
	case HTTP_PUT:
		return "PUT";
	case HTTP_DELETE:
		return "DELETE";
	case HTTP_PATCH:
		return "PATCH";
	default:
		return "";
	}
}

/* Makes one text of the segments from `from` on. */
static void join(struct url *url, const char *from)
{
	for (size_t i = 0; i < url->nsegments; i++)
		if (url->segment[i] > from)
			url->text[url->segment[i] - url->text - 1] = '/';
}

const struct route *route_find(const struct route *table, size_t n, const char *prefix,
	struct url *url, enum http_method method, const char **param, const char **allow)
{
	size_t skip = prefix_length(prefix, url);

	*allow = NULL;
	/* The prefix first; a second round without it, since a path may look like both. */
	for (;; skip = 0) {
		for (size_t i = 0; i < n; i++) {
			if (!path_matches(&table[i], url, skip, param))
				continue;
			if (table[i].method == method) {
				if (strstr(table[i].path, "**"))
					join(url, *param);
				return &table[i];
			}
			if (!*allow)
				*allow = method_name(table[i].method);
		}
		if (skip == 0)
			return NULL;
	}
}

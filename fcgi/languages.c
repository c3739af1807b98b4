#include "fcgi/languages.h"

#include <stdio.h>
#include <string.h>

const struct language *language_find(const struct conf *c, const char *name)
{
	for (size_t i = 0; i < c->languages.n; i++)
		if (!strcmp(c->languages.row[i].name, name))
			return &c->languages.row[i];
	return NULL;
}

const char *language_names(const struct conf *c, char *out, size_t size)
{
	size_t n = c->languages.n, at = 0;

	*out = '\0';
	for (size_t i = 0; i < n && at < size; i++) {
		const char *before = i == 0 ? "" : i + 1 == n ? " or " : ", ";

		at += (size_t)snprintf(
			out + at, size - at, "%s'%s'", before, c->languages.row[i].name);
	}
	return out;
}

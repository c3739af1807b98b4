/* Misspelt keys: which one was meant. */
#include "isolate/conf.h"

#include <string.h>

enum { KEY_MAX = 48 /* longer than any key */, SURE_LEN = 8 };

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/*
 * How many letters have to be replaced, inserted, removed, or swapped with the next one: the
 * "optimal string alignment" distance, three rows of its table at a time.
 */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned row[3][KEY_MAX + 1] = {{0}};

	for (size_t j = 0; j <= nb; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *now = row[i % 3];
		const unsigned *up = row[(i - 1) % 3], *two_up = row[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			now[j] = least(
				least(up[j], now[j - 1]) + 1, up[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = least(now[j], two_up[j - 2] + 1);
		}
	}
	return row[na % 3][nb];
}

const char *conf_near(const char *key)
{
	size_t n = strlen(key);
	/* A short name is soon like another: CGIBOX_URL is no misspelt "pull". */
	unsigned best = n < SURE_LEN / 2 ? 0 : n < SURE_LEN ? 1 : 2;
	const char *near = NULL, *name;

	if (n > KEY_MAX)
		return NULL;
	for (size_t i = 0; (name = conf_name(i)); i++) {
		size_t len = strlen(name);
		unsigned d = len <= KEY_MAX ? distance(key, n, name, len) : best + 1;

		if (d > best || (near && d == best))
			continue;
		best = d;
		near = name;
	}
	return near;
}

int conf_unknown(const char *key, struct err *e)
{
	const char *near = conf_near(key);

	return err_set(e, ERR_CONF, 0, "unknown key \"%.60s\"%s%s%s", key, near ? ", is \"" : "",
		near ? near : "", near ? "\" meant?" : "");
}

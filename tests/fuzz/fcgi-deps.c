/*
 * Requirements and indexes: whatever the bytes, what is accepted has one normal form, which is no option, no
 * path, no URL and nothing to a shell between single quotes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/deps.h"

static void check_requirement(const char *language, const char *p, size_t n)
{
	char out[DEPS_REQUIREMENT_MAX + 1], again[DEPS_REQUIREMENT_MAX + 1];
	const char *scope = !strcmp(language, "javascript") && *p == '@' ? "/" : "";

	if (deps_normalise(language, p, n, out))
		return;
	if (!*out || strlen(out) > DEPS_REQUIREMENT_MAX || *out == '-' || *out == '.' ||
		*out == '/' || strpbrk(out, "'\"\\$`;&|(){}:?#% \t\n\r"))
		abort();
	if (strchr(out, '/') && (!*scope || strchr(out, '/') != strrchr(out, '/')))
		abort();
	for (const char *c = out; *c; c++)
		if (*c < '!' || *c > '~')
			abort();
	if (deps_normalise(language, out, strlen(out), again) || strcmp(out, again) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char *const languages[] = {"python", "javascript", "ruby"};
	char text[1024];

	if (n < 1 || n > sizeof text)
		return 0;
	memcpy(text, p + 1, n - 1);
	text[n - 1] = '\0';
	check_requirement(
		languages[*p % 3], text + strspn(text, " \t"), n - 1 - strspn(text, " \t"));
	if (!deps_index_fault(text) && *text &&
		(strncmp(text, "http", 4) != 0 || strpbrk(text, "'\"\\$`;&|(){}?# \t\n@")))
		abort();
	return 0;
}

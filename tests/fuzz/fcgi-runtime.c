/* Names and sizes of the runtime's clients: whatever the bytes, a path stays below /workspace. */
#include "fcgi/dialects/runtime.h"

#include <stdlib.h>
#include <string.h>

static void check_path(const char *out)
{
	size_t n = strlen(out);

	if (n > FILES_PATH_MAX || strncmp(out, RT_WORKSPACE, strlen(RT_WORKSPACE)) ||
		(out[strlen(RT_WORKSPACE)] && out[strlen(RT_WORKSPACE)] != '/') ||
		strstr(out, "//") || strstr(out, "/../") || strstr(out, "/./") ||
		(n >= 3 && !strcmp(out + n - 3, "/..")) || out[n - 1] == '/')
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char *text = malloc(n + 1), out[FILES_PATH_MAX + 1];

	if (!text)
		return 0;
	memcpy(text, p, n);
	text[n] = '\0';
	for (int dir = 0; dir < 2; dir++)
		if (!rt_path(text, n, dir, out))
			check_path(out);
	if (rt_parse_size(text) < -1)
		abort();
	if (rt_sid_valid(text) && (strlen(text) > RT_SID_MAX || strpbrk(text, "/\"\\ \n%")))
		abort();
	free(text);
	return 0;
}

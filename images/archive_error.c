#include "images/archive_error.h"

#include <errno.h>
#include <stdio.h>

int archive_error_set(struct archive *a, const char *memory_limit, struct err *e)
{
	const char *why = archive_error_string(a);
	char text[160];
	size_t n;

	if (e->kind)
		return -1;
	if (archive_errno(a) == ENOMEM)
		return err_set(e, ERR_LIMIT, 0, "the archive needs more memory than %s allows",
			memory_limit);
	n = (size_t)snprintf(text, sizeof text, "%s", why ? why : "not a tar archive");
	for (size_t i = 0; i < n && i < sizeof text - 1; i++)
		if (text[i] < 0x20 || text[i] >= 0x7f)
			text[i] = '?';
	return err_set(e, ERR_REQUEST, 0, "Invalid or truncated archive: %s", text);
}

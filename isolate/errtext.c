/* Apart from err.c, which is also built with a libc that lacks strerrordesc_np(). */
#include <stdio.h>
#include <string.h>

#include "isolate/err.h"

const char *err_text(const struct err *e, char *buf, size_t size)
{
	/* strerrordesc_np() does not allocate and does not depend on the locale. */
	const char *why = e->errnum ? strerrordesc_np(e->errnum) : NULL;

	snprintf(buf, size, "%s%s%s", e->msg, why ? ": " : "", why ? why : "");
	return buf;
}

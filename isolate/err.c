#include "isolate/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int(err_set)(struct err *e, int kind, int errnum, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return -1;
	e->kind = kind;
	e->errnum = errnum;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	return -1;
}

int(err_in)(struct err *e, const char *fmt, ...)
{
	struct err old;
	va_list ap;
	size_t n;

	if (!e)
		return -1;
	old = *e;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof e->msg - n, ": %s", old.msg);
	return -1;
}

int err_exit_code(int kind)
{
	static const unsigned char code[ERR_KIND_MAX] = {
		[ERR_NONE] = 0,
		[ERR_CONF] = 78,
		[ERR_REQUEST] = 65,
		[ERR_NOTFOUND] = 66,
		[ERR_LIMIT] = 69,
		[ERR_BUSY] = 75,
		[ERR_SETUP] = 71,
		[ERR_BUG] = 70,
	};

	return kind >= 0 && kind < ERR_KIND_MAX ? code[kind] : 70;
}

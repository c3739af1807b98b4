#include "isolate/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Set once at start-up, constant afterwards. */
static const char *log_name = "cgibox";
static enum log_level log_least = LOG_INFO;

void log_open(const char *name, enum log_level least)
{
	log_name = name;
	log_least = least;
}

static void log_write(enum log_level level, const char *text, const char *more)
{
	static const char *const word[] = {"debug", "info", "warning", "error"};
	char line[1024];
	int n = snprintf(line, sizeof line - 1, "%s[%d]: %s: %s%s%s", log_name, (int)getpid(),
		word[level], text, more ? ": " : "", more ? more : "");

	if (n < 0)
		return;
	if ((size_t)n > sizeof line - 2)
		n = sizeof line - 2;
	/* What forgot quote() can still not forge a line, nor drive a terminal. */
	for (char *p = line; p < line + n; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nowhere left to say it */
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char text[768];
	va_list ap;

	if (level < log_least || level >= LOG_QUIET)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_write(level, text, NULL);
}

void log_err(enum log_level level, const struct err *e, const char *fmt, ...)
{
	char text[512], why[384];
	va_list ap;

	if (level < log_least || level >= LOG_QUIET)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_write(level, text, err_text(e, why, sizeof why));
}

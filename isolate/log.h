/* One log function, one line per event on standard error. Hostile bytes go through quote(). */
#ifndef CGIBOX_LOG_H
#define CGIBOX_LOG_H

#include "isolate/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_QUIET };

/* Called once by a program's start-up code. name is borrowed for the life of the process. */
void log_open(const char *name, enum log_level least);

/* "name[pid]: level: text"; text must not hold a newline. Written with one write(2). */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Logs err_text(e) behind the formatted context. */
void log_err(enum log_level level, const struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif

/* The test anything protocol for unit tests: ok(cond, "what"), is_str(), then return done(). */
#ifndef CGIBOX_TAP_H
#define CGIBOX_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_count, tap_failed;

static inline bool tap_ok(bool good, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (!good) {
		tap_failed++;
		printf("# at %s:%d\n", file, line);
	}
	fflush(stdout);
	return good;
}

#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, __VA_ARGS__)

static inline bool tap_is_str(
	const char *got, const char *want, const char *file, int line, const char *what)
{
	bool good = got && want ? !strcmp(got, want) : got == want;

	tap_ok(good, file, line, "%s", what);
	if (!good)
		printf("#      got: %s\n# expected: %s\n", got ? got : "(null)",
			want ? want : "(null)");
	return good;
}

#define is_str(got, want, what) tap_is_str((got), (want), __FILE__, __LINE__, (what))

/* Loud and counted; with MUST_WORK=1 in the environment a failure. */
#define skip_all(why)                                                                              \
	do {                                                                                       \
		printf("1..0 # SKIP %s\n", why);                                                   \
		return 0;                                                                          \
	} while (0)

static inline int done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif

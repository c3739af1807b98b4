/*
 * The one error value of the project. It has a fixed size and holds no pointer, so it can be
 * filled after fork, under a seccomp filter, and sent through a pipe in one atomic write.
 *
 * Functions that can fail return 0 (or a descriptor, or a count) and -1; the reason is in the
 * struct err they were given. A payload's fate is never an error: that is a verdict (result.h).
 */
#ifndef CGIBOX_ERR_H
#define CGIBOX_ERR_H

#include <stddef.h>

enum err_kind {
	ERR_NONE = 0,
	ERR_CONF,     /* sandbox.conf or the command line is wrong */
	ERR_REQUEST,  /* the client's input is wrong */
	ERR_NOTFOUND, /* the session, image or file named does not exist */
	ERR_LIMIT,    /* a documented limit was reached */
	ERR_BUSY,     /* try again later: a lock, admission, a peer that is restarting */
	ERR_SETUP,    /* the system refused something we need */
	ERR_BUG,      /* an invariant of ours does not hold */
	ERR_KIND_MAX,
};

struct err {
	int kind;   /* enum err_kind */
	int errnum; /* errno of the failure, 0 when there is none */
	char msg[248];
};

/*
 * Fills e (which may be NULL). The message is lower case, says what was attempted, quotes the
 * object and has no full stop; the errno text is added by err_text(). Always returns -1.
 */
int err_set(struct err *e, int kind, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Puts "context: " before the message of e (which may be NULL). Always returns -1. */
int err_in(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* That they fail is visible where they are called: to readers, compilers and analyzers. */
static inline int err_failed(int minus_one)
{
	(void)minus_one;
	return -1;
}

#define err_set(...) err_failed((err_set)(__VA_ARGS__))
#define err_in(...)  err_failed((err_in)(__VA_ARGS__))

/* Writes message and errno text into buf, "?" for each control character, and returns buf. */
const char *err_text(const struct err *e, char *buf, size_t size);

/* The exit code for an error kind, after sysexits(3). */
int err_exit_code(int kind);

#endif

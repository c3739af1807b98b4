/*
 * Attack programs: one static binary, "atk NAME [ARGUMENT...]", run inside a sandbox. Each attack
 * tries one thing in all ways it knows and ends with one line: "HELD" (status 0), "BREACH: why" (1),
 * or "UNPROVEN: why" (2) when its own control failed, so that nothing was shown. A denial is an errno
 * out of a list; any other errno is a breach too, for then the kernel's own code was reached.
 */
#ifndef CGIBOX_ATK_H
#define CGIBOX_ATK_H

#include <stdbool.h>
#include <stddef.h>

struct attack {
	const char *name;
	void (*run)(int argc, char **argv); /* arguments after the name */
	const char *tries;
};

/* Each ends with a row whose name is NULL. */
extern const struct attack attacks_escape[], attacks_process[], attacks_resource[],
	attacks_surface[], attacks_network[], attacks_tenant[], attacks_objects[];

_Noreturn void held(void);
_Noreturn void breach(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void unproven(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Ends with a breach unless ret is negative and errno is one of the numbers, the last of them 0. */
void denied(long ret, const char *what, ...);

/* The control: ends with "UNPROVEN" when ret is negative. */
void works(long ret, const char *what);

/* Reads a file of /proc whole into buf, NUL-ended; returns its length or -1. */
long slurp(const char *path, char *buf, size_t size);

/* The value of "Name:\t" in /proc/self/status, in static memory; "" when there is none. */
const char *status_of(const char *name);

/* The argument n as a number, or dflt when there are fewer. */
long number(int argc, char **argv, int n, long dflt);

/* Executes this program again as `atk NAME` from path (NULL: itself); returns its exit status, or 128
 * + signal. */
int again(const char *path, const char *name);

#endif

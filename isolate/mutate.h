/*
 * Switches of the test build alone (make MUTATION=1): CGIBOX_MUTATE=seccomp,landlock,... turns
 * mechanisms off by name, so that tests/attacks/mutation.t can show that each of them counts. In
 * every other build MUTATED() is the constant false, and not even the names are in the program.
 * Read from the environment each time: pid 1 of a test build gets the variable in its own.
 */
#ifndef CGIBOX_MUTATE_H
#define CGIBOX_MUTATE_H

#ifdef TEST_MUTATION

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Whether prefix and name, put together, are one of the words of CGIBOX_MUTATE. */
static inline bool mutated(const char *prefix, const char *name)
{
	const char *at = getenv("CGIBOX_MUTATE");
	size_t np = strlen(prefix), nn = strlen(name);

	for (size_t n; at && *at; at += n + (at[n] == ',')) {
		n = strcspn(at, ",");
		if (n == np + nn && !memcmp(at, prefix, np) && !memcmp(at + np, name, nn))
			return true;
	}
	return false;
}

#define MUTATED(name)      mutated("", name)
#define MUTATED_CALL(name) mutated("sys-", name)
/* The value of an expression, or what stands in for it with the mechanism off. */
#define MUTATE(name, value, off) (MUTATED(name) ? (off) : (value))

/* Attributes of a mount (linux/mount.h). */
#define MUTATE_ATTR(attr)                                                                          \
	((attr) & ~(MUTATE("nodev", 0ULL, MOUNT_ATTR_NODEV) |                                      \
			  MUTATE("nosuid", 0ULL, MOUNT_ATTR_NOSUID) |                              \
			  MUTATE("read-only", 0ULL, MOUNT_ATTR_RDONLY)))

/* For pid 1: its environment of a test build. Static memory of the caller's. */
static inline char *const *mutate_env(char *word[2], char *const *none)
{
	extern char **environ;

	if (MUTATED("init-env"))
		return environ;
	for (char **v = environ; *v; v++)
		if (!strncmp(*v, "CGIBOX_MUTATE=", 14))
			return word[0] = *v, word;
	return none;
}
#define MUTATE_ENV(none) mutate_env((char *[2]){NULL, NULL}, none)

#else

#define MUTATED(name)            0
#define MUTATED_CALL(name)       0
#define MUTATE(name, value, off) (value)
#define MUTATE_ATTR(attr)        (attr)
#define MUTATE_ENV(none)         (none)

#endif

#endif

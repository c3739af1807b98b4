/*
 * What this machine allows, one fact at a time, for `cgibox doctor` and whoever else tells it to
 * people. Nothing is taken from a version number where it can be tried. Each fact is found in a
 * child of its own, in namespaces of its own, so it neither hangs the caller nor leaves anything.
 */
#ifndef CGIBOX_PROBE_H
#define CGIBOX_PROBE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "isolate/conf.h"

enum probe_state {
	PROBE_OK,
	PROBE_WEAKER,  /* cgibox works; the text says what exactly is lost */
	PROBE_BLOCKED, /* it does not, or not as promised; the fix says what to type */
};

struct fact {
	const char *name;
	int state;      /* enum probe_state */
	int site;       /* of "state-dir": which of probe_site_path() was used, or -1 */
	char text[400]; /* printable ASCII */
	char fix[400];  /* "" = none */
};

/* Borrowed. scratch: a directory made by the fact "state-dir", or "" when there is none. */
struct probe_env {
	const struct conf *conf;
	const char *conf_file; /* or NULL */
	const char *state_dir;
	const char *scratch;
};

typedef void probe_fn(const struct probe_env *env, struct fact *f);

struct probe {
	const char *name;
	probe_fn *run; /* in a child; may enter namespaces and need not clean up its mounts */
	unsigned timeout_ms;
};

/* All facts but the start of a sandbox, in the order to find and to show them. NULL-ended. */
extern const struct probe probe_table[];

/*
 * Runs p in a child that is killed after its time, with all it started, and fills f. What
 * cannot even be tried is PROBE_BLOCKED. The caller must be single-threaded.
 */
void probe_run(const struct probe *p, const struct probe_env *env, struct fact *f);

/* Fills f. Bytes that are not printable ASCII become '?'. For the functions of a table. */
void probe_say(struct fact *f, int state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void probe_fix(struct fact *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *probe_state_name(int state);

/*
 * The directory a scratch is made in, for site 0, 1, 2: STATE/tmp, STATE, and the directory
 * STATE would be made in. Writes the scratch's path, which names our pid. False past the last.
 */
bool probe_site_path(const char *state_dir, int site, int pid, char *out, size_t size);

#endif

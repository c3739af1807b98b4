/*
 * Dependencies of code: a set of requirements is installed once, by the language's own installer in
 * a sandbox with a network, into a layer that sessions share. The layer is named by a digest of the
 * image, the language, its installer, the index and the sorted requirements.
 *
 * Sessions see it at /opt/cgibox/deps/LANGUAGE, with PYTHONPATH, NODE_PATH and PATH set. It lies
 * below the session's own writable layer: what a session changes there is its own affair.
 */
#ifndef CGIBOX_DEPS_H
#define CGIBOX_DEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"
#include "isolate/conf.h"
#include "isolate/err.h"

#define DEPS_ROOT "/opt/cgibox/deps"

enum {
	DEPS_KEY_LEN = 64,          /* hexadecimal digits */
	DEPS_MAX = 50,              /* requirements of one set */
	DEPS_REQUIREMENT_MAX = 200, /* bytes of one, normalised */
	DEPS_INDEX_MAX = 512,       /* bytes of an index URL */
};

/* --- pure: strangers' bytes --- */

/*
 * Brings one requirement of p[0..n) to its normal form. python: the part of PEP 508 that names a
 * distribution, extras and versions (no markers, no URLs), the name as PEP 503 has it; javascript:
 * [@scope/]name[@range]; others: a word of letters, digits and . _ + - with an optional version.
 * Options, paths, URLs and shell syntax are outside all of these. Returns NULL, or why it is
 * refused, static text.
 */
const char *deps_normalise(
	const char *language, const char *p, size_t n, char out[DEPS_REQUIREMENT_MAX + 1]);

/* NULL, or why url is no index: http(s)://HOST[:PORT][/PATH], no user, no query. "" is fine. */
const char *deps_index_fault(const char *url);

/* Whether key is the text of one. */
bool deps_key_valid(const char *key);

/* A set, normalised, sorted, each once. */
struct deps_set {
	char req[DEPS_MAX][DEPS_REQUIREMENT_MAX + 1];
	size_t n;
};

/* Adds one requirement. Returns NULL, or why it is refused. */
const char *deps_add(struct deps_set *s, const char *language, const char *p, size_t n);

/* --- verbs of a backend (backend.h), for a worker --- */

struct deps_order {
	const char *image;          /* reference, as in struct session_spec */
	const char *language;       /* a row of conf.languages */
	const char *index_url;      /* "": the installer's own */
	const struct deps_set *set; /* not empty */
	int64_t timeout_ms;         /* 0 = deps_timeout_s; at most that */
};

struct deps_answer {
	char key[DEPS_KEY_LEN + 1]; /* valid unless failed */
	bool reused;                /* it was there */
	bool failed;                /* the installer did not succeed: what follows is about it */
	bool timed_out;
	bool pending; /* of later(): it has not ended, and nothing else is known */
	int exit_code;
	int output_fd; /* what it wrote, merged, the caller's; -1 = none */
};

struct backend;

struct deps_ops {
	/*
	 * Has the set installed, unless it is: waits for that, as it does when another request
	 * installs the same. 0: out is filled; out->failed is the installer's verdict, and then
	 * nothing is kept. ERR_NOTFOUND: no such image; ERR_REQUEST: the language is none, or has no
	 * installer; ERR_LIMIT: sandbox.conf allows no network; ERR_BUSY as in backend.h.
	 */
	int (*install)(struct backend *b, const struct deps_order *o, struct deps_answer *out,
		struct err *e);

	/*
	 * The same without the wait: it begins, and goes on whatever becomes of the worker; who asks for the same
	 * later is told how it ended, for an hour, or until the service is started anew: then it begins again.
	 * fresh: how it ended before does not count, but one that is there does. Waits for the end for at
	 * most wait_ms; out->pending: that has not come.
	 */
	int (*later)(struct backend *b, const struct deps_order *o, bool fresh, unsigned wait_ms,
		struct deps_answer *out, struct err *e);

	/*
	 * Gives an installed set to a session in place of what it had of that language; what runs
	 * in the session is refused as ERR_BUSY with EWOULDBLOCK, an idle sandbox is ended.
	 * ERR_NOTFOUND: no such session (errnum ENOENT) or set. New sessions: session_spec.deps.
	 */
	int (*attach)(struct backend *b, const char *session, const char *key, struct err *e);
};

#endif

/*
 * Code with a function handler(event), in python, javascript or shell: how it is run as one
 * command, and how what it returned is found in what it printed.
 *
 * The program is a wrapper that is the same for each run of a language (`python3 -c WRAPPER`), so
 * code and event meet no limit of the argument list: they come as one file on standard input,
 * which the wrapper reads to its end first; the code then finds its input empty. The returned
 * value is written to standard output as one line of JSON behind a mark that holds a random number.
 *
 *	python      runs as __main__; NaN and infinities become null; sys.exit(n) is exit status n
 *	javascript  function handler, or exports.handler; a promise is awaited
 *	shell       is a script, which has no handler, gets no event and returns no value
 *
 * An exception, or no handler, is a traceback on standard error and exit status 1. What the code
 * does to the mark concerns its own value only.
 */
#ifndef CGIBOX_HANDLER_H
#define CGIBOX_HANDLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"

enum handler_language { HANDLER_PYTHON, HANDLER_JAVASCRIPT, HANDLER_SHELL, HANDLER_LANGUAGE_MAX };

enum { HANDLER_NONCE_LEN = 32 }; /* hexadecimal digits */

/* Everything is borrowed. */
struct handler_job {
	enum handler_language language;
	const char *code; /* UTF-8; a shell's has no NUL */
	size_t code_bytes;
	const char *event; /* JSON, checked (json_scan.h); NULL: an empty object */
	const char *
		env; /* JSON, an object of strings: variables that the wrapper sets; NULL; not shell */
	const char *cwd;         /* NULL, or where the wrapper goes first; not shell */
	int64_t value_max_bytes; /* a longer value is an error of the code; > 0 */
	bool phases; /* exit status 1: not loaded or no handler, 2: it failed, 3: its value is no JSON */
};

struct handler {
	const char *const *argv; /* NULL-ended, static */
	char nonce[HANDLER_NONCE_LEN + 1];
	int stdin_fd; /* a sealed file at its start, for run_spec.stdin_fd; the caller's */
};

/* "python", "javascript", "shell"; also sh and node. false: another word. Pure. */
bool handler_language_find(const char *name, enum handler_language *out);

/* The text of its wrapper: the last of argv. Static. Pure. */
const char *handler_program(enum handler_language l);

/*
 * Makes what one run needs. ERR_REQUEST: the code holds a NUL character; ERR_LIMIT, ERR_SETUP.
 * Worker.
 */
int handler_prepare(const struct handler_job *job, struct handler *out, struct err *e);

enum handler_outcome {
	HANDLER_NO_VALUE, /* no mark: shell, or the code ended before */
	HANDLER_VALUE,
	HANDLER_BAD_VALUE, /* a mark, and behind it what is no JSON or passes a limit of json_scan.h */
};

/* Parts of the text that was parsed. */
struct handler_output {
	const char *value; /* JSON of one line, checked; NULL unless HANDLER_VALUE */
	size_t value_bytes;
	size_t before;     /* bytes of text up to the mark; all of it when there is none */
	const char *after; /* what was printed later */
	size_t after_bytes;
};

/*
 * Splits n bytes of standard output; the last mark with that nonce counts. e (may be NULL) says
 * what is wrong with a bad value. Pure.
 */
enum handler_outcome handler_parse(
	const char *text, size_t n, const char *nonce, struct handler_output *out, struct err *e);

#endif

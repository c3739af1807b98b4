/*
 * Interpreters that have started, imported what the operator lists, and wait for the code that each of
 * them will run once. This file is what both sides of that wait must agree on: the program that waits
 * (warm.py, warm.js), the document that ends the wait, and what cannot be given so late.
 *
 * The document, on standard input:
 *
 *	64 bytes	numbers of arguments and of variables, bytes of strings, of code, and of input (-1: none),
 *			decimal, separated and padded by blanks
 *	strings		arguments, then variables (NAME=value), each with its NUL
 *	code		UTF-8
 *	input		what becomes the code's standard input; none: /dev/null
 *
 * All functions are pure; keeper and workers call them.
 */
#ifndef CGIBOX_WARM_H
#define CGIBOX_WARM_H

#include <stdbool.h>
#include <stddef.h>

#include "fcgi/backend_live.h"
#include "isolate/buf.h"

/* Its program, found along PATH inside: "python3", "node". */
const char *code_program(enum code_language l);
/* The option that says that code follows: "-c", "-e". */
const char *code_option(enum code_language l);
/* What a waiting one executes. Static. */
const char *warm_source(enum code_language l);

/* The language that a client names; CODE_NONE: none of ours. */
enum code_language code_language_of(const char *name);

/*
 * Whether all of these variables (each with its NUL) may be set in an interpreter that runs. False for those
 * that it, or its C library, reads once when it starts: such code gets one of its own.
 */
bool warm_env_fits(const char *env, size_t n);

/* Appends the document for s. */
void warm_document(const struct code_spec *s, struct buf *out);

/* The private pages of "ready N\n" at the end of what one has put out; -1: it does not end so. */
long warm_ready(const char *text, size_t n);

#endif

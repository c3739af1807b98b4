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
 * CODE_FILE and CODE_HANDLER have no arguments and no variables: theirs are there from the start.
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
/* Whether code of l comes in that form. */
bool warm_can(enum code_language l, enum code_form form);
/* What a waiting one executes, but for the line that calls it. Static. */
const char *warm_source(enum code_language l);
/*
 * Appends the program of a waiting one: source and call. modules: what it imports, NULL-ended; text goes in
 * as a literal, whatever it holds.
 */
void warm_program(
	enum code_language l, enum code_form form, const char *const *modules, struct buf *out);
/* Appends a command for the shell that puts program into the file and runs it as CODE_FILE runs it. */
void warm_file_command(
	enum code_language l, const char *file, const char *program, struct buf *out);

/* CODE_NONE, or what that row of sandbox.conf is by its name. */
enum code_language warm_row_language(const struct language *row);
/* CODE_NONE, or whose CODE_FILE that row of sandbox.conf is: its command is the usual one. */
enum code_language warm_file_language(const struct language *row);
/* The row of sandbox.conf for l; NULL: none. */
const struct language *warm_file_row(const struct conf *c, enum code_language l);

/* The language that a client names; CODE_NONE: none of ours. */
enum code_language code_language_of(const char *name);

/*
 * Whether all of these variables (each with its NUL) may be set in an interpreter that runs. False for those
 * that it, or its C library, reads once when it starts: such code gets one of its own.
 */
bool warm_env_fits(const char *env, size_t n);

/* Why code cannot be given to one that waits: "environment". Static. */
const char *warm_cold_name(enum code_cold why);

/* Appends the document for s, all but its input. */
void warm_document(const struct code_spec *s, struct buf *out);

/* The private pages of "ready N\n" at the end of what one has put out; -1: it does not end so. */
long warm_ready(const char *text, size_t n);

#endif

/*
 * The table of programming languages in which clients may send code: rows of sandbox.conf, see
 * isolate/conf_language.h. Built in are python, javascript and shell.
 */
#ifndef CGIBOX_LANGUAGES_H
#define CGIBOX_LANGUAGES_H

#include "isolate/conf.h"

/* The row of this name, which lives as long as c, or NULL. Any process may call it. */
const struct language *language_find(const struct conf *c, const char *name);

/*
 * Writes the names for an error's text: 'a', 'b' or 'c'. Cut off when out is full; returns out.
 * LANGUAGES_TEXT_MAX is room for the longest table.
 */
enum { LANGUAGES_TEXT_MAX = LANGUAGES_MAX * (LANGUAGE_NAME_MAX + 6) };
const char *language_names(const struct conf *c, char *out, size_t size);

#endif

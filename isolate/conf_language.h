/*
 * The key family language_NAME_{image,file,command,install} of sandbox.conf: programming languages
 * in which clients may send code. python, javascript and shell are built in; three lines (image,
 * file, command) add one. conf.c calls these; others read conf.languages.
 */
#ifndef CGIBOX_CONF_LANGUAGE_H
#define CGIBOX_CONF_LANGUAGE_H

#include <stdbool.h>
#include <stdio.h>

#include "isolate/err.h"

enum { LANGUAGES_MAX = 32, LANGUAGE_NAME_MAX = 32 };

/* Strings are heap memory of the table's; NULL is what nothing has set. */
struct language {
	char *name;
	char *image;   /* reference of the image in which code runs */
	char *file;    /* the code is stored under this name in the working directory */
	char *command; /* of a shell, in that directory */
	char *install; /* of a shell; requirements are appended as arguments; "": none can be */
};

struct conf_languages {
	struct language row[LANGUAGES_MAX];
	size_t n;
};

/* The built-in ones. Returns -1 without memory; then call conf_languages_clear(). */
int conf_languages_init(struct conf_languages *l);
void conf_languages_clear(struct conf_languages *l);

/* Whether key begins as the family's do; conf_language_set() says whether it is one of them. */
bool conf_language_key(const char *key);

/*
 * Sets one key of the family from text; an unknown NAME adds a row. ERR_CONF names the key: not
 * [a-z][a-z0-9+-]{0,31}, no such ending, a value that is empty or not of the form, over
 * LANGUAGES_MAX rows. The row is then as before.
 */
int conf_language_set(struct conf_languages *l, const char *key, const char *value, struct err *e);

/* ERR_CONF when a row lacks image, file or command: for the end of the configuration. */
int conf_languages_check(const struct conf_languages *l, struct err *e);

/* Writes every key that is set, as conf_dump() does. */
void conf_languages_dump(const struct conf_languages *l, FILE *out);

#endif

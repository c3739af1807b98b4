/*
 * Dependencies in the keeper. keeper_deps.c: one request's way from a set to a layer: looked up, or
 * installed by a command that the keeper itself sends, so that no worker can name what it has made.
 * deps_store.c: STATE/deps/<key>, a file for each set that is installed. keeper_deps_attach.c: from a
 * set to a session.
 *
 *	layer <id>        its shared layer, which the file holds as a session's layout does
 *	language <name>
 *	bytes <n>         of what the installer made
 *	end
 *
 * Its mtime is the last use. Beside the layer's fs/ lies "deps", the language's name.
 */
#ifndef CGIBOX_KEEPER_DEPS_H
#define CGIBOX_KEEPER_DEPS_H

#include "fcgi/deps.h"
#include "fcgi/keeper_int.h"

enum { DEPS_TEXT_MAX = 65536, DEPS_INSTALLS_MAX = 4 };

struct deps_entry {
	unsigned char layer[WS_LAYER_ID];
	char language[LANGUAGE_NAME_MAX + 1];
	uint64_t bytes;
};

/* Opens STATE/deps and holds every layer named there; what is damaged is forgotten. */
int deps_store_start(struct keeper *k, struct err *e);
/* ERR_NOTFOUND: it is not installed. Counts as a use. */
int deps_store_find(struct keeper *k, const char *key, struct deps_entry *out, struct err *e);
/* Names a finished layer, which is held from here on. */
int deps_store_add(struct keeper *k, const char *key, const struct deps_entry *in, struct err *e);
/* Forgets what deps_keep_s and deps_max_bytes say, the longest unused first. */
void deps_store_expire(struct keeper *k);

/* The language of a shared layer; false: it is none of dependencies. */
bool deps_layer_language(
	struct keeper *k, const unsigned char *layer, char out[LANGUAGE_NAME_MAX + 1]);

/* Adds what programs need to find the set to a block of variables. */
int deps_environment(struct buf *env, const char *language, struct err *e);

/* The lay of a new session gets the set in; the environment has its variables already. */
int deps_stack(struct keeper *k, struct ws_layout *lay, const struct deps_entry *d, struct err *e);

#endif

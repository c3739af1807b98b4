/* Who uses which parts of the store: images by their records, sessions by their specs. */
#ifndef CGIBOX_USES_H
#define CGIBOX_USES_H

#include "images/layout.h"

/* A list of strings. */
struct names {
	char **list;
	size_t n;
};
void names_clear(struct names *l);
bool names_hold(const struct names *l, const char *name);
/* The names in a directory, sorted; dots: also those that begin with one. ERR_NOTFOUND, ERR_SETUP. */
int names_list(int dirfd, const char *dir, bool dots, struct names *out, struct err *e);
#define OWN_NAMES __attribute__((cleanup(names_clear))) struct names

enum user { USER_IMAGE, USER_SESSION };

struct use {
	char part[80]; /* "layers/<hex>", "host/<hex>" or "images/<hex>" */
	enum user user;
	char who[72]; /* image or session id */
};

struct uses {
	struct use *list;
	size_t n;
};
void uses_clear(struct uses *u);
#define OWN_USES __attribute__((cleanup(uses_clear))) struct uses

/* Adds the layers of all images but that of id `except` (may be NULL). Damage is an error. */
int uses_images(const struct store *s, const char *except, struct uses *u, struct err *e);

/*
 * Adds what sessions name, those being made among them. One that exists when this is called and
 * when it returns is not missed, whatever it is renamed to meanwhile.
 */
int uses_sessions(const struct store *s, struct uses *u, struct err *e);

/* The first use of part, or NULL. */
const struct use *uses_find(const struct uses *u, const char *part);
/* How many users of this kind it has. */
size_t uses_count(const struct uses *u, const char *part, enum user user);

#endif

/*
 * gitignore(5), from the .gitignore files of a tree alone: no repository, no configuration, no
 * info/exclude. A path below an ignored directory is ignored whatever later rules say.
 */
#ifndef CGIBOX_IGNORE_H
#define CGIBOX_IGNORE_H

#include <stdbool.h>
#include <stddef.h>

#include "isolate/buf.h"
#include "isolate/err.h"

enum { IGNORE_FILE_MAX = 1 << 20 }; /* bytes of one .gitignore that count */

struct ignore_rules; /* one file */

/* Parses the text of one .gitignore. Pure; NULL without memory. Tree helper. */
struct ignore_rules *ignore_parse(const char *text, size_t n);
void ignore_rules_free(struct ignore_rules *r);

/* path is relative to the file's directory. 1: ignored, 0: taken back by "!", -1: no rule. */
int ignore_match(const struct ignore_rules *r, const char *path, bool is_dir);

/* Adds the text of DIR/.gitignore ("" is the root) if that is a regular file. */
typedef int ignore_read_fn(void *arg, const char *dir, struct buf *out, struct err *e);

struct ignore_set; /* the rules of a tree, read as they are asked for */

struct ignore_set *ignore_new(ignore_read_fn *read, void *arg);
void ignore_free(struct ignore_set *s); /* NULL is fine */

/* Whether path (relative to the root) is ignored: 1 or 0; -1 with e. Tree helper. */
int ignore_check(struct ignore_set *s, const char *path, bool is_dir, struct err *e);

#endif

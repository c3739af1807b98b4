/*
 * Names and text as `git apply` sees them: which names it refuses, how it wants the others
 * quoted, and what may stand in a patch as text. Pure functions over a tenant's bytes.
 */
#ifndef CGIBOX_PATCH_NAME_H
#define CGIBOX_PATCH_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "isolate/buf.h"

/* Bytes of a path that git can open: PATH_MAX with its NUL. */
enum { PATCH_PATH_MAX = 4095 };

/*
 * Whether one component (n bytes at name) is refused by `git apply`: ".", "..", ".git" in any
 * case, and the spellings of it that NTFS folds (core.protectNTFS is on by default in git:
 * read-cache.c verify_path). Such names are left out on both sides of a patch. Tree helper.
 */
bool patch_name_refused(const char *name, size_t n);

/* The same for each component of a relative path; also empty and over PATCH_PATH_MAX. */
bool patch_path_refused(const char *path);

/*
 * Adds prefix and path, quoted as git's core.quotePath does (C string with octal escapes) when
 * it holds control bytes, quotes, backslashes or bytes over 0x7e; also when a component ends with
 * a blank, where git apply takes the blank for the end of the name.
 */
int patch_name_quote(struct buf *out, const char *prefix, const char *path);

/* Whether the bytes are UTF-8 without NUL, so that they may stand in a patch as they are. */
bool patch_is_text(const void *p, size_t n);

#endif

/*
 * The patterns of gitignore(5). Time is bounded by the product of the two lengths, whatever the
 * pattern: only the last star is ever tried again.
 */
#ifndef CGIBOX_IGNORE_GLOB_H
#define CGIBOX_IGNORE_GLOB_H

#include <stdbool.h>

/* One component against one component: * ? [a-z] [!a-z] [[:class:]] and backslash. */
bool glob_name(const char *pattern, const char *name);

/* A path against a pattern with slashes, where the component "**" stands for any number. */
bool glob_path(const char *pattern, const char *path);

#endif

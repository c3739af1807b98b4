/* The extended attributes of files that layers keep: user.*, but what overlay and we use. */
#ifndef CGIBOX_ATTRS_H
#define CGIBOX_ATTRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ATTRS_BYTES_MAX = 65536
}; /* of all names of a file, and of one value: the kernel's bounds */

/* Whether an attribute of this name is one of them. */
bool attrs_kept(const char *name);

/* Calls fn for each of an open file, in no order. -1: fn said so, or errno. */
int attrs_each(
	int fd, int (*fn)(void *arg, const char *name, const void *value, size_t n), void *arg);

/* A checksum of all of them, whatever their order; 0: there are none. -1 with errno. */
int attrs_sum(int fd, uint32_t *out);

#endif

/*
 * A tenant's tree, read without following anything: every directory is opened from the root of
 * the walk (isolate/beneath.h), so depth costs no descriptors.
 */
#ifndef CGIBOX_WS_WALK_H
#define CGIBOX_WS_WALK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "isolate/err.h"

enum { WS_PATH_MAX = 4095 }; /* longer paths cannot stand in a patch and are not visited */

/*
 * One entry: path from the root of the walk (len bytes), name its last component, dirfd the
 * directory that holds it, type its S_IFMT bits. Result: 1 to descend (directories), 0, or -1.
 */
struct ws_visit {
	int dirfd;
	const char *path, *name;
	size_t len;
	uint32_t type;
};
typedef int ws_visit_fn(void *arg, const struct ws_visit *v, struct err *e);

/* Visits everything below start ("" is root itself), in no order. Tree helper. */
int ws_walk(int root, const char *start, ws_visit_fn *fn, void *arg, struct err *e);

/* beneath_open() below root, without links. Returns a descriptor, or -1 with errno. */
int ws_open(int root, const char *path, int flags);

/* lstat below root, without links on the way. 0, or -1 with errno. */
int ws_stat(int root, const char *path, struct stat *st);

/* The target of a symbolic link, heap memory of the caller; NULL with errno. */
char *ws_readlink(int dirfd, const char *name, size_t size);

/* Calls fn for the names of one directory, by descriptor (borrowed); stops on -1. */
typedef int ws_name_fn(void *arg, int dirfd, const char *name, uint32_t type, struct err *e);
int ws_names(int dirfd, ws_name_fn *fn, void *arg, struct err *e);

#endif

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

/*
 * The same in a tree where others may be at work: enter opens each directory, and what vanishes while
 * it is read is passed over.
 */
enum { WS_PASS_OVER = -2 }; /* as if the directory were not there */
typedef int ws_enter_fn(int root, const char *dir, struct err *e); /* a descriptor, -1, or that */
int ws_walk_with(
	int root, const char *start, ws_enter_fn *enter, ws_visit_fn *fn, void *arg, struct err *e);

/* A stack of heap strings, for walks. pop hands its string over; NULL: none is left. */
struct ws_paths {
	char **v;
	size_t n, cap;
};
int ws_paths_push(struct ws_paths *p, const char *path, struct err *e); /* copies */
char *ws_paths_pop(struct ws_paths *p);
void ws_paths_clear(struct ws_paths *p);

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

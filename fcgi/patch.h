/*
 * A list of changed paths, written as the patch that `git diff -M --binary` would make of them,
 * without a repository: libgit2 gives hunks, binary deltas and similarity; headers, order and
 * the choice of what is text are ours. So no configuration, attribute, filter or driver can have
 * a say, and only one pair of files is in memory at a time.
 */
#ifndef CGIBOX_PATCH_H
#define CGIBOX_PATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/err.h"

struct patch_side {
	uint32_t mode; /* st_mode of a regular file or symbolic link; 0: absent */
	uint64_t size;
	int64_t at; /* the source's own: an offset, a layer number */
	char *link; /* symbolic link: size bytes of heap memory, owned; else NULL */
};

struct patch_change {
	char *path; /* relative; owned */
	struct patch_side old, new;
};

struct patch_list {
	struct patch_change *v;
	size_t n, cap;
};

struct patch_source {
	/*
	 * Opens one side of a change, which is a regular file: a descriptor (the caller's) whose
	 * contents lie from *offset on; -1 with e.
	 */
	int (*open)(
		void *arg, const struct patch_change *c, bool newer, off_t *offset, struct err *e);
	void *arg;
};

/* Adds a change; path is copied, links are taken over even on error. Tree helper. */
int patch_add(struct patch_list *l, const char *path, struct patch_side *old,
	struct patch_side *new, struct err *e);
void patch_list_clear(struct patch_list *l);

/*
 * Writes the patch to out_fd, ASCII and UTF-8 only; *bytes is its length, 0 when nothing changed.
 * Changes whose two sides turn out to be the same are dropped. ERR_LIMIT naming patch_max_bytes
 * when the patch, or one file that must be read for it, is larger. git_libgit2_init() must have
 * been called. Tree helper.
 */
int patch_write(const struct patch_list *l, const struct patch_source *src, int out_fd,
	int64_t max_bytes, uint64_t *bytes, struct err *e);

#endif

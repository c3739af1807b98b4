/*
 * The baseline of the plain form: for every file of the archive what it looked like on disk
 * right after it was unpacked, and where its contents lie in base.raw. A file whose inode, size,
 * mode and times are as recorded is unchanged, if its change time is before the index's own: a
 * later write may carry that one (file times advance in ticks of up to 10 ms), and then the
 * contents are compared instead.
 */
#ifndef CGIBOX_WS_INDEX_H
#define CGIBOX_WS_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "isolate/buf.h"
#include "isolate/err.h"

enum { WS_INDEX_MAX_BYTES = 1 << 30 };

/*
 * One regular file or symbolic link. When the archive is all there is in the tree, also its
 * directories (of which "" is the root): one that is unchanged holds the same names as then.
 */
struct ws_entry {
	const char *path; /* borrowed from the index's bytes */
	uint32_t len, mode;
	uint64_t size, inode;
	int64_t ctime_ns, mtime_ns;
	int64_t at; /* offset of the contents (of a link: its target) in base.raw */
	bool seen;  /* the reader's */
};

/* The first len bytes of an entry's path. */
struct ws_index_dir {
	uint32_t entry, len; /* entry number + 1, 0 is free */
};

struct ws_index {
	struct ws_entry *v;
	size_t n;
	int64_t time_ns;            /* CLOCK_REALTIME_COARSE after it was complete */
	char *bytes;                /* the file, owned; holds the paths */
	uint32_t *files;            /* hash table: entry number + 1, 0 is free */
	struct ws_index_dir *dirs;  /* hash table of the directories that hold files */
	size_t file_mask, dir_mask; /* slots - 1, which is a power of two - 1 */
	uint64_t seed;
	bool rest; /* its paths are such as git refuses */
};

/* Writing, in memory: begin, any number of entries, end. */
int ws_index_begin(struct buf *out, struct err *e);
int ws_index_add(struct buf *out, const struct ws_entry *en, struct err *e);
int ws_index_end(struct buf *out, int64_t time_ns, struct err *e);

/* Fills en from st; path and at are left alone. */
void ws_entry_set(struct ws_entry *en, const struct stat *st);

/* Whether st shows that the file cannot have changed since. */
bool ws_entry_unchanged(const struct ws_index *x, const struct ws_entry *en, const struct stat *st);

/*
 * Reads an index; takes bytes (heap memory) over, also on error. Every number is checked; a
 * damaged one is ERR_SETUP. Pure; a fuzz target. Tree helper.
 */
int ws_index_parse(struct ws_index *x, char *bytes, size_t n, struct err *e);
/* The same for one that lists names which are never part of a patch: no patch may be made of it. */
int ws_index_parse_rest(struct ws_index *x, char *bytes, size_t n, struct err *e);
void ws_index_clear(struct ws_index *x);

/* The entry of path (n bytes), or NULL. */
struct ws_entry *ws_index_find(const struct ws_index *x, const char *path, size_t n);
/* Whether any file lies below the directory path (n bytes). */
bool ws_index_has_dir(const struct ws_index *x, const char *path, size_t n);

#endif

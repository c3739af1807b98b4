/*
 * File verbs on a session's trees: what a worker asks, what the keeper passes on, and what a tree
 * helper (tree.c) does in the session's view (isolate/jail_view.h). Order and result have a fixed
 * size; texts (paths, patterns) travel in one descriptor and contents in another, the data.
 *
 * What became of a verb is a code; that it could not be tried is an error (isolate/err.h).
 */
#ifndef CGIBOX_FILE_VERBS_H
#define CGIBOX_FILE_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/buf.h"
#include "isolate/err.h"

enum files_verb {
	FILES_STAT = 1, /* path */
	FILES_LIST,     /* path. Data: records */
	FILES_LINES,    /* path; offset, limit: lines. Data: the page, lines parted by LF; or all
			   bytes of what is no UTF-8 */
	FILES_GREP,     /* path, pattern, glob ("": all), excluded names ... Data: records */
	FILES_GLOB,     /* path, pattern, excluded names ... Data: records */
	FILES_WRITE,    /* path; mode. Data: the contents */
	FILES_APPEND,   /* path; mode; offset, total: a piece of an upload. Data: the piece */
	FILES_EDIT,     /* path, old, new */
	FILES_DELETE,   /* path */
	FILES_MKDIR,    /* path; mode */
	FILES_FETCH,    /* path; offset, limit: bytes. Data: them */
	FILES_PACK,     /* path of a directory. Data: a tar of it */
	FILES_UNPACK,   /* path of a directory. Data: an archive, laid over it */
	FILES_VERB_MAX,
};

enum files_flag {
	FILES_CREATE_ONLY = 1, /* WRITE: what is there stays */
	FILES_REPLACE_ALL = 2, /* EDIT */
	FILES_RECURSIVE = 4,   /* DELETE: directories, too */
	FILES_WORKSPACE = 8,   /* the session's /repo is to be at /workspace/repo from now on */
	FILES_PROBE = 16,      /* APPEND: only tells how much is there */
	FILES_AT_REST = 32,    /* STAT, PACK: a sandbox that runs is ended first */
	FILES_ZIP = 64,        /* PACK: a zip, not a tar */
	/* PACK, as tar.gz: regular files alone that were changed (ctime) at `offset`, ns, or later; no name in
	 * their path begins with a dot; at most `limit` bytes, 0 = as any. records: how many */
	FILES_CHANGED_ONLY = 128,
	FILES_FLAGS_ALL = 255,
};

enum files_code {
	FILES_OK,
	FILES_NOT_FOUND,
	FILES_NOT_DIR,
	FILES_IS_DIR,
	FILES_NOT_FILE, /* a FIFO, device or socket */
	FILES_NOT_TEXT,
	FILES_NO_MATCH,  /* EDIT: old does not occur; n[0] = 1: it would, once, without its last LF;
			     n[0] > 1: so often */
	FILES_AMBIGUOUS, /* EDIT: n[0] times */
	FILES_EXISTS,
	FILES_TOO_LARGE, /* text says which limit */
	FILES_BAD_OFFSET, /* LINES: beyond n[0] lines; FETCH: beyond size; APPEND: n[0] is the offset */
	FILES_DENIED,
	FILES_BAD_PATTERN, /* text says why */
	FILES_BAD_PATH,    /* links in a circle, a name that is too long, a place in /proc */
	FILES_NOT_EMPTY,
	FILES_NO_SPACE,
	FILES_BUSY,        /* a mount point */
	FILES_CHANGED,     /* shrank while it was read */
	FILES_UNREADABLE,  /* GREP: text says which file */
	FILES_BAD_ARCHIVE, /* UNPACK: text */
	FILES_CODE_MAX,
};

enum { FILES_TEXTS_MAX = 64, FILES_TEXT_BYTES_MAX = 32 << 20, FILES_PATH_MAX = 4095 };

struct files_order {
	uint32_t verb, flags; /* enum files_verb, files_flag */
	uint32_t mode;        /* permission bits of what is made */
	uint32_t text_bytes;  /* size of the texts */
	int64_t offset, limit, total;
};

/* Limits of sandbox.conf that the helper holds. */
struct files_limits {
	int64_t read_max_bytes, scan_max_bytes, edit_max_bytes, transfer_max_bytes;
	int64_t matches_max, entries_max, grep_steps_max;
	int64_t unpacked_max_bytes, unpacked_entries_max, ratio_max;
};

enum files_result_flag {
	FILES_TRUNCATED = 1, /* there is more */
	FILES_BINARY = 2,    /* LINES: no UTF-8 */
	FILES_MADE = 4,      /* a new name; DELETE: something was there */
	FILES_UNSTABLE = 8,  /* FETCH: changed while it was read: no tag */
	FILES_COMPLETE = 16, /* APPEND: all of it is there, and in its place */
};

struct files_result {
	uint32_t code, flags; /* enum files_code, files_result_flag */
	uint32_t mode;        /* type and permission bits, as of stat(2) */
	uint32_t records;     /* LIST, GLOB, GREP; UNPACK: of the archive; else, of what makes
				 directories: how many at most */
	int64_t size, mtime_ns, ctime_ns;
	uint64_t ino;
	int64_t bytes; /* in the data */
	int64_t n
		[2]; /* LINES: all lines, last complete line of the page; EDIT: replaced; FETCH: place
			  of the first byte; see also the codes */
	char text[160];
};

/* Before each record of LIST, GLOB and GREP; name and text follow, without NUL. */
struct files_record {
	uint32_t mode, name_bytes, text_bytes, cut; /* cut: text is only the start of the line */
	int64_t size, mtime_ns, line;
};

/* One text of an order. */
struct files_text {
	const char *p; /* with a NUL behind it */
	size_t n;
};

/* Worker: appends one text to those of an order. */
void files_put_text(struct buf *b, const char *p, size_t n);

/* Takes the texts apart, in place; out has FILES_TEXTS_MAX places. Returns their number, or -1. Pure. */
int files_take_texts(const char *p, size_t n, struct files_text *out);

/* Whether order and result are in range. Pure; any process. */
bool files_order_valid(const struct files_order *o);
bool files_result_valid(const struct files_result *r);

/*
 * Worker: the record at *at of the data fd (to end); name and text go to b, which is emptied before.
 * 1, 0 at the end, -1 when it is out of shape (ERR_BUG). *at moves on.
 */
int files_next(
	int fd, int64_t *at, int64_t end, struct files_record *rec, struct buf *b, struct err *e);

/* What a code means, in a few words. Pure. */
const char *files_code_text(uint32_t code);

/*
 * Tree helper: does one verb in the root that it has entered. texts and data are borrowed. 0: out is
 * filled, and its code may be any. -1: it could not be done (ERR_SETUP, ERR_BUG).
 */
int files_run(const struct files_order *o, const struct files_limits *lim, int texts, int data,
	struct files_result *out, struct err *e);

#endif

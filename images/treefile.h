/*
 * The file "tree" of a layer: what its archive said of each object, of which the unpacked tree
 * can show only a part (owners, set-id bits, devices), and a checksum of each file. A line "cgibox-tree 1",
 * then one for each entry, parents first:
 *
 *	TYPE MODE UID GID SIZE SEC.NSEC VALUE PATH
 *
 * TYPE is f, d, l (symbolic link), h (one more name of a file), w (whiteout), or b, c, p for a
 * device or FIFO that was left out. MODE is octal, with set-id bits. VALUE is the CRC-32 of a
 * file, followed by "+" and that of its attributes (attrs.h) when it has some, the target of a link, "opaque" for such a directory, MAJOR:MINOR, or "-". PATH is "."
 * for the root. The time of whiteouts, of the root and of a directory that is only
 * implied is 0. Bytes outside 0x21..0x7e and the backslash are \xNN. Pure but for reading.
 *
 * The checksum is against a broken disk or a foreign hand without intent: every bit was verified
 * by SHA-256 when it came in, and who may write to the store may write to this file, too.
 */
#ifndef CGIBOX_TREEFILE_H
#define CGIBOX_TREEFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "images/entry.h"
#include "isolate/buf.h"
#include "isolate/err.h"

#define TREEFILE_MAGIC "cgibox-tree 1\n"

enum { TREEFILE_LINE_MAX = 8 * ENTRY_NAME_MAX + 256 };

struct tree_entry {
	char type;
	bool opaque;
	uint32_t mode, uid, gid;
	uint32_t crc, attrs, major, minor;
	uint64_t size; /* bytes of a file */
	int64_t sec;
	uint32_t nsec;
	char path[ENTRY_NAME_MAX + 1], link[ENTRY_NAME_MAX + 1];
};

/* Appends the line of en. */
void treefile_format(const struct tree_entry *en, struct buf *out);

/* Reads one line without its line feed. false: malformed, out is then unspecified. */
bool treefile_parse(const char *line, struct tree_entry *out);

struct treefile {
	FILE *f;
	uint32_t crc; /* of what was read */
	char *line;
	size_t size;
	struct tree_entry en; /* the current one */
};

/* Takes fd over, also on failure. ERR_SETUP when it is no such file. Always treefile_close(). */
int treefile_open(struct treefile *t, int fd, struct err *e);
/* 1: t->en is filled; 0: the end; -1: damaged. */
int treefile_next(struct treefile *t, struct err *e);
void treefile_close(struct treefile *t);

#endif

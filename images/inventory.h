/*
 * What an archive said of the objects that it made, kept by inode number while it is unpacked and
 * written as the file "tree" (treefile.h) by one walk at the end, which sees what really is there
 * however often names were replaced. Lives in the jailed unpacker.
 */
#ifndef CGIBOX_INVENTORY_H
#define CGIBOX_INVENTORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolate/buf.h"
#include "isolate/err.h"

struct inventory_meta {
	uint32_t mode, uid, gid; /* mode: as in the archive, with type and set-id bits */
	uint32_t crc, attrs;     /* of contents and of attributes (attrs.h) */
};

struct inventory_sum {
	uint32_t crc;            /* of the file "tree" */
	uint64_t setid, dropped; /* files whose set-id bits, devices and FIFOs that were left out */
};

struct inventory {
	struct inventory_slot *slots; /* a hash table, open addressing */
	size_t nslots, used;
	struct buf paths;   /* first names of files that have several */
	struct buf dropped; /* lines of the file */
	uint64_t ndropped;
};

void inventory_init(struct inventory *v);
void inventory_clear(struct inventory *v);

/* Notes an object by inode number; one of that number is forgotten. ERR_LIMIT without memory. */
int inventory_add(struct inventory *v, ino_t ino, const struct inventory_meta *meta, struct err *e);
/* The object of this name below dirfd. */
int inventory_add_path(struct inventory *v, int dirfd, const char *path,
	const struct inventory_meta *meta, struct err *e);
/* A device or FIFO that does not come to be. type: b, c or p. */
void inventory_drop(struct inventory *v, char type, const char *path,
	const struct inventory_meta *meta, uint32_t major, uint32_t minor, int64_t sec);

/*
 * CRC-32 of n more bytes; p NULL stands for zeros. Start with 0.
 */
uint32_t inventory_crc(uint32_t crc, const void *p, uint64_t n);

/* Walks the tree (a directory descriptor, borrowed) and writes the file. ERR_LIMIT, ERR_SETUP. */
int inventory_write(
	struct inventory *v, int dirfd, int out, struct inventory_sum *sum, struct err *e);

#endif

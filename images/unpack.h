/*
 * One archive into one directory, with libarchive. The caller is a tree helper that has entered
 * the target as its root (isolate/jail.h), so no name and no link of the archive can reach
 * outside; the rules below are about what may be left inside and how much.
 */
#ifndef CGIBOX_UNPACK_H
#define CGIBOX_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/err.h"

struct unpack_policy {
	bool layer; /* image layer: whiteouts to overlay form, hard links, safe xattrs, modes kept
	                 less setid bits, devices dropped and counted. false: a client's archive, by
	                 the rules of daiv: regular files, directories, relative in-tree symlinks and
	                 hard links; absolute names and ".." refused with ERR_REQUEST; anything else
	                 skipped and counted; modes a+rX,u+w less setid and sticky; mtime 0 */
	int64_t packed_max_bytes, unpacked_max_bytes, entries_max;
	int64_t ratio_max; /* unpacked/packed, an entry as 4 KiB more; from 16 MiB unpacked on */
	int64_t name_max_bytes; /* 4096 */
	int64_t depth_max;      /* directory depth, 128 */
};

struct inventory;

struct unpack_stats {
	uint64_t packed_bytes, unpacked_bytes, entries;
	uint64_t files, directories, symlinks, hardlinks, whiteouts;
	uint64_t skipped; /* devices, FIFOs, sockets, unsafe links */
};

/*
 * Called after each entry that now exists, in archive order (a path may come twice; the later
 * one counts). path is relative without "./"; data_offset is the file's place in the plain tar
 * written to unpack_plan.raw_fd, or -1. Return -1 with e set to stop, UNPACK_NO_RAW when raw_fd shall
 * receive nothing from now on, else 0.
 */
enum { UNPACK_NO_RAW = 1 };
typedef int unpack_entry_fn(void *arg, const char *path, uint32_t mode, uint64_t size,
	int64_t data_offset, struct err *e);

/*
 * Called with every byte of the plain tar, in order, to its end; for a digest. Comes from a second
 * thread (ahead.h), which has ended when unpack() returns.
 */
typedef void unpack_bytes_fn(void *arg, const void *p, size_t n);

struct unpack_plan {
	int in_fd;  /* the archive, read to its end; tar plain, gzip, bzip2, xz or zstd */
	int dir_fd; /* target, below the jail's root */
	int raw_fd; /* -1, or receives the contents of regular files; see unpack_entry_fn */
	struct unpack_policy policy;
	unpack_entry_fn *entry;      /* NULL: none */
	unpack_bytes_fn *bytes;      /* NULL: none */
	struct reroute *reroute;     /* layers: links of the lower ones (reroute.h); NULL: none */
	struct inventory *inventory; /* receives what the archive says (inventory.h); NULL: none */
	void *arg;
};

/*
 * ERR_REQUEST with the texts of the daiv API for a bad archive ("Invalid or truncated archive:
 * ..", "Archive contains a parent-directory traversal path: '../x'", "Archive contains an
 * absolute path: '/x'"), ERR_LIMIT with the limit's name and number, ERR_SETUP for our own
 * trouble. What was written before an error stays; the caller removes the tree.
 */
int unpack(const struct unpack_plan *plan, struct unpack_stats *out, struct err *e);

#endif

/*
 * Opening and making things below a directory whose contents a stranger controls: an image, what
 * a tenant left in its root or workspace, an unpacked archive. Every open, mkdir, mount target,
 * working directory and removal below such a directory begins here; docs/design.md lists the
 * exceptions and why they are none.
 *
 * openat2(2) resolves in one step with the limits below. Where it is missing (gVisor) or filtered
 * (systemd's RestrictSUIDSGID=), the path is walked one component at a time, each opened by
 * O_PATH|O_NOFOLLOW from the directory before it: every link and every ".." is then refused with
 * ELOOP, so plain trees go on working and nothing can lead out.
 *
 * No heap, no state: pid 1 uses it too. Results are descriptors with O_CLOEXEC, or -1 with errno.
 */
#ifndef CGIBOX_BENEATH_H
#define CGIBOX_BENEATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum beneath {
	BENEATH_NO_LINKS, /* no link at all; a path that leaves root is EXDEV */
	BENEATH_LINKS,    /* links are followed as long as they stay below root, else EXDEV */
	BENEATH_IN_ROOT,  /* links are followed as if root were the caller's root directory */
	/* The same, and a path that leaves the mount of root is EXDEV: what is mounted below holds
	 * links of others. Without openat2(2) links are refused, mounts are crossed. */
	BENEATH_ONE_MOUNT,
};

/*
 * openat(2) below root (borrowed; AT_FDCWD is the working directory). flags as for open(2),
 * O_CREAT excluded. With O_PATH|O_NOFOLLOW a link as the last component is opened itself.
 * EAGAIN, which openat2 says for a ".." that raced with any rename or mount of the machine, is
 * tried again BENEATH_TRIES times: enough for the few ".." of a real path under a storm of renames;
 * one with hundreds of them may then fail.
 */
int beneath_open(int root, const char *path, int flags, enum beneath how);

/* A regular file, opened without following a last link and without waiting for anybody: a FIFO,
 * a device, a socket or a directory in its place is EINVAL. flags: O_RDONLY or O_WRONLY. */
int beneath_open_file(int root, const char *path, int flags, enum beneath how);

/* The directory path below root as an O_PATH descriptor; what is missing is made with 0755. */
int beneath_make_dir(int root, const char *path, enum beneath how);

/*
 * The mount target of something that is no directory: an O_PATH descriptor of path, an empty file
 * (0644) made when nothing is there. EISDIR when a directory is. What else is there is only
 * covered, never opened.
 */
int beneath_make_file(int root, const char *path, enum beneath how);

/* Whether openat2(2) works here; without it links are refused. Costs one system call. */
bool beneath_has_links(void);

enum { BENEATH_TRIES = 128 };

#endif

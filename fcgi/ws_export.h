/* A workspace as one archive, written as it is walked: memory does not depend on its size. */
#ifndef CGIBOX_WS_EXPORT_H
#define CGIBOX_WS_EXPORT_H

#include "fcgi/workspace.h"

enum ws_format { WS_TAR, WS_TAR_GZ, WS_ZIP, WS_FORMAT_MAX };

struct ws_export {
	uint32_t format;   /* enum ws_format */
	uint32_t uid, gid; /* put down as the owner of everything */
	const char *path;  /* the file or directory that is wanted, "" = all; names in the archive
			   * begin at the workspace's root all the same */
};

/*
 * Writes the archive to out_fd, a pipe or a file. Directories, regular files and links, symbolic
 * and (tar) hard ones; what else lies there is left out. Names are the tenant's bytes, each below
 * the root and none absolute. ERR_NOTFOUND: nothing is at path; ERR_REQUEST: path cannot be one
 * (nothing was written then). lay, shared as of ws_patch(). Tree helper.
 */
int ws_export(const struct ws_layout *lay, const int *shared, const struct ws_export *x, int out_fd,
	struct err *e);

#endif

/* Names of snapshots and commits: they are file names of ours and parts of paths of the API. */
#ifndef CGIBOX_MARK_H
#define CGIBOX_MARK_H

#include <stdbool.h>

/* 1 to WORKSPACE_MARK_MAX of [A-Za-z0-9._-], no dot or hyphen first. Pure; any process. */
bool mark_name_good(const char *name);

#endif

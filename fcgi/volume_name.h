/*
 * Names of volumes and the places where a sandbox may have one. "NAME" is shared by all who name it;
 * "SESSION.NAME" is one session's own and goes with it. Pure; any process.
 */
#ifndef CGIBOX_VOLUME_NAME_H
#define CGIBOX_VOLUME_NAME_H

#include <stdbool.h>

enum {
	VOLUME_SHARED_MAX = 63,             /* bytes of a shared name */
	VOLUME_NAME_MAX = 36 + 1 + 63,      /* of any */
	VOLUME_PATH_MAX = 255,              /* of a place */
	VOLUMES_MAX = 16,                   /* of one sandbox */
	VOLUMES_TEXT_MAX = 16 * (100 + 257) /* of the list of them */
};

/* Whether s is a name that clients may give: letters, digits, "_" and "-", no "-" or "_" first. */
bool volume_shared_ok(const char *s);

/* The same, or a session's own. */
bool volume_name_ok(const char *s);

/* Whether a volume may be seen at path; NULL, or why not. */
const char *volume_path_fault(const char *path);

#endif

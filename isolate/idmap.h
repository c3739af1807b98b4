/* One uid and one gid mapped into a new user namespace: all that an unprivileged user may. */
#ifndef CGIBOX_IDMAP_H
#define CGIBOX_IDMAP_H

#include <sys/types.h>

#include "isolate/err.h"

/*
 * Maps inner uid and gid of the calling process's fresh user namespace to outer_uid and
 * outer_gid of the parent namespace: the effective ids the process had there. Denies
 * setgroups(2), which the kernel demands (user_namespaces(7)). Allocates nothing: also called
 * between clone(CLONE_VM) and exec.
 */
int idmap_write(uid_t inner_uid, gid_t inner_gid, uid_t outer_uid, gid_t outer_gid, struct err *e);

#endif

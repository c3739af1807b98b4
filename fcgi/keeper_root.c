/*
 * The writable layer of a session's root. On the disk it is kept between sandboxes, and the watchdog
 * measures what is in it. In a tmpfs its size is exact and the kernel's, and it ends with its sandbox;
 * what the session was made with (home, /tmp, /repo) then lies below it.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include "fcgi/keeper_int.h"
#include "isolate/own.h"

bool root_in_memory(const struct keeper *k)
{
	return k->conf->session_root == SESSION_ROOT_TMPFS;
}

/* Without user attributes, before Linux 6.6, an overlay on a tmpfs mounts, and fails at the first
 * directory of the image that is replaced. */
int root_check(const struct keeper *k, struct err *e)
{
	OWN_FD fd = memfd_create("probe", MFD_CLOEXEC);

	if (!root_in_memory(k) || (fd >= 0 && fsetxattr(fd, "user.overlay.opaque", "y", 1, 0) == 0))
		return 0;
	return err_set(e, ERR_CONF, errno,
		"session_root = tmpfs needs extended attributes in tmpfs (Linux 6.6)");
}

void root_settle(const struct keeper *k, const char **lowers, struct launch_mount *m)
{
	if (!root_in_memory(k))
		return;
	lowers[0] = m->upper;
	m->lowers = lowers;
	m->nlowers++;
	m->upper = m->work = NULL;
	m->flags = PLAN_TMPFS_UPPER;
	m->bytes = (uint64_t)k->conf->tmpfs_max_bytes;
	m->inodes = (uint64_t)k->conf->tmpfs_max_inodes;
}

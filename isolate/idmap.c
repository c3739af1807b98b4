#include "isolate/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "isolate/own.h"

static int write_file(const char *path, const char *text, struct err *e)
{
	OWN_FD fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open %s", path);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return err_set(e, ERR_SETUP, errno, "write \"%s\" to %s", text, path);
	return 0;
}

int idmap_write(uid_t inner_uid, gid_t inner_gid, uid_t outer_uid, gid_t outer_gid, struct err *e)
{
	char line[64];

	if (write_file("/proc/self/setgroups", "deny", e) < 0)
		return -1;
	snprintf(line, sizeof line, "%u %u 1", inner_uid, outer_uid);
	if (write_file("/proc/self/uid_map", line, e) < 0)
		return -1;
	snprintf(line, sizeof line, "%u %u 1", inner_gid, outer_gid);
	return write_file("/proc/self/gid_map", line, e);
}

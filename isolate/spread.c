#include "isolate/spread.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

void spread_entries(int fd)
{
	int flags; /* not a long, whatever the number of the call says */

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && !(flags & FS_TOPDIR_FL)) {
		flags |= FS_TOPDIR_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

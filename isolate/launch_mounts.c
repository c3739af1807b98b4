#include "isolate/launch_mounts.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "isolate/fdmsg.h"
#include "isolate/own.h"

int mounts_hold(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/*
 * A descriptor is closed by who closes it, except one in a message that nobody can receive any more: those the
 * collector of unix(7) sockets closes, which is a worker of its own. Here the message waits in
 * the very socket that it carries. The end of the other socket starts the collector.
 */
void mounts_leave(int *ns)
{
	OWN_FD mounts = *ns, trigger = -1, holder = -1;
	int pair[2];

	*ns = -1;
	if (mounts < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	trigger = pair[0];
	holder = pair[1];
	if (fdmsg_send(trigger, "", 1, (const int[]){holder, mounts}, 2, MSG_DONTWAIT) < 0)
		return;
	own_close(&mounts);
	own_close(&holder);
}

/* Giving back what a run had mounted, without making the caller wait for it. */
#ifndef CGIBOX_LAUNCH_MOUNTS_H
#define CGIBOX_LAUNCH_MOUNTS_H

#include <sys/types.h>

/*
 * Holds the mount namespace of pid 1, who is a child of ours, until mounts_leave(): the end of the last
 * process inside takes it apart otherwise, and is not over before (two expedited grace periods of RCU, and one
 * superblock after the other: 0.3 ms, on a busy machine many). Returns a descriptor of /proc/PID/ns/mnt
 * (namespaces(7)), which the caller owns; -1: it cannot be held, and the end takes its time.
 */
int mounts_hold(pid_t pid);

/*
 * After the last process inside is reaped: leaves the namespace, taken over in *ns, to a worker of the
 * kernel, who takes it apart within some milliseconds (since Linux 6.9; before, this call does).
 * Whatever fails, it is closed, as by the end of the process. -1 is left alone.
 */
void mounts_leave(int *ns);

#endif

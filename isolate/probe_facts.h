/* The functions behind probe_table, and what they share. Each runs in a child of its own. */
#ifndef CGIBOX_PROBE_FACTS_H
#define CGIBOX_PROBE_FACTS_H

#include "isolate/err.h"
#include "isolate/probe.h"

/* probe_kernel.c */
probe_fn probe_kernel, probe_seccomp, probe_no_new_privs, probe_landlock, probe_openat2,
	probe_close_range, probe_pidfd, probe_tmpfs_xattr;
/* probe_user.c */
probe_fn probe_user, probe_groups, probe_open_files, probe_cgroup;
/* probe_ns.c */
probe_fn probe_userns, probe_userns_limits, probe_userns_sysctl, probe_apparmor, probe_container,
	probe_mount_api, probe_proc, probe_pid_max;
/* probe_host.c */
probe_fn probe_core_pattern, probe_links, probe_rlimits;
/* probe_network.c */
probe_fn probe_network, probe_tun, probe_pasta;
/* probe_engine.c */
probe_fn probe_engine;
/* probe_state_dir.c */
probe_fn probe_state_dir, probe_state_fs, probe_state_space, probe_overlay;

/* Moves the calling process to a new user namespace, as its root, and those of `flags`. */
int probe_enter(int flags, struct err *e);

/* Reads a small text file, without its last line's end. False when it cannot be read. */
bool probe_read(const char *path, char *out, size_t size);

/* The text of e. */
void probe_say_err(struct fact *f, int state, const struct err *e);

#endif

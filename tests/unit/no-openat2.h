/* A seccomp filter that takes openat2(2) away, as gVisor and systemd's RestrictSUIDSGID= do. It
 * lasts for the process and its children. */
#ifndef CGIBOX_TESTS_NO_OPENAT2_H
#define CGIBOX_TESTS_NO_OPENAT2_H

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "isolate/sys.h"

/* Whether openat2 fails with errnum from now on. */
static inline bool take_openat2(int errnum)
{
	struct sock_filter ins[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof ins / sizeof ins[0], ins};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return false;
	return sys_openat2(AT_FDCWD, "/", O_PATH, 0, 0) < 0 && errno == errnum;
}

#endif

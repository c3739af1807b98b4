/* For tests of the jail, which is made for an ordinary user: a child becomes one, also where root tests. */
#ifndef CGIBOX_TEST_USER_H
#define CGIBOX_TEST_USER_H

#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { TEST_UID = 12345 };

static inline void become_user(void)
{
	if (geteuid() == 0 &&
		(setgroups(0, NULL) < 0 || setresgid(TEST_UID, TEST_UID, TEST_UID) < 0 ||
			setresuid(TEST_UID, TEST_UID, TEST_UID) < 0))
		_exit(98);
	prctl(PR_SET_DUMPABLE, 1); /* else /proc/self/uid_map still belongs to root */
}

#endif

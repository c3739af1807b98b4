/* What is done with a filter that is built, and does not need libseccomp. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "isolate/filter.h"
#include "isolate/own.h"

/* What cannot be read may be one. */
bool filter_core_handler(void)
{
	OWN_FD fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
	char first = '|';

	return fd < 0 || read(fd, &first, 1) != 1 || first == '|';
}

void filter_free(struct filter *f)
{
	free(f->ins);
	memset(f, 0, sizeof *f);
}

int filter_load(const struct filter *f, struct err *e)
{
	struct sock_fprog prog = {.len = f->len, .filter = f->ins};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "set no_new_privs");
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return err_set(e, ERR_SETUP, errno, "load the seccomp filter");
	return 0;
}

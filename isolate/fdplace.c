#include "isolate/fdplace.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "isolate/mutate.h"
#include "isolate/sys.h"

int fdplace(const int *from, size_t n, int first, struct err *e)
{
	int moved[FDPLACE_MAX], end = first + (int)n;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return err_set(e, ERR_SETUP, errno, "open /dev/null");
	if (n == 0 || n > FDPLACE_MAX)
		return err_set(e, ERR_BUG, 0, "place %zu descriptors", n);
	for (size_t i = 0; i < n; i++) {
		moved[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, end);
		if (from[i] >= 0 && moved[i] < 0)
			return err_set(e, ERR_SETUP, errno, "move descriptors");
	}
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	for (size_t i = 0; i < n; i++) {
		if (moved[i] < 0)
			close(first + (int)i);
		else if (dup2(moved[i], first + (int)i) < 0)
			return err_set(e, ERR_SETUP, errno, "place descriptors");
	}
	fcntl(end - 1, F_SETFD, FD_CLOEXEC);
	if (!MUTATED("init-close") && sys_close_range((unsigned)end, ~0U, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "close descriptors");
	return 0;
}

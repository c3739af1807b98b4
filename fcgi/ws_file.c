#include "fcgi/ws_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/ws_walk.h"
#include "isolate/own.h"

int ws_file_replace(const char *name, const void *p, size_t n, struct err *e)
{
	const char *from = p;
	OWN_FD fd = open("new.file", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t done = 0;

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "create \"%s\"", name);
	while (done < n) {
		ssize_t k = write(fd, from + done, n - done);

		if (k < 0 && errno != EINTR)
			return err_set(e, ERR_SETUP, errno, "write \"%s\"", name);
		done += k > 0 ? (size_t)k : 0;
	}
	if (rename("new.file", name) < 0)
		return err_set(e, ERR_SETUP, errno, "put \"%s\" in place", name);
	return 0;
}

int ws_file_read_at(int dirfd, const char *name, char **p, size_t *n, struct err *e)
{
	OWN_FD fd = ws_open(dirfd, name, O_RDONLY);
	OWN_MEM char *to = NULL;
	struct stat st;
	size_t done = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "open \"%s\"", name);
	to = malloc((size_t)st.st_size + 1);
	if (!to)
		return err_set(e, ERR_SETUP, ENOMEM, "read \"%s\"", name);
	while (done < (size_t)st.st_size) {
		ssize_t k = read(fd, to + done, (size_t)st.st_size - done);

		if (k == 0 || (k < 0 && errno != EINTR))
			return err_set(e, ERR_SETUP, k ? errno : 0, "read \"%s\"", name);
		done += k > 0 ? (size_t)k : 0;
	}
	*n = done;
	*p = take_ptr(&to);
	return 0;
}

#include "isolate/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/own.h"

int resolver_read(struct buf *out, struct err *e)
{
	static const char path[] = "/etc/resolv.conf";
	OWN_FD fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	char text[RESOLVER_MAX + 1];
	struct stat st;
	size_t at = 0;
	ssize_t n = -1;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_SETUP, 0, "%s is no file", path);
	while (at < sizeof text && (n = read(fd, text + at, sizeof text - at)) > 0)
		at += (size_t)n;
	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "read %s", path);
	if (at == sizeof text)
		return err_set(e, ERR_LIMIT, 0, "%s is over %d bytes", path, RESOLVER_MAX);
	return buf_add(out, text, strnlen(text, at)) < 0
		       ? err_set(e, ERR_SETUP, ENOMEM, "copy %s", path)
		       : 0;
}

#include "images/attrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <zlib.h>

#include "isolate/own.h"

bool attrs_kept(const char *name)
{
	return !strncmp(name, "user.", 5) && strncmp(name, "user.overlay.", 13) != 0;
}

int attrs_each(
	int fd, int (*fn)(void *arg, const char *name, const void *value, size_t n), void *arg)
{
	ssize_t n = flistxattr(fd, NULL, 0), len;
	OWN_MEM char *names = NULL, *value = NULL;

	if (n <= 0) /* nearly always none */
		return n < 0 && errno != ENOTSUP ? -1 : 0;
	names = malloc(ATTRS_BYTES_MAX);
	value = malloc(ATTRS_BYTES_MAX);
	n = names && value ? flistxattr(fd, names, ATTRS_BYTES_MAX) : -1;
	for (char *at = names; n > 0 && at < names + n; at += strlen(at) + 1) {
		if (!attrs_kept(at))
			continue;
		len = fgetxattr(fd, at, value, ATTRS_BYTES_MAX);
		if (len < 0 || fn(arg, at, value, (size_t)len) < 0)
			return -1;
	}
	return n < 0 ? -1 : 0;
}

static int add(void *arg, const char *name, const void *value, size_t n)
{
	uint32_t *sum = arg;
	uLong one = crc32(0, (const Bytef *)name, (uInt)strlen(name) + 1);

	one = crc32(one, value, (uInt)n);
	*sum ^= one ? (uint32_t)one : 1;
	return 0;
}

int attrs_sum(int fd, uint32_t *out)
{
	*out = 0;
	return attrs_each(fd, add, out);
}

#include "fcgi/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "isolate/own.h"

int program_find(const char *name, char *path, size_t size, struct err *e)
{
	static const char *const places[] = {"libexec", "../libexec", "../libexec/cgibox", "."};
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "find our own program");
	self[n] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < NELEM(places); i++) {
		int len = snprintf(
			path, size, "%.*s/%s/%s", (int)(slash - self), self, places[i], name);

		if (len > 0 && (size_t)len < size && access(path, X_OK) == 0)
			return 0;
	}
	return err_set(e, ERR_SETUP, ENOENT, "find the program \"%s\"", name);
}

#include "fcgi/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
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

int program_settings(const struct conf *c, struct err *e)
{
	OWN_FD fd = memfd_create("sandbox.conf", MFD_CLOEXEC);
	OWN_FILE f = fd < 0 ? NULL : fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 3), "w");

	if (!f)
		return err_set(e, ERR_SETUP, errno, "make a file for the settings");
	conf_dump(c, f);
	if (fflush(f) != 0)
		return err_set(e, ERR_SETUP, errno, "write the settings");
	return take_fd(&fd);
}

/* A doctor that fails is not asked again by each request. The test runs from a copy beside such a one. */
#include <limits.h>

#include "tests/unit/keeper.h"

enum { REQUESTS = 5 };

static int copy_and_exec(const char *self, char *dir)
{
	char command[2 * PATH_MAX], copy[64];

	if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
		return -1;
	snprintf(copy, sizeof copy, "%s/test", dir);
	snprintf(command, sizeof command,
		"cp '%s' %s && cd %s && mkdir libexec && "
		"printf '#!/bin/sh\\necho x >> %s/libexec/runs; exit 3\\n' > libexec/doctor && "
		"chmod 755 libexec/doctor && { [ $(id -u) != 0 ] || chown -R %d:%d .; }",
		self, copy, dir, dir, TEST_UID, TEST_UID);
	if (system(command) != 0)
		return -1;
	return execl(copy, copy, dir, (char *)NULL);
}

static unsigned runs(const char *dir)
{
	char path[PATH_MAX], text[64] = "";
	unsigned n = 0;
	ssize_t got;
	int fd;

	snprintf(path, sizeof path, "%s/libexec/runs", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = read(fd, text, sizeof text);
	close(fd);
	for (ssize_t i = 0; i < got; i++)
		n += text[i] == 'x';
	return n;
}

int main(int argc, char **argv)
{
	char self[PATH_MAX] = "", dir[] = "/tmp/cgibox-facts-XXXXXX", command[PATH_MAX + 8];
	struct system_info info = {0};
	struct service s;
	unsigned answered = 0;
	struct err e;

	alarm(120); /* a hang is a failure */
	log_open("test", LOG_QUIET);
	if (argc == 1 && (!realpath(argv[0], self) || copy_and_exec(self, dir) < 0))
		return ok(false, "set up: %s", strerror(errno)), done();
	if (!open_service_with(&s, "log_level", "error"))
		return ok(false, "set up: %s", strerror(errno)), done();
	for (int i = 0; i < REQUESTS; i++)
		answered += ops->system(s.b, &info, &e) == 0 && !info.facts;
	ok(answered == REQUESTS, "%u requests are answered without facts", answered);
	ok(runs(argv[1]) == 1, "of a doctor that ran once (%u)", runs(argv[1]));
	close_service(&s);
	snprintf(command, sizeof command, "rm -rf %s", argv[1]);
	ok(system(command) == 0, "the copy can be removed");
	return done();
}

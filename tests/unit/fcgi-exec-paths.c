/*
 * The paths that lead to a command are a tenant's: it makes /bin/sh of its root a link into /proc, which the
 * next command is then looked up by, in a process that is still half pid 1.
 */
#include <limits.h>

#include "tests/unit/keeper.h"

enum { FD_REPORT = 3, FD_LAST = 40, TRIES = 60 };

static bool plant_probe(const struct service *s, const char *id, const char *self)
{
	char command[2 * PATH_MAX + 200];

	snprintf(command, sizeof command,
		"cp '%.*s/../root-probe' %s/sessions/%s/root/upper/probe && "
		"chmod 755 %s/sessions/%s/root/upper/probe",
		(int)(strrchr(self, '/') - self), self, s->dir, id, s->dir, id);
	return system(command) == 0;
}

/* Makes /bin a directory of the session with one link in it, in place of the image's link. */
static bool plant_shell(const struct service *s, const char *id, const char *target)
{
	char bin[PATH_MAX], path[PATH_MAX + 8];

	snprintf(bin, sizeof bin, "%s/sessions/%s/root/upper/bin", s->dir, id);
	snprintf(path, sizeof path, "%s/sh", bin);
	if (mkdir(bin, 0755) < 0 && errno != EEXIST)
		return false;
	(void)unlink(path);
	return symlink(target, path) == 0;
}

/* The exit code of a command by /bin/sh: 127 when that is missing, 126 when it is no program; -1. */
static int shell_code(struct session_call *c)
{
	OWN_FD fd = memfd_create("out", MFD_CLOEXEC);
	struct command_spec spec = {.command = "true",
		.timeout_ms = PATIENCE_MS,
		.output_max_bytes = 1000,
		.output_fd = fd};
	struct err e = {0};
	struct result r = {0};

	return ops->exec(c, &spec, &r, &e) == 0 ? r.exit_code : -1;
}

static void destroy(struct service *s, const char *id)
{
	struct err e;

	while (ops->destroy(s->b, id, &e) < 0 && e.kind == ERR_BUSY)
		; /* its sandbox has not ended yet */
}

/* The exit code of a command in a session of its own, where /bin/sh is a link to target; -1. */
static int try_shell(struct service *s, const char *target)
{
	struct session_spec spec = {.extract_patch = false};
	char id[SESSION_ID_LEN + 1];
	struct session_info info;
	struct session_call *c;
	struct err e;
	int code = -1;

	if (!create(s, &spec, id))
		return -1;
	if (plant_shell(s, id, target) && (c = open_session(s, id, -1, &info, &e))) {
		code = shell_code(c);
		ops->close(c);
	}
	destroy(s, id);
	return code;
}

/* Only its own three descriptors, and the pipe by which it reports, are there to be found. */
static void test_descriptors(struct service *s)
{
	unsigned found = 0;

	for (int fd = 0; fd <= FD_LAST; fd++) {
		char target[32];
		int code;

		snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
		code = try_shell(s, target);
		if (fd <= FD_REPORT)
			ok(code == 126, "control: descriptor %d is found, and no program (%d)", fd,
				code);
		else
			found += code != 127;
	}
	ok(found == 0, "no descriptor of pid 1 is (%u are)", found);
}

/* What pid 1 executes is one file for all sandboxes, owned by the uid of all tenants. */
static void test_program(struct service *s, const char *self)
{
	struct session_spec spec = {.extract_patch = false};
	char id[SESSION_ID_LEN + 1], out[1000] = "";
	struct session_info info;
	struct session_call *c;
	struct result r;
	struct err e;
	unsigned ran = 0;

	if (!create(s, &spec, id) || !plant_probe(s, id, self) ||
		!(c = open_session(s, id, -1, &info, &e))) {
		ok(false, "a session with a probe");
		return;
	}
	ok(run(c,
		   "/probe chmod > /dev/shm/said & until [ -s /dev/shm/said ]; do :; done; "
		   "rm /bin; mkdir /bin; ln -s /proc/self/exe /bin/sh",
		   PATIENCE_MS, &r, out, sizeof out) == 0 &&
			r.exit_code == 0,
		"a process that waits for the program of pid 1 (%s)", out);
	for (int i = 0; i < TRIES; i++)
		ran += shell_code(c) == 1;
	ok(ran == TRIES, "control: %u times it was executed as /bin/sh and ended", ran);
	ops->close(c);
	destroy(s, id);
	ok(try_shell(s, "/usr/bin/true") == 0, "and can be executed as pid 1 after that");
}

int main(int argc, char **argv)
{
	char self[PATH_MAX] = "";
	struct service s;

	(void)argc;
	alarm(800); /* a hang is a failure */
	log_open("test", LOG_ERROR);
	if (!realpath(argv[0], self) || !open_service(&s))
		return ok(false, "set up: %s", strerror(errno)), done();
	test_descriptors(&s);
	test_program(&s, self);
	close_service(&s);
	return done();
}

#include "fcgi/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "isolate/own.h"
#include "tests/unit/tap.h"

static int reach(const char *path)
{
	OWN_FD s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	return connect(s, (struct sockaddr *)&a, sizeof a);
}

static void test_socket(const struct conf *c, const char *dir)
{
	char path[200], new[210];
	OWN_FD s = -1, again = -1;
	struct stat st = {0};
	struct err e = {0};

	snprintf(path, sizeof path, "%s/sock", dir);
	snprintf(new, sizeof new, "%s.new", path);
	umask(0);
	s = listen_open(c, path, &e);
	ok(s >= 0, "it listens");
	umask(022);
	ok(lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0660,
		"mode %o, whatever the umask", st.st_mode & 0777);
	ok(fcntl(s, F_GETFD) == FD_CLOEXEC && (fcntl(s, F_GETFL) & O_NONBLOCK), "flags");
	ok(access(new, F_OK) < 0 && errno == ENOENT, "its first name is gone");
	ok(reach(path) == 0, "a client connects");
	own_close(&s);
	ok(reach(path) < 0 && errno == ECONNREFUSED, "closed: refused");
	again = listen_open(c, path, &e);
	ok(again >= 0 && reach(path) == 0, "a dead socket is replaced");
	listen_remove(path);
	ok(access(path, F_OK) < 0 && errno == ENOENT, "removed");
}

static void test_refused(const struct conf *c, const char *dir)
{
	char path[400], target[200];
	char group[] = "no-such-group-here";
	struct conf other = *c;
	struct err e = {0};

	snprintf(path, sizeof path, "%s/file", dir);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	ok(listen_open(c, path, &e) == -1 && e.kind == ERR_CONF && strstr(e.msg, "not a socket"),
		"a file stays: %s", e.msg);
	ok(access(path, F_OK) == 0, "it is still there");
	snprintf(target, sizeof target, "%s/file", dir);
	snprintf(path, sizeof path, "%s/link", dir);
	ok(symlink(target, path) == 0, "a link");
	ok(listen_open(c, path, &e) == -1 && e.kind == ERR_CONF, "a link is not followed: %s",
		e.msg);
	ok(listen_open(c, "sock", &e) == -1 && e.kind == ERR_CONF, "a relative name: %s", e.msg);
	snprintf(path, sizeof path, "%s/", dir);
	ok(listen_open(c, path, &e) == -1 && e.kind == ERR_CONF, "no name: %s", e.msg);
	snprintf(path, sizeof path, "%s/none/sock", dir);
	ok(listen_open(c, path, &e) == -1 && e.kind == ERR_CONF && e.errnum == ENOENT,
		"no directory: %s", e.msg);
	snprintf(path, sizeof path, "%s/%0250d", dir, 1);
	ok(listen_open(c, path, &e) == -1, "a name that is too long: %s", e.msg);
	other.socket_group = group;
	snprintf(path, sizeof path, "%s/group", dir);
	ok(listen_open(&other, path, &e) == -1 && e.kind == ERR_CONF, "no such group: %s", e.msg);
	ok(access(path, F_OK) < 0, "and no socket that everybody of the wrong group may use");
}

static void test_long(const struct conf *c, const char *dir)
{
	char deep[400], path[420];
	struct err e = {0};
	OWN_FD s = -1;

	snprintf(deep, sizeof deep, "%s/%0150d", dir, 0);
	ok(mkdir(deep, 0755) == 0, "a long directory");
	snprintf(path, sizeof path, "%s/s", deep);
	s = listen_open(c, path, &e);
	ok(s >= 0, "a path longer than a Unix address: %s", s < 0 ? e.msg : "listens");
}

static void test_inherited(void)
{
	OWN_FD s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX}; /* the kernel names it */

	ok(dup2(s, 0) == 0 && !listen_inherited(), "a socket that does not listen");
	ok(bind(s, (struct sockaddr *)&a, sizeof a.sun_family) == 0 && listen(s, 1) == 0 &&
			listen_inherited(),
		"one that does");
	close(0);
	ok(!listen_inherited(), "none");
}

int main(void)
{
	char dir[] = "/tmp/cgibox-listen.XXXXXX", none[] = "", command[64];
	struct conf c = {.socket_mode = 0660, .socket_group = none};

	if (!mkdtemp(dir))
		return 1;
	test_socket(&c, dir);
	test_refused(&c, dir);
	test_long(&c, dir);
	test_inherited();
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) ? 1 : done();
}

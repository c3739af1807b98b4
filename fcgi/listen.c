#include "fcgi/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "isolate/own.h"

enum { BACKLOG = 4096 /* a full one is an error to clients of lighttpd and nginx */ };

/* Opens the directory of path; *name is the rest. */
static int open_parent(const char *path, const char **name, struct err *e)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd;

	if (!slash || !slash[1] || (size_t)(slash - path) >= sizeof dir)
		return err_set(e, ERR_CONF, 0, "socket \"%.100s\": not an absolute path", path);
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	*name = slash + 1;
	fd = open(*dir ? dir : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 ? fd : err_set(e, ERR_CONF, errno, "open the directory of %s", path);
}

/* Unix addresses hold 107 bytes; by way of a descriptor the directory may be longer. */
static int bind_at(int dir, const char *name, mode_t mode)
{
	OWN_FD s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	mode_t old;
	int n, ret;

	n = snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dir, name);
	if (s < 0 || n < 0 || (size_t)n >= sizeof a.sun_path) {
		errno = s < 0 ? errno : ENAMETOOLONG;
		return -1;
	}
	old = umask(~mode & 0777);
	ret = bind(s, (struct sockaddr *)&a, sizeof a);
	umask(old);
	return ret < 0 || listen(s, BACKLOG) < 0 ? -1 : take_fd(&s);
}

static int set_group(int dir, const char *name, const char *group, struct err *e)
{
	struct group *g;

	if (!*group)
		return 0;
	errno = 0;
	g = getgrnam(group);
	if (!g)
		return err_set(e, ERR_CONF, errno, "socket_group: no group \"%.60s\"", group);
	if (fchownat(dir, name, (uid_t)-1, g->gr_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_CONF, errno,
			"socket_group: give the socket to %.60s (only a member of the group can)",
			group);
	return 0;
}

int listen_open(const struct conf *c, const char *path, struct err *e)
{
	char new[NAME_MAX + 1];
	const char *name = NULL;
	OWN_FD dir = open_parent(path, &name, e), s = -1;
	struct stat st;

	if (dir < 0 || !name)
		return -1;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(st.st_mode))
		return err_set(e, ERR_CONF, 0, "%s is there and is not a socket", path);
	if ((size_t)snprintf(new, sizeof new, "%s.new", name) >= sizeof new)
		return err_set(e, ERR_CONF, ENAMETOOLONG, "socket %s", path);
	unlinkat(dir, new, 0);
	s = bind_at(dir, new, (mode_t)c->socket_mode);
	if (s < 0)
		return err_set(e, ERR_SETUP, errno, "listen on %s", path);
	if (set_group(dir, new, c->socket_group, e) < 0) {
		unlinkat(dir, new, 0);
		return -1;
	}
	if (renameat(dir, new, dir, name) < 0)
		return err_set(e, ERR_SETUP, errno, "name the socket %s", path);
	return take_fd(&s);
}

void listen_remove(const char *path)
{
	unlink(path);
}

bool listen_inherited(void)
{
	int yes = 0;
	socklen_t n = sizeof yes;

	return getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &yes, &n) == 0 && yes;
}

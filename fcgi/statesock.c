#include "fcgi/statesock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "isolate/log.h"
#include "isolate/own.h"

/* Unix addresses hold 107 bytes, state directories may be longer: go by way of a descriptor. */
static struct sockaddr_un address(int state, const char *name, const char *suffix)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s%s", state, name, suffix);
	return a;
}

int statesock_connect(const char *state_dir, const char *name, const char *whose, struct err *e)
{
	OWN_FD state = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	OWN_FD s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;

	if (state < 0 || s < 0)
		return err_set(e, ERR_SETUP, errno, "reach %s", whose);
	a = address(state, name, "");
	if (connect(s, (struct sockaddr *)&a, sizeof a) < 0)
		return err_set(e, ERR_BUSY, ECONNREFUSED, "%s is starting", whose);
	return take_fd(&s);
}

int statesock_listen(int state, const char *name, int backlog, struct err *e)
{
	OWN_FD s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = address(state, name, ".new");
	char fresh[64];
	mode_t old;
	int ret;

	snprintf(fresh, sizeof fresh, "%s.new", name);
	unlinkat(state, fresh, 0);
	old = umask(0177);
	ret = s < 0 ? -1 : bind(s, (struct sockaddr *)&a, sizeof a);
	umask(old);
	if (ret < 0 || listen(s, backlog) < 0 || renameat(state, fresh, state, name) < 0)
		return err_set(e, ERR_SETUP, errno, "listen on %s", name);
	return take_fd(&s);
}

int statesock_accept(int sock)
{
	OWN_FD fd = accept4(sock, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred;
	socklen_t n = sizeof cred;

	if (fd < 0)
		return -1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 || cred.uid != geteuid()) {
		log_line(LOG_WARN, "refused a connection of uid %u", cred.uid);
		own_close(&fd);
		errno = EACCES;
		return -1;
	}
	return take_fd(&fd);
}

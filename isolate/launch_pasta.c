#include "isolate/launch_pasta.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "isolate/asan.h"
#include "isolate/creds.h"
#include "isolate/fdmsg.h"
#include "isolate/fdplace.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { GUARD_FD_FIRST = 3, GUARD_FD_PROGRAM = 6, STACK_BYTES = 32768 };

static bool executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int pasta_find_program(const char *program, char path[PATH_MAX], struct err *e)
{
	const char *dirs = getenv("PATH");

	if (*program) {
		if (*program == '/' && executable(program) &&
			snprintf(path, PATH_MAX, "%s", program) < PATH_MAX)
			return 0;
		return err_set(e, ERR_LIMIT, 0,
			"pasta_program: \"%.120s\" is no program with an absolute path", program);
	}
	for (const char *d = dirs ? dirs : "/usr/local/bin:/usr/bin:/bin"; *d;) {
		size_t n = strcspn(d, ":");

		if (*d == '/' && snprintf(path, PATH_MAX, "%.*s/pasta", (int)n, d) < PATH_MAX &&
			executable(path))
			return 0;
		d += n + (d[n] == ':');
	}
	return err_set(e, ERR_LIMIT, 0,
		"network = pasta, and there is no program pasta along PATH: install the package "
		"passt");
}

int pasta_find(const char *program, char path[PATH_MAX], struct err *e)
{
	OWN_FD tun = -1;

	if (pasta_find_program(program, path, e) < 0)
		return -1;
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tun < 0)
		return err_set(e, ERR_LIMIT, errno, "network = pasta needs /dev/net/tun (%s)",
			errno == EACCES ? "chmod 0666 /dev/net/tun" : "modprobe tun");
	return 0;
}

/* For the children, which share our memory until the second one executes its program. */
struct entry {
	const char *path;
	int user, fd[4]; /* in the order of GUARD_FD_*, then the program */
	pid_t pid;
	char *stack_end; /* of the second */
	struct err err;
};

/* The guard to be: no allocation, no stdio, only _exit. */
static int guard_main(void *arg)
{
	struct entry *b = arg;
	char name[] = "pasta-guard", *const argv[] = {name, (char *)(uintptr_t)b->path, NULL};
	char *const env[] = {NULL};

	if (fdplace(b->fd, NELEM(b->fd), GUARD_FD_FIRST, &b->err) < 0 ||
		creds_raise_ambient(UINT64_MAX, &b->err) < 0)
		_exit(127);
	sys_execveat(GUARD_FD_PROGRAM, "", argv, env, AT_EMPTY_PATH);
	err_set(&b->err, ERR_SETUP, errno, "execute the guard of pasta");
	_exit(127);
}

/*
 * Enters the sandbox's user namespace, as its owner, and from there makes the guard: in a pid
 * namespace of its own, and a child of our parent.
 */
static int enter_main(void *arg)
{
	struct entry *b = arg;
	int flags = CLONE_VM | CLONE_VFORK | CLONE_NEWPID | CLONE_PARENT | SIGCHLD;

	if (setns(b->user, CLONE_NEWUSER) < 0) {
		err_set(&b->err, ERR_SETUP, errno, "enter the sandbox's user namespace");
		_exit(127);
	}
	b->pid = clone(guard_main, b->stack_end, flags, b);
	if (b->pid < 0)
		err_set(&b->err, ERR_SETUP, errno, "clone the guard of pasta");
	_exit(b->pid < 0 ? 127 : 0);
}

static int do_start(struct entry *b, struct pasta *out, struct err *e)
{
	char first[STACK_BYTES] __attribute__((aligned(16)));
	char second[STACK_BYTES] __attribute__((aligned(16)));
	sigset_t all, old;
	pid_t pid;
	int saved;

	b->stack_end = second + sizeof second;
	/* A handler of ours must not run in the children: it would run in our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = clone(enter_main, first + sizeof first, CLONE_VM | CLONE_VFORK | SIGCHLD, b);
	saved = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return err_set(e, ERR_SETUP, saved, "clone");
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	ASAN_FORGET(first, sizeof first);
	ASAN_FORGET(second, sizeof second);
	if (b->err.kind == ERR_NONE && b->pid > 0) {
		out->pid = b->pid;
		out->pidfd = sys_pidfd_open(out->pid, 0);
		if (out->pidfd >= 0)
			return 0;
		err_set(&b->err, ERR_SETUP, errno, "open the guard of pasta");
		kill(b->pid, SIGKILL);
	}
	while (b->pid > 0 && waitpid(b->pid, NULL, 0) < 0 && errno == EINTR)
		;
	out->pid = 0;
	*e = b->err;
	return -1;
}

int pasta_start(const struct launcher *l, const struct sandbox *s, const int ns[SANDBOX_NS],
	const char *path, struct pasta *out, struct err *e)
{
	OWN_FD here = -1, there = -1;
	struct entry b = {.path = path, .user = ns[SANDBOX_NS_USER]};
	int pair[2];

	*out = (struct pasta)PASTA_NONE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a socket for pasta");
	here = pair[0];
	there = pair[1];
	b.fd[0] = there;
	b.fd[1] = s->pidfd;
	b.fd[2] = ns[SANDBOX_NS_NET];
	b.fd[3] = l->init_fd;
	if (do_start(&b, out, e) < 0)
		return err_in(e, "start pasta");
	out->ctl = take_fd(&here);
	return 0;
}

int pasta_answer(int ctl, struct err *e)
{
	struct proto_reply rp;
	unsigned nfds;

	if (fdmsg_receive(ctl, &rp, sizeof rp, NULL, 0, &nfds, MSG_DONTWAIT) <= 0)
		return err_set(e, ERR_SETUP, 0, "the network is gone: pasta's guard has ended");
	if (rp.op == PROTO_READY)
		return 0;
	rp.err.msg[sizeof rp.err.msg - 1] = '\0';
	*e = rp.err;
	return err_in(e, "network");
}

int pasta_go(int sandbox_ctl, struct err *e)
{
	struct proto_request rq = {.op = PROTO_GO};

	if (fdmsg_send(sandbox_ctl, &rq, sizeof rq, NULL, 0, MSG_DONTWAIT) < 0)
		return err_set(e, ERR_SETUP, errno, "connect the sandbox with pasta");
	return 0;
}

/* Pid 1 says nothing while it waits for us, unless it failed. */
static int wait_for_pasta(struct sandbox *s, struct pasta *p, int timeout_ms, struct err *e)
{
	struct pollfd w[] = {{.fd = s->ctl, .events = POLLIN}, {.fd = p->ctl, .events = POLLIN}};
	int n = poll(w, NELEM(w), timeout_ms);

	if (n <= 0)
		return err_set(e, ERR_SETUP, n < 0 ? errno : ETIMEDOUT, "wait for pasta");
	return w[0].revents ? sandbox_wait_ready(s, 0, e) : pasta_answer(p->ctl, e);
}

int pasta_attach(const struct launcher *l, struct sandbox *s, const char *path, int timeout_ms,
	struct pasta *out, struct err *e)
{
	int ns[SANDBOX_NS], got = sandbox_next(s, timeout_ms, ns, e), ret;

	*out = (struct pasta)PASTA_NONE;
	if (got < 0)
		return -1;
	if (got != SANDBOX_NETWORK)
		return err_set(e, ERR_BUG, 0, "the sandbox wants no network");
	ret = pasta_start(l, s, ns, path, out, e);
	own_close(&ns[SANDBOX_NS_USER]);
	own_close(&ns[SANDBOX_NS_NET]);
	if (ret == 0)
		ret = wait_for_pasta(s, out, timeout_ms, e);
	if (ret == 0)
		ret = pasta_go(s->ctl, e);
	if (ret < 0)
		pasta_stop(out);
	return ret;
}

void pasta_stop(struct pasta *p)
{
	own_close(&p->ctl);
	if (p->pidfd >= 0)
		sys_pidfd_send_signal(p->pidfd, SIGKILL);
	while (p->pid > 0 && waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	p->pid = 0;
	own_close(&p->pidfd);
}

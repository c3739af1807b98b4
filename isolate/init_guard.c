#include "isolate/init_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "isolate/creds.h"
#include "isolate/own.h"
#include "isolate/plan.h"
#include "isolate/proto.h"
#include "isolate/sys.h"
#include "isolate/clock.h"

/* What pasta starts with, beside standard error. */
enum { PASTA_FD_READY = 3, PASTA_FD_NETNS = 4, SAID_MAX = 160 };

struct guard {
	int ready; /* pasta writes its pid here when it serves; the end of file is its end */
	int said;  /* its standard error */
	pid_t pid;
	bool serving;
	size_t nsaid;
	char text[SAID_MAX]; /* the beginning of its last line */
	bool line_over;
};

/*
 * All addresses are given, so that nothing is taken over from this machine but the resolver. No
 * port is forwarded, in either direction; the gateway's address is not the machine; pasta neither
 * configures the interface nor answers anything but ARP. --netns-only: we are in the user namespace
 * already (joining it by --userns needs a uid 0 or none, depending on the version). By
 * /proc/self/fd/N no path is looked up that could come to mean something else.
 */
static const char *const options[] = {"pasta", "--foreground", "--quiet", "--ipv4-only",
	"--netns-only", "--netns", "/proc/self/fd/4", "--no-netns-quit", "--pid", "/proc/self/fd/3",
	"--ns-ifname", PLAN_NET_INTERFACE, "--address", PLAN_NET_SANDBOX, "--netmask", "24",
	"--gateway", PLAN_NET_GATEWAY, "--dns-forward", PLAN_NET_DNS, "--tcp-ports", "none",
	"--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw", "--no-icmp",
	"--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra", NULL};

static void limit(int what, rlim_t value)
{
	struct rlimit r = {value, value}, old;

	if (getrlimit(what, &old) == 0 && old.rlim_max < value)
		r.rlim_cur = r.rlim_max = old.rlim_max;
	if (setrlimit(what, &r) < 0)
		_exit(126);
}

/* In the child: descriptors, limits, exec. Standard error is the way to say what failed. */
static _Noreturn void become_pasta(const char *path, int said, int ready)
{
	static char *const env[] = {NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), high = PASTA_FD_NETNS + 1;
	int netns = fcntl(GUARD_FD_NETNS, F_DUPFD_CLOEXEC, high);
	sigset_t none;

	said = fcntl(said, F_DUPFD_CLOEXEC, high);
	ready = fcntl(ready, F_DUPFD_CLOEXEC, high);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(said, 2) < 0 ||
		dup2(ready, PASTA_FD_READY) < 0 || dup2(netns, PASTA_FD_NETNS) < 0 ||
		sys_close_range((unsigned)high, ~0U, 0) < 0)
		_exit(126);
	signal(SIGPIPE, SIG_DFL); /* pasta takes an ignored one for a failure */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	limit(RLIMIT_NOFILE, GUARD_FILES_MAX);
	limit(RLIMIT_CORE, 1); /* not 0: core_pattern's program would be started */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(126);
	execve(path, (char *const *)(uintptr_t)options, env);
	_exit(errno == ENOENT ? 127 : 126);
}

static int start(struct guard *g, const char *path, struct err *e)
{
	int said[2], ready[2];

	if (pipe2(said, O_CLOEXEC) < 0 || pipe2(ready, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make the pipes of pasta");
	g->pid = fork();
	if (g->pid == 0)
		become_pasta(path, said[1], ready[1]);
	if (g->pid < 0)
		return err_set(e, ERR_SETUP, errno, "fork pasta");
	g->said = said[0];
	g->ready = ready[0];
	close(said[1]);
	close(ready[1]);
	close(GUARD_FD_NETNS);
	fcntl(g->said, F_SETFL, O_NONBLOCK);
	return 0;
}

/* Everything that starting pasta needed goes. */
static int drop(struct err *e)
{
	if (creds_keep(0, e) < 0)
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "give up rights");
	/* Second string: the socket and the pidfd are what we go by. After the last change of
	 * credentials, which clears it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "die with the parent");
	return 0;
}

/* Keeps the last line of what pasta says, but not its complaints that nobody reads its log. False:
 * there is no more for now. */
static bool listen_to(struct guard *g)
{
	static const char noise[] = "Failed to send";
	char part[512], line[SAID_MAX];
	ssize_t n = read(g->said, part, sizeof part);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		own_close(&g->said);
	for (ssize_t i = 0; i < n; i++) {
		bool end = part[i] == '\n';

		if (!end && g->line_over)
			g->nsaid = 0;
		if (!end && g->nsaid < sizeof g->text - 1)
			g->text[g->nsaid++] = part[i] < 0x20 || part[i] > 0x7e ? '?' : part[i];
		memcpy(line, g->text, g->nsaid);
		line[g->nsaid] = '\0';
		g->line_over = end;
		if (end && !strncmp(line, noise, sizeof noise - 1))
			g->nsaid = 0;
	}
	g->text[g->nsaid] = '\0';
	return n > 0;
}

static int answer(const struct err *e)
{
	struct proto_reply rp = {.op = e ? PROTO_FAILED : PROTO_READY};

	if (e)
		rp.err = *e;
	/* Nobody left to tell: the loop sees the end of the socket. */
	return send(GUARD_FD_CTL, &rp, sizeof rp, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? 1 : 0;
}

/* pasta has ended. */
static int report_end(struct guard *g, struct err *e)
{
	int status = 0;

	while (g->said >= 0 && listen_to(g))
		;
	waitpid(g->pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(e, ERR_SETUP, ENOENT, "pasta could not be executed");
	if (WIFSIGNALED(status))
		return err_set(e, ERR_SETUP, 0, "pasta was killed by signal %d%s%s",
			WTERMSIG(status), g->nsaid ? ": " : "", g->text);
	return err_set(e, ERR_SETUP, 0, "pasta ended with status %d%s%s", WEXITSTATUS(status),
		g->nsaid ? ": " : "", g->text);
}

/* What the pipe of the pid says: a number and a newline, or the end. False: pasta has ended. */
static bool read_ready(struct guard *g)
{
	char text[32];
	ssize_t n = read(g->ready, text, sizeof text);

	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (n > 0 && !g->serving) {
		g->serving = true;
		answer(NULL);
	}
	return n > 0;
}

/* Until there is nothing to guard. Returns the exit status; e is set when that is pasta's fault. */
static int watch(struct guard *g, struct err *e)
{
	int64_t deadline = clock_ms() + GUARD_START_MS;

	for (;;) {
		struct pollfd p[] = {{.fd = GUARD_FD_CTL, .events = POLLIN},
			{.fd = GUARD_FD_SANDBOX, .events = POLLIN},
			{.fd = g->ready, .events = POLLIN}, {.fd = g->said, .events = POLLIN}};
		int64_t left = g->serving ? -1 : deadline - clock_ms();

		if (!g->serving && left <= 0)
			return err_set(e, ERR_SETUP, ETIMEDOUT,
				"pasta did not start to serve within %d ms%s%s", GUARD_START_MS,
				g->nsaid ? ": " : "", g->text);
		if (poll(p, NELEM(p), (int)left) < 0 && errno != EINTR)
			return err_set(e, ERR_BUG, errno, "poll");
		if (p[0].revents || p[1].revents)
			return 0; /* nobody talks to us but by hanging up */
		if (p[3].revents)
			listen_to(g);
		if (p[2].revents && !read_ready(g))
			return report_end(g, e);
	}
}

int init_guard(const char *pasta)
{
	struct guard g = {.ready = -1, .said = -1};
	struct err e = {0};

	for (int fd = GUARD_FD_CTL; fd <= GUARD_FD_NETNS; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	prctl(PR_SET_NAME, "pasta-guard", 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	if (setsid() < 0 && errno != EPERM)
		err_set(&e, ERR_SETUP, errno, "start a session");
	if (e.kind == ERR_NONE && start(&g, pasta, &e) == 0 && drop(&e) == 0)
		watch(&g, &e);
	if (e.kind == ERR_NONE)
		return 0;
	return answer(&e) + 1;
}
